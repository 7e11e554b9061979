//! The conversation under every order of events that a host and an agent can
//! produce, the agent's misbehaviour included.

mod world;

use drawbridge_shared::protocol::RecordStatus;
use proptest::prelude::*;

use super::*;
use world::{Step, World};

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Message),
        1 => Just(Step::Close),
        1 => Just(Step::Interrupt),
        20 => any::<u8>().prop_map(Step::Agent),
        1 => Just(Step::AgentLeaves),
        1 => Just(Step::AgentCrashes),
        1 => prop_oneof![Just("s1"), Just("s2")].prop_map(Step::Session),
        1 => Just(Step::SessionLost),
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
        prop_assert!(world.confirmed.is_subset(&world.sent));
        let last_failed = world.records.last().map(|r| r.status) == Some(RecordStatus::Error);
        match world.exit.unwrap() {
            Exit::Success if world.cancelled => {}
            Exit::AgentFailed if world.stuck => {}
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
    world.agent_step(3);
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

#[test]
fn an_agent_that_leaves_without_a_word_is_started_with_the_same_conversation() {
    let mut world = begun();
    // The world checks what it is started with.
    world.step(&Step::AgentLeaves);
    assert!(world.running);
    world.finish();
    assert_eq!(world.exit, Some(Exit::Success));
}

#[test]
fn an_interrupt_of_a_stuck_agent_is_not_told_behind_the_failure() {
    let mut world = begun();
    world.agent_step(2);
    world.step(&Step::Stuck);
    world.agent_step(2);
    world.finish();
    assert_eq!(world.exit, Some(Exit::AgentFailed));
    assert_eq!(world.records.len(), 1);
}
