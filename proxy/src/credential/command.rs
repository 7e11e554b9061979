//! A credential that a program on the host prints, such as a password manager.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use crate::secret::{Environment, Secret, Unavailable};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

/// Most that the program may print, in bytes; far more than a secret can have.
const MAX_OUTPUT: u64 = 64 * 1024;

/// Why a program gave no credential.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("it cannot be started")]
    Start(#[source] io::Error),
    #[error("its output cannot be read")]
    Read(#[source] io::Error),
    #[error("it printed more than {MAX_OUTPUT} bytes")]
    TooMuch,
    #[error("it did not end within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("it ended with {0}")]
    Failed(ExitStatus),
}

/// Runs `command` and takes what it prints.
///
/// It runs in the working directory, with nothing on its standard input, in a
/// process group of its own that is killed at the deadline. It is to close its
/// standard output when it ends. What it prints as errors is dropped: it may
/// hold a part of the secret.
pub(super) async fn run(
    command: &[String],
    timeout: Duration,
    environment: &Environment,
) -> Result<Secret, Unavailable> {
    let name = command.first().map_or("", String::as_str);
    let broken = |error| {
        Unavailable::broken(format!("the credential command {name} failed"), error)
            .with_hint("run the command by hand to see what it says")
    };
    let output = output(command, timeout, environment)
        .await
        .map_err(broken)?;
    Secret::from_output(&output).map_err(|error| {
        Unavailable::broken(
            format!("what the credential command {name} prints is not usable"),
            error,
        )
    })
}

async fn output(
    command: &[String],
    timeout: Duration,
    environment: &Environment,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let missing = || CommandError::Start(io::ErrorKind::InvalidInput.into());
    let (program, arguments) = command.split_first().ok_or_else(missing)?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(environment.directory())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(CommandError::Start)?;
    let mut group = Group::of(&child);
    let result = tokio::time::timeout(timeout, drain(&mut child)).await;
    if let Ok(Ok((output, status))) = result {
        group.has_ended();
        return if status.success() {
            Ok(output)
        } else {
            Err(CommandError::Failed(status))
        };
    }
    drop(group);
    // It was killed, so this does not wait long; it reaps.
    child.wait().await.map_err(CommandError::Read)?;
    match result {
        Ok(drained) => drained.map(|(output, _)| output),
        Err(_elapsed) => Err(CommandError::Timeout(timeout)),
    }
}

/// Reads the output while waiting for the end.
async fn drain(child: &mut Child) -> Result<(Zeroizing<Vec<u8>>, ExitStatus), CommandError> {
    // With room for any secret, no copy is left behind in a buffer that grew.
    let mut output = Zeroizing::new(Vec::with_capacity(16 * 1024));
    let mut pipe = child
        .stdout
        .take()
        .ok_or_else(|| CommandError::Read(io::ErrorKind::BrokenPipe.into()))?
        .take(MAX_OUTPUT + 1);
    pipe.read_to_end(&mut output)
        .await
        .map_err(CommandError::Read)?;
    if pipe.limit() == 0 {
        return Err(CommandError::TooMuch);
    }
    let status = child.wait().await.map_err(CommandError::Read)?;
    Ok((output, status))
}

/// Kills a process group when dropped, also when the waiting is given up,
/// unless its program has ended by itself: then the id may be another's.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    const fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // A group that has already ended is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
