//! The state of the conversation, and what to do at each event. No IO here: the
//! supervisor feeds events in and carries the effects out, so that every order
//! of events can be tested.
//!
//! Three rules hold at all times. A message is confirmed only after the agent
//! has said that it has it. The agent's input is closed only when the agent owes
//! nothing and no message waits. Every run ends with a record.

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::{ErrorKind, RunRecord};

use crate::agent::{AgentCommand, AgentEvent, Failure, MessageId, Outcome, TurnEnd, UserMessage};

/// Messages that may be with the agent and not yet confirmed; the others wait
/// on disk.
const MAX_IN_FLIGHT: usize = 64;
/// Bytes of text that may be with the agent and not yet confirmed.
const MAX_IN_FLIGHT_BYTES: usize = 32 * 1024 * 1024;
/// How often an agent that ends without taking its messages is started again.
const MAX_FRUITLESS_STARTS: u32 = 2;

/// What the supervisor has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Start the agent; with a session, go on with that conversation.
    Start(Option<AgentSessionId>),
    /// Tell the running agent.
    Tell(AgentCommand),
    /// Stop the running agent: interrupt, end of input, TERM, KILL.
    Stop,
    /// The agent has the message; its file may go.
    Confirm(MessageId),
    /// Write a record.
    Write(Box<RunRecord>),
    /// Exit.
    End(Exit),
}

/// One conversation with one agent, whose process may be started several times.
#[derive(Debug)]
pub(crate) struct Conversation {
    session: Option<AgentSessionId>,
    state: State,
    /// The host asked for the end.
    closing: bool,
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
    /// The agent runs and owes nothing.
    Idle,
    /// The agent's input is closed; it is about to end.
    Closing,
    /// The agent was told to stop now; with `owed`, in the middle of its work.
    Stopping {
        owed: bool,
    },
    /// The agent ended by itself; the next message starts it again.
    Resting,
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
            state: State::Resting,
            closing: false,
            in_flight: Vec::new(),
            fruitless_starts: 0,
            records: 0,
            last_record_failed: false,
        };
        let mut effects = vec![Effect::Start(resume)];
        conversation.state = State::Busy;
        effects.extend(conversation.send(prompt));
        (conversation, effects)
    }

    /// Whether a message can be handed over now. If not, it stays on disk.
    pub(crate) fn has_room(&self) -> bool {
        let bytes: usize = self
            .in_flight
            .iter()
            .map(|message| message.text.len())
            .sum();
        matches!(self.state, State::Busy | State::Idle | State::Resting)
            && self.in_flight.len() < MAX_IN_FLIGHT
            && bytes < MAX_IN_FLIGHT_BYTES
    }

    /// The host sent a message. Call it only when there is room.
    pub(crate) fn message(&mut self, message: UserMessage) -> Vec<Effect> {
        if self.state == State::Resting {
            self.state = State::Busy;
            let mut effects = vec![Effect::Start(self.session.clone())];
            effects.extend(self.send(message));
            return effects;
        }
        self.send(message)
    }

    /// No message waits; with `close`, the host asks for the end.
    pub(crate) fn nothing_waits(&mut self, close: bool) -> Vec<Effect> {
        self.closing |= close;
        match self.state {
            State::Resting if self.closing => self.end(Exit::Success),
            State::Busy | State::Idle => self.close_if_done(),
            _ => vec![],
        }
    }

    /// The current turn is to stop; the conversation stays.
    pub(crate) fn interrupt(&self) -> Vec<Effect> {
        match self.state {
            State::Busy | State::Closing => vec![Effect::Tell(AgentCommand::Interrupt)],
            _ => vec![],
        }
    }

    /// The run is to end now.
    pub(crate) fn stop(&mut self) -> Vec<Effect> {
        match self.state {
            State::Resting => self.end(Exit::Interrupted),
            State::Stopping { .. } | State::Ended => vec![],
            State::Busy | State::Idle | State::Closing => {
                let owed = self.state == State::Busy || !self.in_flight.is_empty();
                self.state = State::Stopping { owed };
                vec![Effect::Stop]
            }
        }
    }

    /// The agent said something.
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
                vec![]
            }
            AgentEvent::Received(id) => self.received(id),
            AgentEvent::TurnEnd(turn) => vec![self.turn_end(turn)],
            AgentEvent::SessionLost(_)
            | AgentEvent::Version(_)
            | AgentEvent::Activity(_)
            | AgentEvent::Warning(_) => vec![],
        }
    }

    /// The agent has ended.
    pub(crate) fn agent_ended(&mut self, outcome: Result<(), Failure>) -> Vec<Effect> {
        match (outcome, self.state) {
            (_, State::Stopping { owed }) => {
                let stopped = Failure::new(ErrorKind::Stopped, "the run was stopped");
                let mut effects = Vec::from_iter(owed.then(|| self.failure(stopped)));
                effects.extend(self.end(Exit::Interrupted));
                effects
            }
            (Err(failure), _) => {
                let mut effects = vec![self.failure(failure)];
                effects.extend(self.end(Exit::AgentFailed));
                effects
            }
            // Before `Idle` something was owed; a message not taken may explain it.
            (Ok(()), State::Busy) if self.in_flight.is_empty() => {
                let failure = Failure::crash("the agent ended without an answer");
                let mut effects = vec![self.failure(failure)];
                effects.extend(self.end(Exit::AgentFailed));
                effects
            }
            (Ok(()), _) if !self.in_flight.is_empty() => self.start_again(),
            (Ok(()), _) => {
                self.state = State::Resting;
                // A record restarts the host's idle clock, so there is none
                // when the host asked for the end.
                if self.closing {
                    return vec![];
                }
                vec![self.write(RunRecord::answer(None, self.session_text()))]
            }
        }
    }

    fn send(&mut self, message: UserMessage) -> Vec<Effect> {
        self.in_flight.push(message.clone());
        self.state = State::Busy;
        vec![Effect::Tell(AgentCommand::Send(message))]
    }

    fn received(&mut self, id: MessageId) -> Vec<Effect> {
        let Some(at) = self.in_flight.iter().position(|message| message.id == id) else {
            return vec![];
        };
        self.in_flight.remove(at);
        self.fruitless_starts = 0;
        vec![Effect::Confirm(id)]
    }

    fn turn_end(&mut self, turn: TurnEnd) -> Effect {
        match turn.outcome {
            Outcome::Answer(text) => self.write(RunRecord::answer(text, self.session_text())),
            Outcome::Interrupted => self.write(RunRecord::answer(None, self.session_text())),
            Outcome::Failed(failure) => self.failure(failure),
        }
    }

    fn close_if_done(&mut self) -> Vec<Effect> {
        if !self.closing || self.state != State::Idle || !self.in_flight.is_empty() {
            return vec![];
        }
        self.state = State::Closing;
        vec![Effect::Tell(AgentCommand::Close)]
    }

    /// The agent ended in order but did not take all messages: they are its
    /// next process's.
    fn start_again(&mut self) -> Vec<Effect> {
        if self.fruitless_starts == MAX_FRUITLESS_STARTS {
            let failure = Failure::crash("the agent ends without taking its messages");
            let mut effects = vec![self.failure(failure)];
            effects.extend(self.end(Exit::AgentFailed));
            return effects;
        }
        self.fruitless_starts += 1;
        self.state = State::Busy;
        let mut effects = vec![Effect::Start(self.session.clone())];
        let again = self.in_flight.iter().cloned().map(AgentCommand::Send);
        effects.extend(again.map(Effect::Tell));
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
        self.write(RunRecord::failure(failure.message, self.session_text()))
    }

    fn write(&mut self, record: RunRecord) -> Effect {
        self.records += 1;
        self.last_record_failed = record.error.is_some();
        Effect::Write(Box::new(record))
    }

    fn session_text(&self) -> Option<String> {
        self.session.as_ref().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests;
