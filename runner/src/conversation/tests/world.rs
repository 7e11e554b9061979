//! A host, an agent and the supervisor's bookkeeping around one conversation.

use std::collections::{BTreeSet, VecDeque};

use super::*;

fn message(text: &str) -> UserMessage {
    UserMessage {
        id: MessageId::random(),
        text: text.to_owned(),
    }
}

/// The world, with what it knows of each message.
pub(super) struct World {
    pub(super) conversation: Conversation,
    /// The agent process runs.
    pub(super) running: bool,
    pub(super) input_closed: bool,
    /// Messages the agent was sent and has not begun with.
    pub(super) queue: VecDeque<MessageId>,
    /// Messages of the turn that runs.
    turn: Option<Vec<MessageId>>,
    pub(super) said_idle: bool,
    /// Messages that wait on disk.
    pub(super) on_disk: VecDeque<UserMessage>,
    close_requested: bool,
    /// The agent's process is to be replaced.
    renewing: bool,
    pub(super) sent: BTreeSet<MessageId>,
    received: BTreeSet<MessageId>,
    /// The agent was told to stop now.
    stopping: bool,
    /// The host's watchdog gave up on the agent.
    pub(super) stuck: bool,
    /// The session that the agent is to resume, or started with.
    resume: Option<AgentSessionId>,
    pub(super) confirmed: BTreeSet<MessageId>,
    pub(super) stopped: bool,
    pub(super) cancelled: bool,
    pub(super) records: Vec<RunRecord>,
    pub(super) exit: Option<Exit>,
}

impl World {
    pub(super) fn begin() -> Self {
        let prompt = message("prompt");
        let id = prompt.id;
        let resume: Option<AgentSessionId> = "earlier".parse().ok();
        let (conversation, effects) = Conversation::begin(resume.clone(), prompt);
        let mut world = Self {
            conversation,
            running: false,
            input_closed: false,
            queue: VecDeque::new(),
            turn: None,
            said_idle: false,
            on_disk: VecDeque::new(),
            close_requested: false,
            renewing: false,
            sent: BTreeSet::from([id]),
            received: BTreeSet::new(),
            stopping: false,
            stuck: false,
            resume,
            confirmed: BTreeSet::new(),
            stopped: false,
            cancelled: false,
            records: vec![],
            exit: None,
        };
        world.carry_out(effects);
        world
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            assert_eq!(self.exit, None, "nothing happens after the end: {effect:?}");
            match effect {
                Effect::Start(resume) => {
                    assert!(!self.running, "two agents at once");
                    assert_eq!(resume, self.resume, "the conversation is lost");
                    self.renewing = self.conversation.renewal.is_some();
                    self.running = true;
                    self.input_closed = false;
                    self.said_idle = false;
                }
                Effect::Command(AgentCommand::Send(message)) => {
                    assert!(self.running && !self.input_closed);
                    assert!(!self.confirmed.contains(&message.id));
                    self.queue.push_back(message.id);
                }
                Effect::Command(AgentCommand::Close) => {
                    assert!(self.close_requested || self.renewing);
                    assert!(self.said_idle && self.turn.is_none() && self.queue.is_empty());
                    self.input_closed = true;
                }
                Effect::Command(AgentCommand::Compact(_)) => {
                    assert!(self.running && !self.input_closed);
                    self.said_idle = false;
                }
                Effect::Command(_) => assert!(self.running),
                Effect::Stop => {
                    assert!(self.running && !self.stopping);
                    self.stopping = true;
                }
                Effect::Confirm(id) => {
                    assert!(self.received.contains(&id), "confirmed without a receipt");
                    assert!(self.confirmed.insert(id), "confirmed twice");
                }
                Effect::Write(record) => {
                    if record.details.kind == Some(RecordKind::Cleared) {
                        self.resume = None;
                    }
                    self.records.push(*record);
                }
                Effect::End(exit) => self.exit = Some(exit),
            }
        }
        self.read_folder();
    }

    /// The supervisor's step after each event.
    fn read_folder(&mut self) {
        while self.exit.is_none() && self.conversation.accepts_messages() {
            let effects = match self.on_disk.pop_front() {
                Some(message) => {
                    self.sent.insert(message.id);
                    self.conversation.message(message)
                }
                None => {
                    let effects = self.conversation.nothing_waits(self.close_requested);
                    if effects.is_empty() {
                        return;
                    }
                    effects
                }
            };
            self.carry_out(effects);
        }
    }

    pub(super) fn tell(&mut self, event: AgentEvent) {
        if self.exit.is_none() {
            match &event {
                AgentEvent::Session(id) => self.resume = Some(id.clone()),
                AgentEvent::SessionLost(_) => self.resume = None,
                _ => {}
            }
            let effects = self.conversation.agent_event(event);
            self.carry_out(effects);
        }
    }

    fn agent_exits(&mut self, outcome: Result<(), Failure>) {
        if !self.running || self.exit.is_some() {
            return;
        }
        self.running = false;
        self.queue.clear();
        self.turn = None;
        let effects = self.conversation.agent_ended(outcome);
        self.carry_out(effects);
    }

    fn receive(&mut self, ids: Vec<MessageId>) {
        for id in ids {
            self.received.insert(id);
            self.tell(AgentEvent::Received(id));
        }
    }

    /// One step of an agent; what it leaves out of its protocol, another may.
    pub(super) fn agent_step(&mut self, choice: u8) {
        if !self.running || self.exit.is_some() {
            return;
        }
        if self.stopping {
            return self.stopping_step(choice);
        }
        match (choice % 8, self.turn.take()) {
            // A message is folded into the running turn.
            (0, Some(mut turn)) if !self.queue.is_empty() => {
                turn.extend(self.queue.pop_front());
                self.turn = Some(turn);
            }
            (choice, Some(turn)) => self.end_turn(choice, turn),
            (choice, None) if !self.queue.is_empty() => {
                let merged = if choice == 1 { self.queue.len() } else { 1 };
                self.turn = Some(self.queue.drain(..merged).collect());
                self.said_idle = false;
                self.tell(AgentEvent::Busy);
            }
            // A turn that nobody asked for.
            (4, None) if self.said_idle && !self.input_closed => {
                self.turn = Some(vec![]);
                self.said_idle = false;
                self.tell(AgentEvent::Busy);
            }
            // A result that nobody asked for.
            (7, None) if !self.input_closed => {
                let outcome = Outcome::Answer(Some("unasked".to_owned()));
                self.tell(AgentEvent::TurnEnd(outcome.into()));
            }
            (_, None) if !self.said_idle => {
                self.said_idle = true;
                self.tell(AgentEvent::Idle);
            }
            (_, None) if self.input_closed => self.agent_exits(Ok(())),
            (_, None) => {}
        }
    }

    fn end_turn(&mut self, choice: u8, turn: Vec<MessageId>) {
        let outcome = match choice {
            1 => Outcome::Failed(Failure::crash("api error")),
            2 => Outcome::Answer(None),
            _ => Outcome::Answer(Some("answer".to_owned())),
        };
        let result = AgentEvent::TurnEnd(outcome.into());
        match choice {
            3 => {
                self.receive(turn);
                self.tell(result);
            }
            // The result is missing.
            5 => self.receive(turn),
            // The receipts are missing.
            6 => self.tell(result),
            _ => {
                self.tell(result);
                self.receive(turn);
            }
        }
    }

    /// An agent that is told to stop may still answer, or not.
    fn stopping_step(&mut self, choice: u8) {
        match (choice % 4, self.turn.take()) {
            (0, _) => self.agent_exits(Err(Failure::crash("killed"))),
            (1, Some(turn)) => self.end_turn(4, turn),
            (2, Some(turn)) => {
                self.tell(AgentEvent::TurnEnd(Outcome::Interrupted.into()));
                self.receive(turn);
            }
            _ => self.agent_exits(Ok(())),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        if self.exit.is_some() {
            return;
        }
        match step {
            Step::Message => {
                self.on_disk.push_back(message("more"));
                self.read_folder();
            }
            Step::Close => {
                self.close_requested = true;
                self.read_folder();
            }
            Step::Interrupt => {
                let effects = self.conversation.interrupt();
                self.carry_out(effects);
            }
            Step::Agent(choice) => self.agent_step(*choice),
            Step::AgentLeaves => self.agent_exits(Ok(())),
            Step::AgentCrashes => self.agent_exits(Err(Failure::crash("boom"))),
            Step::Session(id) if self.running => {
                self.tell(AgentEvent::Session(id.parse().unwrap()));
            }
            Step::SessionLost if self.running && self.conversation.session.is_none() => {
                self.tell(AgentEvent::SessionLost("earlier".parse().unwrap()));
            }
            Step::Session(_) | Step::SessionLost => {}
            Step::Clear => {
                self.renewing = true;
                let effects = self.conversation.renew(Renewal::Clear);
                self.carry_out(effects);
            }
            Step::SetModel => {
                self.renewing = true;
                let effects = self.conversation.renew(Renewal::SameConversation);
                self.carry_out(effects);
            }
            Step::Compact => {
                let effects = self.conversation.compact(None);
                self.carry_out(effects);
            }
            Step::Stop(why) => {
                self.stopped |= *why == Stop::Signal;
                self.cancelled |= *why == Stop::Cancelled;
                let effects = self.conversation.stop(*why);
                self.carry_out(effects);
            }
            // Only of an agent from whom something is expected.
            Step::Stuck if self.running && !self.stopping && self.conversation.is_awaited() => {
                self.stuck = true;
                let effects = self.conversation.stuck(Failure::crash("stuck"));
                self.carry_out(effects);
            }
            Step::Stuck => {}
        }
    }

    /// Lets the host close and the agent finish. One that does nothing more but
    /// owes something is what the watchdog is for.
    pub(super) fn finish(&mut self) {
        self.step(&Step::Close);
        for _ in 0..10_000 {
            if self.exit.is_some() {
                return;
            }
            let owes = !self.queue.is_empty() || self.turn.is_some() || self.stopping;
            if self.said_idle && !owes && !self.input_closed {
                self.step(&Step::Stuck);
            }
            self.agent_step(2);
        }
        panic!("the conversation does not end: {:?}", self.conversation);
    }
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Message,
    Close,
    Interrupt,
    Agent(u8),
    AgentLeaves,
    AgentCrashes,
    Session(&'static str),
    SessionLost,
    Clear,
    SetModel,
    Compact,
    Stuck,
    Stop(Stop),
}
