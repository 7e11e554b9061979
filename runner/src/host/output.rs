//! Records on standard output. Nothing else in the runner writes there.

use std::io;
use std::time::Duration;

use drawbridge_shared::ids::Nonce;
use drawbridge_shared::marker::Markers;
use drawbridge_shared::protocol::RunRecord;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Longest time that a host may leave a record unread.
const DEADLINE: Duration = Duration::from_secs(600);

/// The host's end of the run.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    markers: Markers,
    /// Whether the host knows records with our own fields.
    details: bool,
}

impl Output {
    /// Records with `details` for our own launcher, plain ones for NanoClaw's.
    pub(crate) fn new(nonce: Option<&Nonce>, details: bool) -> Self {
        Self {
            markers: Markers::new(nonce),
            details,
        }
    }

    /// Writes one record.
    ///
    /// # Errors
    /// The host has closed the pipe, or does not read it.
    pub(crate) async fn write(&self, record: RunRecord) -> io::Result<()> {
        let markers = self.markers.clone();
        let record = if self.details { record } else { record.plain() };
        let writing = spawn_blocking(move || {
            #[expect(clippy::disallowed_methods, reason = "this is the output module")]
            let stdout = io::stdout();
            markers.write(&mut stdout.lock(), &record)
        });
        match timeout(DEADLINE, writing).await {
            Ok(Ok(written)) => written,
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
