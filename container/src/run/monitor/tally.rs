//! Counts of a conversation, from its records.

use drawbridge_shared::protocol::{ErrorKind, Progress, RecordKind, RecordStatus, RunRecord};

/// Counts of the agent's records so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Records that answer a message, failures included.
    pub(crate) answers: usize,
    pub(crate) failures: usize,
    /// Failures of an agent that did not start.
    start_failures: usize,
    /// Follow-ups that could not be handed over.
    pub(crate) lost: usize,
    /// Whether the runner said anything at all.
    pub(crate) has_started: bool,
    /// Whether the runner was about to start the agent.
    has_begun: bool,
    /// Whether the agent gave a sign of life of its own.
    has_worked: bool,
}

impl Tally {
    pub(super) fn count(&mut self, record: &RunRecord) {
        let details = &record.details;
        match details.kind {
            Some(RecordKind::Progress) => {
                self.has_begun = true;
                self.has_worked |= details.progress != Some(Progress::Started);
            }
            // It says that the conversation rests, which answers nothing.
            Some(RecordKind::SessionUpdate) => {}
            _ => {
                self.answers += 1;
                self.failures += usize::from(record.status == RecordStatus::Error);
                let never_began = matches!(
                    details.error_kind,
                    Some(ErrorKind::StartUp | ErrorKind::Input)
                );
                self.start_failures += usize::from(never_began);
            }
        }
    }

    /// Whether the agent had a message, so that it may have done something. Only
    /// records count: what is in its folders the agent could change. An agent that
    /// has worked may be followed by one that does not start.
    pub(crate) const fn reached_agent(&self) -> bool {
        self.has_worked
            || self.answers > self.start_failures
            || (self.has_begun && self.start_failures == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(progress: Progress) -> RunRecord {
        let mut record = RunRecord::answer(None, None);
        record.details.kind = Some(RecordKind::Progress);
        record.details.progress = Some(progress);
        record
    }

    fn failure(kind: ErrorKind) -> RunRecord {
        let mut record = RunRecord::failure("no", None);
        record.details.error_kind = Some(kind);
        record
    }

    fn reaches_the_agent(records: &[RunRecord]) -> bool {
        let mut tally = Tally::default();
        records.iter().for_each(|record| tally.count(record));
        tally.reached_agent()
    }

    #[test]
    fn an_agent_that_never_starts_is_not_reached() {
        let started = progress(Progress::Started);
        for kind in [ErrorKind::StartUp, ErrorKind::Input] {
            assert!(!reaches_the_agent(&[failure(kind)]));
            assert!(!reaches_the_agent(&[started.clone(), failure(kind)]));
        }
        assert!(!reaches_the_agent(&[]));
        assert!(reaches_the_agent(&[started]), "it may have acted unheard");
    }

    /// The agent ended in the middle of its turn, and could not be started again.
    #[test]
    fn an_agent_that_worked_was_reached_whatever_comes_later() {
        let (id, name) = ("t1".to_owned(), "Bash".to_owned());
        for sign in [
            Progress::Session,
            Progress::Text {
                text: "I".to_owned(),
            },
            Progress::ToolStart { id, name },
        ] {
            let records = [
                progress(Progress::Started),
                progress(sign.clone()),
                failure(ErrorKind::StartUp),
            ];
            assert!(reaches_the_agent(&records), "{sign:?}");
        }
        let answer = RunRecord::answer(Some("done".to_owned()), None);
        assert!(reaches_the_agent(&[answer, failure(ErrorKind::StartUp)]));
    }
}
