use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn limits(runs: usize) -> Limits {
    Limits {
        runs: NonZeroUsize::new(runs).unwrap(),
        waiting_per_group: 50,
        waiting: 100,
    }
}

fn group(name: &str) -> Option<GroupName> {
    Some(name.parse().unwrap())
}

/// A queue of messages, each with its group and the seconds it has to wait.
fn queue(runs: usize, entries: &[(i64, &str, Kind, u64)], start: Instant) -> Queue {
    let mut queue = Queue::new(limits(runs));
    for (id, name, kind, wait) in entries {
        let due = start + Duration::from_secs(*wait);
        let group = if name.is_empty() { None } else { group(name) };
        queue.push(SubmissionId(*id), group, *kind, due);
    }
    queue
}

fn take_all(queue: &mut Queue, now: Instant) -> Vec<i64> {
    std::iter::from_fn(|| queue.take(now).map(|id| id.0)).collect()
}

use Kind::{Message, Task};

#[test]
fn groups_take_turns_and_run_one_at_a_time() {
    let now = Instant::now();
    let entries = [
        (1, "a", Message, 0),
        (2, "a", Message, 0),
        (3, "a", Message, 0),
        (4, "b", Message, 0),
        (5, "c", Message, 0),
    ];
    let mut queue = queue(2, &entries, now);
    assert_eq!(take_all(&mut queue, now), [1, 4]);
    queue.finish(SubmissionId(1));
    assert_eq!(take_all(&mut queue, now), [5], "c has waited longer than a");
    queue.finish(SubmissionId(4));
    assert_eq!(take_all(&mut queue, now), [2]);
}

#[test]
fn tasks_come_before_messages() {
    let now = Instant::now();
    let mut queue = queue(1, &[(1, "a", Message, 0), (2, "a", Task, 0)], now);
    assert_eq!(take_all(&mut queue, now), [2]);
    queue.finish(SubmissionId(2));
    assert_eq!(take_all(&mut queue, now), [1]);
}

#[test]
fn what_waits_for_its_next_attempt_keeps_its_place() {
    let now = Instant::now();
    let entries = [
        (1, "a", Message, 9),
        (2, "a", Message, 0),
        (3, "", Message, 9),
        (4, "", Message, 0),
    ];
    let mut queue = queue(5, &entries, now);
    assert_eq!(take_all(&mut queue, now), [4], "no group, no order");
    let later = now + Duration::from_secs(9);
    assert_eq!(queue.next_due(), Some(later));
    assert_eq!(take_all(&mut queue, later), [1, 3]);
}

#[test]
fn what_has_no_group_runs_beside_itself() {
    let now = Instant::now();
    let entries = [(1, "", Message, 0), (2, "", Message, 0), (3, "", Task, 0)];
    let mut queue = queue(5, &entries, now);
    assert_eq!(take_all(&mut queue, now), [3, 1, 2]);
}

#[test]
fn there_is_room_up_to_the_limits() {
    let mut queue = Queue::new(limits(1));
    for id in 0..50 {
        assert!(queue.has_capacity(group("a").as_ref()));
        queue.push(SubmissionId(id), group("a"), Message, Instant::now());
    }
    assert!(!queue.has_capacity(group("a").as_ref()));
    assert!(queue.has_capacity(group("b").as_ref()));
    for id in 50..100 {
        queue.push(SubmissionId(id), None, Message, Instant::now());
    }
    assert!(!queue.has_capacity(group("b").as_ref()), "all together");
    assert!(queue.remove(SubmissionId(7)));
    assert!(!queue.remove(SubmissionId(7)));
    assert!(queue.has_capacity(group("a").as_ref()));
}

/// What a random caller does.
#[derive(Clone, Debug)]
enum Step {
    Push(u8, bool),
    Take,
    Finish(prop::sample::Index),
    Remove(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..5, any::<bool>()).prop_map(|(group, task)| Step::Push(group, task)),
        3 => Just(Step::Take),
        2 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
    ]
}

/// Group 0 stands for none.
fn name_of(group: u8) -> Option<GroupName> {
    (group > 0).then(|| format!("g{group}").parse().unwrap())
}

proptest! {
    #[test]
    fn limits_and_order_hold_whatever_happens(
        steps in prop::collection::vec(step(), 1..200),
        runs in 1_usize..4,
    ) {
        let now = Instant::now();
        let mut queue = Queue::new(limits(runs));
        let mut next = 0;
        let mut waiting: BTreeSet<(u8, bool, i64)> = BTreeSet::new();
        let mut running: Vec<(u8, i64)> = Vec::new();
        for step in steps {
            match step {
                Step::Push(group, task) => {
                    next += 1;
                    let kind = if task { Task } else { Message };
                    queue.push(SubmissionId(next), name_of(group), kind, now);
                    waiting.insert((group, task, next));
                }
                Step::Take => {
                    let taken = queue.take(now).map(|id| id.0);
                    let is_busy = |group| group > 0 && running.iter().any(|(g, _)| *g == group);
                    let may = waiting.iter().any(|(group, ..)| !is_busy(*group));
                    prop_assert_eq!(taken.is_some(), may && running.len() < runs);
                    let Some(id) = taken else { continue };
                    let entry = *waiting.iter().find(|(.., other)| *other == id).unwrap();
                    prop_assert!(!is_busy(entry.0), "one run per group");
                    let before = |other: &&(u8, bool, i64)| {
                        other.0 == entry.0 && (!other.1, other.2) < (!entry.1, id)
                    };
                    prop_assert!(!waiting.iter().any(|other| before(&other)), "in order");
                    waiting.remove(&entry);
                    running.push((entry.0, id));
                }
                Step::Finish(index) if !running.is_empty() => {
                    let (_, id) = running.remove(index.index(running.len()));
                    queue.finish(SubmissionId(id));
                }
                Step::Remove(index) if !waiting.is_empty() => {
                    let entry = *index.get(&waiting.iter().copied().collect::<Vec<_>>());
                    prop_assert!(queue.remove(SubmissionId(entry.2)));
                    waiting.remove(&entry);
                }
                _ => {}
            }
            prop_assert_eq!((queue.waiting(), queue.running()), (waiting.len(), running.len()));
        }
    }

    /// However much one group hands in, another waits for one turn of each.
    #[test]
    fn no_group_is_served_twice_while_another_waits(
        sizes in prop::collection::vec(1_usize..20, 2..6),
    ) {
        let now = Instant::now();
        let mut queue = Queue::new(limits(1));
        let mut owner = HashMap::new();
        for (group, size) in sizes.iter().enumerate() {
            for _ in 0..*size {
                let id = SubmissionId(owner.len() as i64);
                owner.insert(id, group);
                queue.push(id, name_of(u8::try_from(group).unwrap() + 1), Message, now);
            }
        }
        let mut left = sizes.clone();
        let mut served: Vec<usize> = Vec::new();
        while let Some(id) = queue.take(now) {
            queue.finish(id);
            let group = owner[&id];
            left[group] -= 1;
            let last = served.iter().rposition(|other| *other == group);
            let since: BTreeSet<_> = served[last.map_or(0, |at| at + 1)..].iter().collect();
            for (other, left) in left.iter().enumerate() {
                let waits = *left > 0 && other != group;
                prop_assert!(!waits || last.is_none() || since.contains(&other));
            }
            served.push(group);
        }
        prop_assert_eq!(served.len(), owner.len());
    }
}
