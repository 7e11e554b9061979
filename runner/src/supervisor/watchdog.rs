//! Detection of a silent agent.
//!
//! No IO and no clock in here: the supervisor passes the time in.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::agent::{Activity, AgentEvent};
use crate::host::heartbeat::ToolInFlight;

/// Longest silence of an agent; NanoClaw's limit.
pub(crate) const USUAL_LIMIT: Duration = Duration::from_secs(30 * 60);
/// Longest silence, whatever the run's document or a tool call says: the model
/// chooses a tool's limit, and must not switch the watchdog off with it.
const LONGEST_SILENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// Time beyond a tool's own limit, for it to be ended and reported.
const TOOL_MARGIN: Duration = Duration::from_secs(60);
/// Longest time for an interrupted turn to end.
const INTERRUPT_GRACE: Duration = Duration::from_secs(30);
/// Tools whose start was seen and whose end was not, beyond which the oldest
/// knowledge is dropped: the agent does not report ends.
const MAX_TOOLS: usize = 1000;

/// The reaction to a silent agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Interrupt the turn.
    Interrupt,
    /// Stop the agent: it did not react.
    GiveUp,
}

/// Watches one agent.
#[derive(Debug)]
pub(crate) struct Watchdog {
    limit: Duration,
    last_sign: Instant,
    tools: HashMap<String, ToolInFlight>,
    interrupted_at: Option<Instant>,
}

impl Watchdog {
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            last_sign: now,
            tools: HashMap::new(),
            interrupted_at: None,
        }
    }

    /// A new process of the agent begins; what the last one did is over.
    pub(crate) fn restart(&mut self, now: Instant) {
        *self = Self::new(self.limit, now);
    }

    /// The agent was active, or has just been given work.
    pub(crate) fn sign_of_life(&mut self, now: Instant) {
        self.last_sign = now;
    }

    /// Takes note of what the agent does.
    pub(crate) fn event(&mut self, event: &AgentEvent, now: Instant) {
        self.last_sign = now;
        match event {
            AgentEvent::Activity(Activity::ToolStart { id, name, timeout }) => {
                if self.tools.len() == MAX_TOOLS {
                    self.tools.clear();
                }
                let tool = ToolInFlight {
                    name: name.clone(),
                    since: now,
                    limit: *timeout,
                };
                self.tools.insert(id.clone(), tool);
            }
            AgentEvent::Activity(Activity::ToolEnd { id }) => {
                self.tools.remove(id);
            }
            AgentEvent::TurnEnd(_) | AgentEvent::Idle => {
                self.tools.clear();
                self.interrupted_at = None;
            }
            _ => {}
        }
    }

    /// The tool that has been running longest.
    pub(crate) fn tool_in_flight(&self) -> Option<&ToolInFlight> {
        self.tools.values().min_by_key(|tool| tool.since)
    }

    /// When a working agent counts as stuck.
    pub(crate) fn deadline(&self) -> Instant {
        if let Some(at) = self.interrupted_at {
            return at + INTERRUPT_GRACE.min(self.limit);
        }
        let tools = self.tools.values().filter_map(|tool| tool.limit);
        let longest = tools
            .max()
            .map_or(Duration::ZERO, |limit| limit.saturating_add(TOOL_MARGIN));
        self.last_sign + self.limit.max(longest).min(LONGEST_SILENCE)
    }

    /// The deadline has passed while the agent was working.
    pub(crate) fn alarm(&mut self, now: Instant) -> Alarm {
        if self.interrupted_at.is_some() {
            return Alarm::GiveUp;
        }
        self.interrupted_at = Some(now);
        Alarm::Interrupt
    }

    /// The agent's last known action, for the failure's text.
    pub(crate) fn describe(&self, now: Instant) -> String {
        let silence = now.saturating_duration_since(self.last_sign).as_secs();
        match self.tool_in_flight() {
            Some(tool) => {
                let name = &tool.name;
                format!("the agent gave no sign of life for {silence} s while it used {name}")
            }
            None => format!("the agent gave no sign of life for {silence} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn tool(id: &str, limit: Option<Duration>) -> AgentEvent {
        AgentEvent::Activity(Activity::ToolStart {
            id: id.to_owned(),
            name: "Bash".to_owned(),
            timeout: limit,
        })
    }

    #[test]
    fn any_event_is_a_sign_of_life() {
        let start = Instant::now();
        let mut dog = Watchdog::new(MINUTE, start);
        assert_eq!(dog.deadline(), start + MINUTE);
        dog.event(&AgentEvent::Activity(Activity::Other), start + MINUTE / 2);
        assert_eq!(dog.deadline(), start + MINUTE / 2 + MINUTE);
    }

    #[test]
    fn no_limit_switches_the_watchdog_off() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Duration::MAX, start);
        assert_eq!(dog.deadline(), start + LONGEST_SILENCE);
        dog.event(&tool("endless", Some(Duration::MAX)), start);
        assert_eq!(dog.deadline(), start + LONGEST_SILENCE);
    }

    #[test]
    fn a_tool_with_a_longer_limit_extends_the_deadline_until_it_is_done() {
        let start = Instant::now();
        let mut dog = Watchdog::new(MINUTE, start);
        dog.event(&tool("short", Some(MINUTE / 60)), start);
        assert_eq!(dog.deadline(), start + TOOL_MARGIN + MINUTE / 60);
        dog.event(&tool("long", Some(10 * MINUTE)), start);
        assert_eq!(dog.deadline(), start + 10 * MINUTE + TOOL_MARGIN);
        assert!(
            dog.describe(start + MINUTE)
                .ends_with("60 s while it used Bash")
        );
        let end = |id: &str| AgentEvent::Activity(Activity::ToolEnd { id: id.to_owned() });
        dog.event(&end("long"), start);
        dog.event(&end("short"), start);
        assert_eq!(dog.deadline(), start + MINUTE);
    }

    #[test]
    fn it_interrupts_first_and_gives_up_when_the_turn_does_not_end() {
        let start = Instant::now();
        let mut dog = Watchdog::new(MINUTE, start);
        assert_eq!(dog.alarm(start + MINUTE), Alarm::Interrupt);
        dog.event(&AgentEvent::Activity(Activity::Other), start + MINUTE);
        assert_eq!(
            dog.deadline(),
            start + MINUTE + INTERRUPT_GRACE,
            "noise is no end"
        );
        assert_eq!(dog.alarm(start + 2 * MINUTE), Alarm::GiveUp);
    }

    #[test]
    fn a_new_process_has_neither_the_tools_nor_the_alarm_of_the_last_one() {
        let start = Instant::now();
        let mut dog = Watchdog::new(MINUTE, start);
        dog.event(&tool("long", Some(10 * MINUTE)), start);
        dog.alarm(start + 11 * MINUTE);
        dog.restart(start + 12 * MINUTE);
        assert_eq!(dog.tool_in_flight(), None);
        assert_eq!(dog.deadline(), start + 13 * MINUTE);
        assert_eq!(dog.alarm(start + 13 * MINUTE), Alarm::Interrupt);
    }

    #[test]
    fn a_turn_that_ends_after_the_interrupt_is_well() {
        let start = Instant::now();
        let mut dog = Watchdog::new(MINUTE, start);
        dog.alarm(start + MINUTE);
        dog.event(&AgentEvent::Idle, start + MINUTE);
        assert_eq!(dog.deadline(), start + 2 * MINUTE);
    }
}
