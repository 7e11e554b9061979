//! The state of the conversation, and what to do at each event. No IO here: the
//! supervisor feeds events in and carries the effects out, so that every order
//! of events can be tested.
//!
//! Three rules hold at all times. A message is confirmed only after the agent
//! has acknowledged it. The agent's input is closed only when the agent has
//! nothing pending and no message waits. Every run ends with a record.

mod effect;

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::{RecordKind, RunRecord};

pub(crate) use effect::{Effect, Renewal, Stop};

use crate::agent::{AgentCommand, AgentEvent, Failure, Outcome, TurnEnd};
use crate::host::message::{MessageId, UserMessage};

/// Messages that may be with the agent and not yet confirmed; the others wait
/// on disk.
const MAX_IN_FLIGHT: usize = 64;
/// Bytes of text that may be with the agent and not yet confirmed.
const MAX_IN_FLIGHT_BYTES: usize = 32 * 1024 * 1024;
/// Most restarts of an agent that ends without taking its messages.
const MAX_FRUITLESS_STARTS: u32 = 2;

/// One conversation with one agent, whose process may be started several times.
#[derive(Debug)]
pub(crate) struct Conversation {
    session: Option<AgentSessionId>,
    /// The conversation to go on with, until the agent names its own.
    resume: Option<AgentSessionId>,
    state: State,
    /// The host asked for the end.
    closing: bool,
    /// The agent's process is to be replaced before the next message.
    renewal: Option<Renewal>,
    /// Messages sent and not confirmed, in the order they were sent.
    in_flight: Vec<UserMessage>,
    /// Agent processes that ended without taking a message, in a row.
    fruitless_starts: u32,
    records: u32,
    last_record_failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The agent runs and has work, or will find some in its input.
    Busy,
    /// The agent runs and has nothing pending.
    Idle,
    /// The agent's input is closed; it is about to end.
    Closing,
    /// The agent was asked to stop now; with `was_working`, in the middle of
    /// its work.
    Stopping {
        why: Stop,
        was_working: bool,
    },
    /// The agent ended on its own; the next message starts it again.
    NotRunning,
    Ended,
}

impl Conversation {
    /// Begins a conversation, or goes on with one.
    pub(crate) fn begin(
        resume: Option<AgentSessionId>,
        prompt: UserMessage,
    ) -> (Self, Vec<Effect>) {
        let mut conversation = Self {
            session: None,
            resume,
            state: State::NotRunning,
            closing: false,
            renewal: None,
            in_flight: Vec::new(),
            fruitless_starts: 0,
            records: 0,
            last_record_failed: false,
        };
        let mut effects = vec![conversation.start()];
        conversation.state = State::Busy;
        effects.extend(conversation.send(prompt));
        (conversation, effects)
    }

    /// Whether a message can be sent to the agent now. If not, it stays on
    /// disk.
    pub(crate) fn accepts_messages(&self) -> bool {
        let bytes: usize = self
            .in_flight
            .iter()
            .map(|message| message.text.len())
            .sum();
        matches!(self.state, State::Busy | State::Idle | State::NotRunning)
            && self.renewal.is_none()
            && self.in_flight.len() < MAX_IN_FLIGHT
            && bytes < MAX_IN_FLIGHT_BYTES
    }

    /// Handles a message of the host. Call it only when messages are accepted.
    pub(crate) fn message(&mut self, message: UserMessage) -> Vec<Effect> {
        if self.state == State::NotRunning {
            self.state = State::Busy;
            let mut effects = vec![self.start()];
            effects.extend(self.send(message));
            return effects;
        }
        self.send(message)
    }

    /// No message waits; with `close`, the host asks for the end.
    pub(crate) fn nothing_waits(&mut self, close: bool) -> Vec<Effect> {
        self.closing |= close;
        match self.state {
            State::NotRunning if self.closing => self.end(Exit::Success),
            State::Busy | State::Idle => self.close_if_done(),
            _ => vec![],
        }
    }

    /// The current turn is to stop; the conversation stays.
    pub(crate) fn interrupt(&self) -> Vec<Effect> {
        match self.state {
            State::Busy | State::Closing => vec![Effect::Command(AgentCommand::Interrupt)],
            _ => vec![],
        }
    }

    /// Summarises the conversation, to shorten it.
    pub(crate) fn compact(&mut self, instructions: Option<String>) -> Vec<Effect> {
        let mut effects = vec![];
        match self.state {
            State::NotRunning => effects.push(self.start()),
            State::Busy | State::Idle => {}
            State::Closing | State::Stopping { .. } | State::Ended => return vec![],
        }
        self.state = State::Busy;
        effects.push(Effect::Command(AgentCommand::Compact(instructions)));
        effects
    }

    /// The agent's process is to be replaced once nothing is pending; messages
    /// that come meanwhile are for the next one.
    pub(crate) fn renew(&mut self, renewal: Renewal) -> Vec<Effect> {
        if self.renewal != Some(Renewal::Clear) {
            self.renewal = Some(renewal);
        }
        match self.state {
            State::NotRunning => self.renewed(),
            _ => self.close_if_done(),
        }
    }

    /// The run is to end now.
    pub(crate) fn stop(&mut self, why: Stop) -> Vec<Effect> {
        match self.state {
            State::NotRunning => self.end(why.exit()),
            State::Stopping { .. } | State::Ended => vec![],
            State::Busy | State::Idle | State::Closing => {
                let was_working = self.is_working();
                self.state = State::Stopping { why, was_working };
                vec![Effect::Stop]
            }
        }
    }

    /// The agent is silent and does not react to an interrupt.
    pub(crate) fn stuck(&mut self, failure: Failure) -> Vec<Effect> {
        let mut effects = vec![self.failure(failure)];
        effects.extend(self.stop(Stop::Stuck));
        effects
    }

    /// Whether the agent has something pending.
    pub(crate) fn is_working(&self) -> bool {
        self.state == State::Busy || !self.in_flight.is_empty()
    }

    /// Whether something is expected of the agent: work, or its end.
    pub(crate) fn is_awaited(&self) -> bool {
        self.state == State::Closing || self.is_working()
    }

    /// Handles an event of the agent.
    pub(crate) fn agent_event(&mut self, event: AgentEvent) -> Vec<Effect> {
        match event {
            AgentEvent::Session(id) => {
                self.session = Some(id);
                vec![]
            }
            AgentEvent::Busy => {
                if self.state == State::Idle {
                    self.state = State::Busy;
                }
                vec![]
            }
            AgentEvent::Idle => {
                if self.state == State::Busy {
                    self.state = State::Idle;
                }
                match self.renewal {
                    Some(_) => self.close_if_done(),
                    None => vec![],
                }
            }
            AgentEvent::Received(id) => self.received(id),
            AgentEvent::TurnEnd(turn) => self.turn_end(turn),
            AgentEvent::SessionLost(_) => {
                self.resume = None;
                vec![]
            }
            AgentEvent::Version(_)
            | AgentEvent::Activity(_)
            | AgentEvent::Notice(_)
            | AgentEvent::Warning(_) => vec![],
        }
    }

    /// The agent has ended.
    pub(crate) fn agent_ended(&mut self, outcome: Result<(), Failure>) -> Vec<Effect> {
        match (outcome, self.state) {
            (_, State::Stopping { why, was_working }) => self.stopped(why, was_working),
            (Err(failure), _) => {
                let mut effects = vec![self.failure(failure)];
                effects.extend(self.end(Exit::AgentFailed));
                effects
            }
            // Before `Idle` something was pending; a message not taken may
            // explain it.
            (Ok(()), State::Busy) if self.in_flight.is_empty() => {
                let failure = Failure::crash("the agent ended without an answer");
                let mut effects = vec![self.failure(failure)];
                effects.extend(self.end(Exit::AgentFailed));
                effects
            }
            (Ok(()), _) if !self.in_flight.is_empty() => self.start_again(),
            (Ok(()), _) if self.renewal.is_some() => self.renewed(),
            (Ok(()), _) => {
                self.state = State::NotRunning;
                // A record restarts the host's idle clock, so there is none
                // when the host asked for the end.
                if self.closing {
                    return vec![];
                }
                vec![self.silent_record(RecordKind::SessionUpdate)]
            }
        }
    }

    fn start(&self) -> Effect {
        Effect::Start(self.session.clone().or_else(|| self.resume.clone()))
    }

    fn send(&mut self, message: UserMessage) -> Vec<Effect> {
        self.in_flight.push(message.clone());
        self.state = State::Busy;
        vec![Effect::Command(AgentCommand::Send(message))]
    }

    fn received(&mut self, id: MessageId) -> Vec<Effect> {
        let Some(at) = self.in_flight.iter().position(|message| message.id == id) else {
            return vec![];
        };
        self.in_flight.remove(at);
        self.fruitless_starts = 0;
        let mut effects = vec![Effect::Confirm(id)];
        if self.renewal.is_some() {
            effects.extend(self.close_if_done());
        }
        effects
    }

    fn turn_end(&mut self, turn: TurnEnd) -> Vec<Effect> {
        let mut record = match turn.outcome {
            Outcome::Answer(text) => RunRecord::answer(text, self.session_text()),
            Outcome::Interrupted => {
                match &mut self.state {
                    // With this record, the end of a cancelled run is reported.
                    State::Stopping {
                        why: Stop::Cancelled,
                        was_working,
                    } => *was_working = false,
                    // The failure was reported before.
                    State::Stopping {
                        why: Stop::Stuck, ..
                    } => return vec![],
                    _ => {}
                }
                let mut record = RunRecord::answer(None, self.session_text());
                record.details.kind = Some(RecordKind::Interrupted);
                record
            }
            Outcome::Failed(failure) => failure.record(self.session_text()),
        };
        record.details.usage = turn.usage;
        record.details.cost_usd = turn.cost_usd;
        record.details.turns = turn.model_calls;
        vec![self.write(record)]
    }

    fn close_if_done(&mut self) -> Vec<Effect> {
        let wanted = self.closing || self.renewal.is_some();
        if !wanted || self.state != State::Idle || !self.in_flight.is_empty() {
            return vec![];
        }
        self.state = State::Closing;
        vec![Effect::Command(AgentCommand::Close)]
    }

    /// The agent's process has ended for the next one.
    fn renewed(&mut self) -> Vec<Effect> {
        self.state = State::NotRunning;
        match self.renewal.take() {
            Some(Renewal::Clear) => {
                self.session = None;
                self.resume = None;
                vec![self.silent_record(RecordKind::Cleared)]
            }
            _ => vec![],
        }
    }

    fn stopped(&mut self, why: Stop, was_working: bool) -> Vec<Effect> {
        let mut effects = vec![];
        if was_working && why == Stop::Signal {
            effects.push(self.failure(Failure::stopped()));
        } else if why == Stop::Cancelled && (was_working || self.records == 0) {
            effects.push(self.silent_record(RecordKind::Interrupted));
        }
        effects.extend(self.end(why.exit()));
        effects
    }

    /// The agent ended cleanly but did not take all messages: they go to its
    /// next process.
    fn start_again(&mut self) -> Vec<Effect> {
        if self.fruitless_starts == MAX_FRUITLESS_STARTS {
            let failure = Failure::crash("the agent ends without taking its messages");
            let mut effects = vec![self.failure(failure)];
            effects.extend(self.end(Exit::AgentFailed));
            return effects;
        }
        self.fruitless_starts += 1;
        self.state = State::Busy;
        let mut effects = vec![self.start()];
        let again = self.in_flight.iter().cloned().map(AgentCommand::Send);
        effects.extend(again.map(Effect::Command));
        effects
    }

    fn end(&mut self, exit: Exit) -> Vec<Effect> {
        self.state = State::Ended;
        let mut effects = vec![];
        if self.records == 0 {
            effects.push(self.failure(Failure::crash("the agent ended without an answer")));
        }
        let exit = match exit {
            Exit::Success if self.last_record_failed => Exit::AgentFailed,
            exit => exit,
        };
        effects.push(Effect::End(exit));
        effects
    }

    fn failure(&mut self, failure: Failure) -> Effect {
        let record = failure.record(self.session_text());
        self.write(record)
    }

    /// A record without an answer.
    fn silent_record(&mut self, kind: RecordKind) -> Effect {
        let mut record = RunRecord::answer(None, self.session_text());
        record.details.kind = Some(kind);
        self.write(record)
    }

    fn write(&mut self, record: RunRecord) -> Effect {
        self.records += 1;
        self.last_record_failed = record.error.is_some();
        Effect::Write(Box::new(record))
    }

    /// The conversation's id, for a record.
    pub(crate) fn session_text(&self) -> Option<String> {
        self.session.as_ref().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests;
