//! The conversation under every order of events that a host and an agent can
//! produce, the agent's misbehaviour included.

use std::collections::{BTreeSet, VecDeque};

use drawbridge_shared::protocol::RecordStatus;
use proptest::prelude::*;

use super::*;

fn message(text: &str) -> UserMessage {
    UserMessage {
        id: MessageId::random(),
        text: text.to_owned(),
    }
}

/// A host, an agent and the supervisor's bookkeeping around one conversation.
struct World {
    conversation: Conversation,
    /// The agent process runs.
    running: bool,
    input_closed: bool,
    /// Messages the agent was sent and has not begun with.
    queue: VecDeque<MessageId>,
    /// Messages of the turn that runs.
    turn: Option<Vec<MessageId>>,
    said_idle: bool,
    /// Messages that wait on disk.
    on_disk: VecDeque<UserMessage>,
    close_requested: bool,
    /// The agent's process is to be replaced.
    renewing: bool,
    sent: BTreeSet<MessageId>,
    received: BTreeSet<MessageId>,
    confirmed: BTreeSet<MessageId>,
    crashed: bool,
    stopped: bool,
    cancelled: bool,
    records: Vec<RunRecord>,
    exit: Option<Exit>,
}

impl World {
    fn begin() -> Self {
        let prompt = message("prompt");
        let id = prompt.id;
        let (conversation, effects) = Conversation::begin(None, prompt);
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
            confirmed: BTreeSet::new(),
            crashed: false,
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
                Effect::Start(_) => {
                    assert!(!self.running, "two agents at once");
                    self.renewing = self.conversation.renewal.is_some();
                    self.running = true;
                    self.input_closed = false;
                    self.said_idle = false;
                }
                Effect::Tell(AgentCommand::Send(message)) => {
                    assert!(self.running && !self.input_closed);
                    assert!(!self.confirmed.contains(&message.id));
                    self.queue.push_back(message.id);
                }
                Effect::Tell(AgentCommand::Close) => {
                    assert!(self.close_requested || self.renewing);
                    assert!(self.said_idle && self.turn.is_none() && self.queue.is_empty());
                    self.input_closed = true;
                }
                Effect::Tell(AgentCommand::Compact(_)) => {
                    assert!(self.running && !self.input_closed);
                    self.said_idle = false;
                }
                Effect::Tell(_) | Effect::Stop => assert!(self.running),
                Effect::Confirm(id) => {
                    assert!(self.received.contains(&id), "confirmed without a receipt");
                    assert!(self.confirmed.insert(id), "confirmed twice");
                }
                Effect::Write(record) => self.records.push(*record),
                Effect::End(exit) => self.exit = Some(exit),
            }
        }
        self.read_folder();
    }

    /// What the supervisor does after each event.
    fn read_folder(&mut self) {
        while self.exit.is_none() && self.conversation.has_room() {
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

    fn tell(&mut self, event: AgentEvent) {
        if self.exit.is_none() {
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

    /// One step of an agent that keeps to its protocol.
    fn agent_step(&mut self, choice: u8) {
        if !self.running || self.exit.is_some() {
            return;
        }
        match (choice % 5, self.turn.take()) {
            // A message is folded into the running turn.
            (0, Some(mut turn)) if !self.queue.is_empty() => {
                turn.extend(self.queue.pop_front());
                self.turn = Some(turn);
            }
            (choice, Some(turn)) => {
                let outcome = match choice {
                    1 => Outcome::Failed(Failure::crash("api error")),
                    2 => Outcome::Answer(None),
                    _ => Outcome::Answer(Some("answer".to_owned())),
                };
                if choice == 3 {
                    self.receive(turn);
                    self.tell(AgentEvent::TurnEnd(outcome.into()));
                } else {
                    self.tell(AgentEvent::TurnEnd(outcome.into()));
                    self.receive(turn);
                }
            }
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
            (_, None) if !self.said_idle => {
                self.said_idle = true;
                self.tell(AgentEvent::Idle);
            }
            (_, None) if self.input_closed => self.agent_exits(Ok(())),
            (_, None) => {}
        }
    }

    fn step(&mut self, step: &Step) {
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
            Step::AgentCrashes => {
                self.crashed |= self.running;
                self.agent_exits(Err(Failure::crash("boom")));
            }
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
                self.agent_exits(Ok(()));
            }
            Step::Stuck => {
                let effects = self.conversation.stuck(Failure::crash("stuck"));
                self.carry_out(effects);
                self.agent_exits(Ok(()));
            }
        }
    }

    /// Lets the host close and the agent finish.
    fn finish(&mut self) {
        self.step(&Step::Close);
        for _ in 0..10_000 {
            if self.exit.is_some() {
                return;
            }
            self.agent_step(2);
        }
        panic!("the conversation does not end: {:?}", self.conversation);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Message,
    Close,
    Interrupt,
    Agent(u8),
    AgentLeaves,
    AgentCrashes,
    Clear,
    SetModel,
    Compact,
    Stuck,
    Stop(Stop),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Message),
        1 => Just(Step::Close),
        1 => Just(Step::Interrupt),
        20 => any::<u8>().prop_map(Step::Agent),
        1 => Just(Step::AgentLeaves),
        1 => Just(Step::AgentCrashes),
        1 => Just(Step::Clear),
        1 => Just(Step::SetModel),
        1 => Just(Step::Compact),
        1 => prop_oneof![
            3 => Just(Step::Compact),
            1 => Just(Step::Stuck),
            1 => Just(Step::Stop(Stop::Signal)),
            1 => Just(Step::Stop(Stop::Cancelled)),
        ],
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn in_any_order_of_events_nothing_is_lost_and_every_run_ends(steps in steps()) {
        let mut world = World::begin();
        for step in &steps {
            world.step(step);
        }
        world.finish();
        prop_assert!(!world.records.is_empty(), "every run ends with a record");
        let last_failed = world.records.last().map(|r| r.status) == Some(RecordStatus::Error);
        match world.exit.unwrap() {
            Exit::Success if world.cancelled => {}
            Exit::Success => {
                prop_assert!(!last_failed);
                prop_assert!(world.on_disk.is_empty(), "a message was left behind");
                prop_assert_eq!(&world.confirmed, &world.sent);
            }
            Exit::AgentFailed => prop_assert!(last_failed),
            Exit::Interrupted => prop_assert!(world.stopped),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn a_cleared_conversation_is_begun_anew_by_the_next_message() {
    let mut world = begun();
    world.tell(AgentEvent::Session("s1".parse().unwrap()));
    world.step(&Step::Clear);
    world.step(&Step::Message);
    assert_eq!(
        world.sent.len(),
        1,
        "the message is for the new conversation"
    );
    for _ in 0..4 {
        world.agent_step(2);
    }
    let cleared = world.records.last().unwrap();
    assert_eq!(cleared.details.kind, Some(RecordKind::Cleared));
    assert_eq!(cleared.new_session_id, None);
    assert_eq!(world.sent.len(), 2);
    world.finish();
    assert_eq!(world.confirmed, world.sent);
}

#[test]
fn a_cancelled_run_leaves_what_waits_on_disk() {
    let mut world = begun();
    world.agent_step(2);
    world.step(&Step::Stop(Stop::Cancelled));
    assert_eq!(world.exit, Some(Exit::Success));
    let last = world.records.last().unwrap();
    assert_eq!(last.details.kind, Some(RecordKind::Interrupted));
    assert!(world.confirmed.is_empty());
}

/// A conversation whose agent has just been given its prompt.
fn begun() -> World {
    World::begin()
}

#[test]
fn a_message_between_the_result_and_idle_is_delivered() {
    let mut world = begun();
    world.agent_step(2);
    world.agent_step(2);
    world.step(&Step::Message);
    // The agent's notice of the first turn's end comes after the message.
    world.said_idle = true;
    world.tell(AgentEvent::Idle);
    world.step(&Step::Close);
    assert!(!world.input_closed, "a message is still owed");
    world.finish();
    assert_eq!(world.confirmed, world.sent);
    assert_eq!(world.exit, Some(Exit::Success));
}

#[test]
fn a_message_after_the_input_was_closed_gets_an_agent_of_its_own() {
    let mut world = begun();
    world.agent_step(2);
    world.agent_step(2);
    world.step(&Step::Close);
    world.agent_step(2);
    assert!(world.input_closed);
    world.step(&Step::Message);
    world.finish();
    assert_eq!(world.confirmed, world.sent);
    assert_eq!(world.confirmed.len(), 2);
}

#[test]
fn an_agent_that_leaves_is_a_session_update_and_is_started_by_the_next_message() {
    let mut world = begun();
    world.tell(AgentEvent::Session("s1".parse().unwrap()));
    world.agent_step(2);
    world.agent_step(2);
    world.agent_step(2);
    world.step(&Step::AgentLeaves);
    let last = world.records.last().unwrap();
    assert_eq!(
        (&last.result, last.new_session_id.as_deref()),
        (&None, Some("s1"))
    );
    assert!(!world.running);
    world.step(&Step::Message);
    assert!(world.running);
    world.finish();
    assert_eq!(world.exit, Some(Exit::Success));
}

#[test]
fn an_agent_that_says_nothing_and_leaves_is_a_failure() {
    let mut world = begun();
    for _ in 0..=MAX_FRUITLESS_STARTS {
        world.step(&Step::AgentLeaves);
    }
    assert_eq!(world.exit, Some(Exit::AgentFailed));
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_flood_of_messages_waits_on_disk() {
    let mut world = begun();
    for _ in 0..1000 {
        world.step(&Step::Message);
    }
    assert_eq!(world.queue.len(), MAX_IN_FLIGHT);
    assert_eq!(world.on_disk.len(), 1001 - MAX_IN_FLIGHT);
    world.finish();
    assert_eq!(world.confirmed.len(), 1001);
}
