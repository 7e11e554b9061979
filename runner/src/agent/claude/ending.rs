//! The end of a Claude Code process, on its own or on request.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Claude, End, STOP, classify, report_received, start_failure};
use crate::agent::types::{AgentEvent, AgentLink, Failure};
use crate::process::child::{ChildEvent, ExitReport, StopLadder};

/// Longest time for an interrupted turn to end when the run is stopped.
const INTERRUPT_GRACE: Duration = Duration::from_secs(1);

impl Claude {
    /// The run is to end now: interrupt, end of input, TERM, KILL.
    pub(super) async fn stop(mut self, link: &AgentLink) -> Result<End, Failure> {
        if self.is_working() {
            self.interrupt()?;
            let deadline = Instant::now() + INTERRUPT_GRACE;
            while self.is_working() && Instant::now() < deadline {
                match timeout_at(deadline, self.child.next()).await {
                    Ok(ChildEvent::Line(line)) => self.line(line, link).await?,
                    Ok(ChildEvent::Exited(report)) => {
                        return Ok(self.stopped(&report, link).await);
                    }
                    Err(_) => break,
                }
            }
        }
        self.end(STOP, link).await
    }

    /// Ends it. Its output until the exit counts: a receipt, an answer.
    pub(super) async fn end(
        mut self,
        ladder: StopLadder,
        link: &AgentLink,
    ) -> Result<End, Failure> {
        let mut stopping = self.child.begin_stop(ladder);
        loop {
            match self.child.next_while(&mut stopping).await {
                ChildEvent::Line(line) => self.line(line, link).await?,
                ChildEvent::Exited(report) => return Ok(self.stopped(&report, link).await),
            }
        }
    }

    async fn stopped(&mut self, report: &ExitReport, link: &AgentLink) -> End {
        if report.status.success() {
            report_received(self.acks.ended_well(), link).await;
        }
        End::Done
    }

    /// The process has ended on its own, or because its input has.
    pub(super) async fn exited(
        mut self,
        report: &ExitReport,
        link: &AgentLink,
    ) -> Result<End, Failure> {
        if self.session_missing {
            return Ok(End::SessionMissing(self.acks.take_unconfirmed()));
        }
        if let Some(failure) = self.start_failure {
            return Err(failure);
        }
        // Exit code 1 after an error result repeats what was reported.
        let repeats = report.status.code() == Some(1) && self.last_result_failed && !self.busy;
        if report.status.success() || repeats {
            report_received(self.acks.ended_well(), link).await;
            if self.has_spoken && !self.acks.turn_is_open() {
                // Nothing follows its last result; it need not report that it
                // is idle.
                link.send(AgentEvent::Idle).await;
            }
            return Ok(End::Done);
        }
        let text = report.describe("Claude Code");
        if self.session.is_some() {
            return Err(Failure::crash(text));
        }
        if self.resumes && classify::is_missing_session(&report.stderr_tail) {
            return Ok(End::SessionMissing(self.acks.take_unconfirmed()));
        }
        Err(start_failure(text))
    }
}
