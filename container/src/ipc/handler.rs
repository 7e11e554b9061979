//! A program that answers requests: `--on-request PROGRAM`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Reply;
use crate::process::{Argv, capture_with_input};

/// Most questions that wait for a person at once.
const QUESTIONS: usize = 8;

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
    pub(super) async fn ask(
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
            return Err(ended.complaint());
        }
        serde_json::from_str(&ended.stdout).map_err(|error| format!("its answer is none: {error}"))
    }
}
