//! A program that answers requests: `--on-request PROGRAM`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::inbox::ClaimedFile;
use crate::process::{Argv, capture_with_input};
use crate::requests::{Asked, Reply};

/// The time that a runner waits for anything but a question.
pub(super) const ACCEPT: Duration = Duration::from_secs(10);
/// Most questions that wait for a person at once.
const QUESTIONS: usize = 8;
/// Most questions that wait for their turn or a person; further ones are refused.
const MAX_QUESTIONS: usize = 32;
/// Most other requests that wait for their turn; further ones wait on disk.
const MAX_WAITING: usize = 32;

/// The program, and who waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    program: PathBuf,
    /// Requests are handled one after the other, as the agent made them.
    order: Arc<Semaphore>,
    /// Questions wait for people, and nothing else waits for them.
    questions: Arc<Semaphore>,
}

impl Handler {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self {
            program,
            order: Arc::new(Semaphore::new(1)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
        }
    }

    /// Starts the program with one request on its standard input and reads the
    /// answer from its standard output. The error is for the operator.
    async fn ask(
        self,
        request: Vec<u8>,
        is_question: bool,
        deadline: Duration,
    ) -> Result<Reply, String> {
        let lane = if is_question {
            &self.questions
        } else {
            &self.order
        };
        let _turn = lane.acquire().await.map_err(|error| error.to_string())?;
        let command = Argv::new(&self.program, [] as [OsString; 0]).tool_command();
        let ended = capture_with_input(command, request, deadline)
            .await
            .map_err(|error| error.to_string())?;
        if !ended.status.success() {
            return Err(ended.stderr_summary());
        }
        serde_json::from_str(&ended.stdout)
            .map_err(|error| format!("its answer is not valid JSON: {error}"))
    }
}

/// A handler's answer, or why there is none.
type Handled = Result<Reply, String>;

/// The requests that the handler has.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    questions: JoinSet<(ClaimedFile, Handled)>,
    others: JoinSet<(ClaimedFile, Handled)>,
    /// Requests whose handler has ended since the last call.
    ended: Vec<(ClaimedFile, Handled)>,
}

impl Handlers {
    /// The number of further requests that may come.
    pub(super) fn capacity(&self) -> usize {
        MAX_WAITING.saturating_sub(self.others.len() + self.ended.len())
    }

    /// Hands a request over; `question` is how long a person has for it. It comes
    /// back when it is one question too many.
    pub(super) fn start(
        &mut self,
        handler: Handler,
        taken: ClaimedFile,
        asked: &Asked,
        question: Option<Duration>,
    ) -> Result<(), ClaimedFile> {
        let is_question = question.is_some();
        let tasks = if is_question {
            &mut self.questions
        } else {
            &mut self.others
        };
        if is_question && tasks.len() >= MAX_QUESTIONS {
            return Err(taken);
        }
        let line = serde_json::to_vec(asked).unwrap_or_default();
        let deadline = question.unwrap_or(ACCEPT);
        tasks.spawn(async move {
            let handled = handler.ask(line, is_question, deadline).await;
            (taken, handled)
        });
        Ok(())
    }

    /// Waits until one has ended; for ever when there is none.
    pub(super) async fn next(&mut self) {
        let ended = tokio::select! {
            Some(ended) = self.questions.join_next() => ended,
            Some(ended) = self.others.join_next() => ended,
            else => std::future::pending().await,
        };
        // A task that broke was of no use to anybody.
        self.ended.extend(ended.ok());
    }

    pub(super) fn take_ended(&mut self) -> Vec<(ClaimedFile, Handled)> {
        std::mem::take(&mut self.ended)
    }

    /// Waits for all of them, and gives up on those that take longer.
    pub(super) async fn finish(&mut self, patience: Duration) -> bool {
        let rest = async {
            while !self.questions.is_empty() || !self.others.is_empty() {
                self.next().await;
            }
        };
        let is_done = timeout(patience, rest).await.is_ok();
        self.questions.abort_all();
        self.others.abort_all();
        is_done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The room that a broken task had is there again.
    #[tokio::test]
    async fn a_task_that_breaks_gives_its_room_back() {
        let mut handlers = Handlers::default();
        for is_question in [true, false] {
            let tasks = if is_question {
                &mut handlers.questions
            } else {
                &mut handlers.others
            };
            tasks.spawn(async { panic!("a broken task") });
            handlers.next().await;
            assert_eq!(handlers.capacity(), MAX_WAITING, "{is_question}");
            assert!(handlers.questions.is_empty() && handlers.others.is_empty());
            assert!(handlers.take_ended().is_empty());
        }
    }
}
