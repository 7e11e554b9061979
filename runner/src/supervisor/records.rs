//! Records, with what only the supervisor knows: who the agent is, how long the
//! turn took, and notices for a person in addition to the answer.

use std::io;

use drawbridge_shared::protocol::{AgentKind, Progress, RecordKind, RunRecord};
use tokio::time::Instant;

use crate::agent::{Activity, AgentEvent};
use crate::host::output::Output;

/// Longest text in a progress record, in bytes; the answer has it whole.
const MAX_PROGRESS_BYTES: usize = 64 * 1024;

/// The records of one run.
#[derive(Debug)]
pub(super) struct Records {
    output: Output,
    agent: AgentKind,
    agent_version: Option<String>,
    /// Whether the host wants progress records.
    progress: bool,
    /// Whether the start of an agent was reported to the host.
    has_begun: bool,
    turn_began: Option<Instant>,
    notice: Option<String>,
}

/// Something to report on the way to an answer.
pub(super) struct ProgressReport(Progress);

impl ProgressReport {
    pub(super) fn into_record(self, session: Option<String>) -> RunRecord {
        let mut record = RunRecord::answer(None, session);
        record.details.kind = Some(RecordKind::Progress);
        record.details.progress = Some(self.0);
        record
    }
}

impl Records {
    pub(super) const fn new(
        output: Output,
        agent: AgentKind,
        progress: bool,
        notice: Option<String>,
    ) -> Self {
        Self {
            output,
            agent,
            agent_version: None,
            progress,
            has_begun: false,
            turn_began: None,
            notice,
        }
    }

    /// Adds a notice to the next record.
    pub(super) fn notice(&mut self, text: String) {
        tracing::warn!("{text}");
        match &mut self.notice {
            Some(notice) => {
                notice.push_str("; ");
                notice.push_str(&text);
            }
            None => self.notice = Some(text),
        }
    }

    /// Remembers what records need of an event; returns its progress report.
    pub(super) fn observe(&mut self, event: &AgentEvent) -> Option<ProgressReport> {
        match event {
            AgentEvent::Busy => self.turn_began = Some(Instant::now()),
            AgentEvent::Version(version) => self.agent_version = Some(version.clone()),
            AgentEvent::SessionLost(id) => {
                let text = format!("conversation {id} is lost; a new one was started");
                self.notice(text);
            }
            AgentEvent::Notice(text) => self.notice(text.clone()),
            AgentEvent::Warning(text) => tracing::warn!("{text}"),
            _ => {}
        }
        self.progress.then(|| report(event)).flatten()
    }

    /// Tells the host that there will be an agent, before there is the first.
    pub(super) async fn begin(&mut self) -> io::Result<()> {
        if !self.progress || std::mem::replace(&mut self.has_begun, true) {
            return Ok(());
        }
        self.write(ProgressReport(Progress::Started).into_record(None))
            .await
    }

    pub(super) async fn write(&mut self, mut record: RunRecord) -> io::Result<()> {
        let details = &mut record.details;
        details.agent = Some(self.agent);
        details.agent_version = self.agent_version.clone();
        if details.kind != Some(RecordKind::Progress) {
            details.notice = self.notice.take();
            details.duration_ms = self
                .turn_began
                .take()
                .map(|began| u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
        self.output.write(record).await
    }
}

fn report(event: &AgentEvent) -> Option<ProgressReport> {
    let progress = match event {
        AgentEvent::Session(_) => Progress::Session,
        AgentEvent::Activity(Activity::Text(text)) => Progress::Text {
            text: text[..text.floor_char_boundary(MAX_PROGRESS_BYTES)].to_owned(),
        },
        AgentEvent::Activity(Activity::ToolStart { id, name, .. }) => Progress::ToolStart {
            id: id.clone(),
            name: name.clone(),
        },
        AgentEvent::Activity(Activity::ToolEnd { id }) => Progress::ToolEnd { id: id.clone() },
        AgentEvent::Activity(Activity::Retry(error)) => Progress::Retry {
            error: error.clone(),
        },
        AgentEvent::Activity(Activity::Compaction) => Progress::Compaction,
        _ => return None,
    };
    Some(ProgressReport(progress))
}
