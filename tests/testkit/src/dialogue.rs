//! Programs that are driven by lines of JSON.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Ended, Program};

/// A running program that takes and writes lines of JSON. Each line of its output
/// is read once.
#[derive(Debug)]
pub struct Dialogue {
    /// The program.
    pub program: Program,
    read: usize,
}

impl Dialogue {
    /// Starts a program.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        Self {
            program: Program::start(command),
            read: 0,
        }
    }

    /// Writes one line.
    pub fn send(&mut self, line: &Value) {
        self.program.write(&format!("{line}\n"));
    }

    /// The next line.
    ///
    /// # Panics
    /// None comes in time, or it is not JSON.
    pub fn next_line(&mut self) -> Value {
        let read = self.read;
        let line = self.program.wait_for_out("another line", |out| {
            let (line, _) = out.get(read..)?.split_once('\n')?;
            Some(line.to_owned())
        });
        self.read += line.len() + 1;
        serde_json::from_str(&line).unwrap()
    }

    /// The lines up to the first one that satisfies a predicate, which is the last
    /// of them.
    pub fn until(&mut self, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut lines = Vec::new();
        loop {
            let line = self.next_line();
            let is_over = is_last(&line);
            lines.push(line);
            if is_over {
                return lines;
            }
        }
    }

    /// Skips to the first line that satisfies a predicate.
    ///
    /// # Panics
    /// None does in time.
    pub fn find(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        self.until(is_it).pop().unwrap()
    }

    /// Closes its standard input and waits for its end.
    #[must_use]
    pub fn end(mut self) -> Ended {
        self.program.close_stdin();
        self.program.wait()
    }

    /// Sends it a signal and waits for its end.
    #[must_use]
    pub fn stop(mut self, signal: Signal) -> Ended {
        self.program.signal(signal);
        self.program.wait()
    }
}
