//! Requests to the host, and its answers.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use drawbridge_shared::file::{open_regular, write_atomic};
use drawbridge_shared::ipc::{ANSWERS, Answer};
use drawbridge_shared::json::from_slice_lossy;
use drawbridge_shared::protocol::AgentRequest;
use tokio::time::timeout;
use uuid::Uuid;

use crate::host::watch::FolderWatch;

/// Longest time for a host that answers to accept or refuse a request.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(10);
/// Interval of the poll for the answer when no file event comes.
const POLL: Duration = Duration::from_millis(250);
/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    ipc: PathBuf,
}

/// The fate of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The host accepted it, perhaps with something to say.
    Accepted(Option<String>),
    /// The host refused it, with a reason.
    Refused(String),
    /// It is with the host, which has not answered.
    Queued,
}

impl Outbox {
    pub(super) fn new(ipc: PathBuf) -> Self {
        Self { ipc }
    }

    /// Whether the host answers requests: it made the folder for it.
    pub(super) fn host_answers(&self) -> bool {
        self.ipc.join(ANSWERS).is_dir()
    }

    /// Sends a request, and waits for acceptance if the host answers requests.
    pub(super) async fn send(&self, request: &AgentRequest) -> io::Result<Delivery> {
        self.send_and_wait(request, ACCEPT_DEADLINE).await
    }

    /// Sends a request, and waits for an answer up to `deadline`.
    pub(super) async fn send_and_wait(
        &self,
        request: &AgentRequest,
        deadline: Duration,
    ) -> io::Result<Delivery> {
        let name = file_name();
        let answers = self.ipc.join(ANSWERS);
        // Watching begins before the host can answer.
        let watch = self
            .host_answers()
            .then(|| FolderWatch::new(&answers, POLL));
        let folder = self.ipc.join(request.folder());
        fs::create_dir_all(&folder)?;
        write_atomic(&folder.join(&name), &serde_json::to_vec_pretty(request)?)?;
        let Some(watch) = watch else {
            return Ok(Delivery::Queued);
        };
        let answer = timeout(deadline, wait_for(&answers.join(&name), watch)).await;
        Ok(answer.unwrap_or(Delivery::Queued))
    }
}

async fn wait_for(path: &Path, mut watch: FolderWatch) -> Delivery {
    loop {
        watch.changed().await;
        match read_answer(path) {
            Ok(answer) => {
                // The host removes what is left when the run ends.
                let _ = fs::remove_file(path);
                return match answer {
                    Answer { ok: true, text } => Delivery::Accepted(text),
                    Answer { ok: false, text } => {
                        Delivery::Refused(text.unwrap_or_else(|| "no reason given".to_owned()))
                    }
                };
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A host that does not write at once; what it ends with counts.
            Err(error) => tracing::debug!(%error, "the host's answer cannot be read yet"),
        }
    }
}

fn read_answer(path: &Path) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    open_regular(path)?
        .take(MAX_ANSWER_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(from_slice_lossy(&bytes)?)
}

/// NanoClaw's form: `<milliseconds>-<6 characters of base 36>.json`.
fn file_name() -> String {
    format!("{}-{}.json", millis(), random_base36())
}

/// NanoClaw's form of a task id.
pub(super) fn task_id() -> String {
    format!("task-{}-{}", millis(), random_base36())
}

fn millis() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |elapsed| elapsed.as_millis())
}

fn random_base36() -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    // A version 4 UUID is random but for six bits that stand elsewhere.
    let bytes = Uuid::new_v4().into_bytes();
    let digits = bytes[10..]
        .iter()
        .map(|byte| DIGITS[usize::from(*byte) % 36]);
    digits.map(char::from).collect()
}
