//! Starting programs, watching their output, and leaving none behind.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::wait::{PATIENCE, eventually};

/// Most bytes kept of one output stream; a program that writes more fails its
/// test, for no test asks for more.
const MAX_OUTPUT_BYTES: usize = 64 * 1024 * 1024;

/// Path of a program that cargo built for these tests.
///
/// # Panics
/// Cargo has not built it.
#[must_use]
pub fn program_path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built", path.display());
    path
}

/// A running program. Dropping it kills its process group and reaps it; when
/// the test is failing, what it wrote is shown.
pub struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    out: Arc<Collected>,
    err: Arc<Collected>,
    status: Option<ExitStatus>,
}

/// How a program ended and what it wrote.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; 128 plus the signal's number if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Program {
    /// Starts a program in a process group of its own, with piped streams.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        Self::start_watched(command, |_| ())
    }

    /// Starts a program whose standard output is also shown to a function, piece
    /// by piece as it comes.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start_watched(
        command: &mut Command,
        watch_out: impl FnMut(&[u8]) + Send + 'static,
    ) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdin = child.stdin.take();
        let out = Collected::follow(child.stdout.take().unwrap(), watch_out);
        let err = Collected::follow(child.stderr.take().unwrap(), |_| ());
        Self {
            name,
            child,
            stdin,
            out,
            err,
            status: None,
        }
    }

    /// Runs a program to its end, with nothing on its standard input.
    ///
    /// # Panics
    /// It cannot be started or does not end in time.
    #[must_use]
    pub fn run(command: &mut Command) -> Ended {
        Self::run_with(command, "")
    }

    /// Runs a program to its end with a text on its standard input.
    ///
    /// # Panics
    /// It cannot be started or does not end in time.
    #[must_use]
    pub fn run_with(command: &mut Command, input: &str) -> Ended {
        let mut program = Self::start(command);
        program.write(input);
        program.close_stdin();
        program.wait()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input. A program that has ended meanwhile shows in
    /// its exit code, so a broken pipe is no failure here.
    pub fn write(&mut self, text: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin
                .write_all(text.as_bytes())
                .and_then(|()| stdin.flush());
        }
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn err(&self) -> String {
        self.err.text()
    }

    /// Waits until its standard output satisfies a predicate, and returns what
    /// the predicate found.
    ///
    /// # Panics
    /// That does not happen in time, or cannot happen any more.
    pub fn wait_for_out<T>(&self, what: &str, probe: impl FnMut(&str) -> Option<T>) -> T {
        self.out.wait_for(&self.name, what, probe)
    }

    /// Waits until its standard error satisfies a predicate.
    ///
    /// # Panics
    /// That does not happen in time, or cannot happen any more.
    pub fn wait_for_err<T>(&self, what: &str, probe: impl FnMut(&str) -> Option<T>) -> T {
        self.err.wait_for(&self.name, what, probe)
    }

    /// Sends a signal to the program alone.
    ///
    /// # Panics
    /// The process does not exist.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Kills the program alone, as a power cut would, and reaps it.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.status = Some(self.child.wait().unwrap());
    }

    /// Waits for its end, and for the end of its output.
    ///
    /// # Panics
    /// It does not end in time.
    #[must_use]
    pub fn wait(&mut self) -> Ended {
        let status = eventually(&format!("the end of {}", self.name), || {
            self.child.try_wait().unwrap()
        });
        self.status = Some(status);
        let what = "the end of its output";
        self.out.wait_closed(&self.name, what);
        self.err.wait_closed(&self.name, what);
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        Ended {
            code,
            out: self.out(),
            err: self.err(),
        }
    }

    /// Its process id as the kernel's functions take it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Ended {
    /// Fails unless the program ended with this code and said this on standard
    /// error.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn assert_error(&self, code: i32, expected: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(expected), "{self:?}");
    }

    /// The lines of its standard output, which are JSON.
    ///
    /// # Panics
    /// A line is not.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let tail = |text: String| text.chars().rev().take(8000).collect::<Vec<_>>();
            let (out, err) = (tail(self.out()), tail(self.err()));
            let (out, err): (String, String) =
                (out.iter().rev().collect(), err.iter().rev().collect());
            let name = &self.name;
            let _ = writeln!(
                std::io::stderr(),
                "--- {name} wrote to stdout:\n{out}\n--- {name} wrote to stderr:\n{err}\n---"
            );
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// A stream that is read to its end as it comes.
#[derive(Default)]
struct Collected {
    state: Mutex<Stream>,
    changed: Condvar,
}

#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    is_closed: bool,
}

impl Collected {
    fn follow(
        mut source: impl Read + Send + 'static,
        mut watch: impl FnMut(&[u8]) + Send + 'static,
    ) -> Arc<Self> {
        let collected = Arc::new(Self::default());
        let sink = Arc::clone(&collected);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                let mut state = sink.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.bytes.len() + count <= MAX_OUTPUT_BYTES {
                    state.bytes.extend_from_slice(&buffer[..count]);
                }
                sink.changed.notify_all();
                drop(state);
                watch(&buffer[..count]);
            }
            let mut state = sink.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_closed = true;
            drop(state);
            sink.changed.notify_all();
        });
        collected
    }

    fn text(&self) -> String {
        // Shown also while a test is failing, which may have poisoned it.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&state.bytes).into_owned()
    }

    fn wait_for<T>(&self, name: &str, what: &str, mut probe: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = probe(&String::from_utf8_lossy(&state.bytes)) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let is_closed = state.is_closed;
            if is_closed || left.is_zero() {
                // A panic that holds the lock would keep the output from being
                // shown.
                drop(state);
                assert!(!is_closed, "{name} ended its output without {what}");
                panic!("waited {PATIENCE:?} for {what} of {name}");
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn wait_closed(&self, name: &str, what: &str) {
        let state = self.state.lock().unwrap();
        let (state, wait) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !state.is_closed)
            .unwrap();
        drop(state);
        assert!(
            !wait.timed_out(),
            "waited {PATIENCE:?} for {what} of {name}"
        );
    }
}
