//! `drawbridge serve` and its callers.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use crate::launcher::{Launcher, events};
use crate::program::{Ended, Program};

/// A running `drawbridge serve`.
#[derive(Debug)]
pub struct Serve<'a> {
    launcher: &'a Launcher,
    /// The program.
    pub program: Program,
}

impl Launcher {
    /// Starts `drawbridge serve` and waits until it takes callers.
    #[must_use]
    pub fn serve(&self, args: &[&str]) -> Serve<'_> {
        let mut command = self.command(&[&["serve"], args].concat());
        let program = Program::start(&mut command);
        program.wait_for_err("its socket", |err| {
            err.contains("serving on ").then_some(())
        });
        Serve {
            launcher: self,
            program,
        }
    }

    /// All events, also while no `serve` runs.
    ///
    /// # Panics
    /// There is no `serve` to ask.
    #[must_use]
    pub fn logged(&self) -> Vec<Value> {
        let ended = self.run(&["events"]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        events(&ended.out)
    }
}

impl Serve<'_> {
    /// Submits work for a shell script that gets the prompt on its standard
    /// input, and returns its number.
    ///
    /// # Panics
    /// It is refused.
    #[must_use]
    pub fn submit(&self, args: &[&str], prompt: &str, script: &str) -> i64 {
        let ended = self.try_submit(args, prompt, script);
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out.trim().parse().unwrap()
    }

    /// The same, also when it is refused.
    #[must_use]
    pub fn try_submit(&self, args: &[&str], prompt: &str, script: &str) -> Ended {
        let before = ["submit", "--prompt", prompt];
        let after = ["--", "/bin/bash", "-c", script];
        self.launcher.run(&[&before, args, &after].concat())
    }

    /// Waits until a submission has an event of this type, and returns it.
    #[must_use]
    pub fn wait_for(&self, id: i64, kind: &str) -> Value {
        let number = id.to_string();
        let args = ["events", "--follow", "--submission", &number];
        let reader = Program::start(&mut self.launcher.command(&args));
        reader.wait_for_out(&format!("{kind} of submission {id}"), |out| {
            let mut events = events(out)
                .into_iter()
                .map(|mut entry| entry["event"].take());
            events.find(|event| event["type"] == kind)
        })
    }

    /// Waits until a submission has so many results.
    pub fn wait_for_results(&self, id: i64, count: usize) {
        let number = id.to_string();
        let args = ["events", "--follow", "--submission", &number];
        let reader = Program::start(&mut self.launcher.command(&args));
        reader.wait_for_out(&format!("{count} results of submission {id}"), |out| {
            (results(&events(out), id).len() >= count).then_some(())
        });
    }

    /// The answers of a submission so far.
    #[must_use]
    pub fn results(&self, id: i64) -> Vec<String> {
        results(&self.launcher.logged(), id)
    }

    /// The stage of each submission.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn stages(&self) -> BTreeMap<i64, String> {
        let ended = self.launcher.run(&["list", "--json"]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        let entries = events(&ended.out).into_iter();
        entries
            .map(|entry| {
                let stage = entry["stage"].as_str().unwrap().to_owned();
                (entry["id"].as_i64().unwrap(), stage)
            })
            .collect()
    }

    /// Waits until so many submissions have ended, with a result or as dead
    /// letters.
    pub fn wait_for_ends(&self, count: usize) {
        let args = ["events", "--follow"];
        let reader = Program::start(&mut self.launcher.command(&args));
        // Each end within the usual patience of the one before.
        for so_far in 1..=count {
            reader.wait_for_out(&format!("{so_far} ends"), |out| {
                (ends(&events(out)).len() >= so_far).then_some(())
            });
        }
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        self.program.signal(Signal::KILL);
        let _ = self.program.wait();
    }

    /// Asks it to end, and waits until it has.
    #[must_use]
    pub fn end(mut self) -> Ended {
        self.program.signal(Signal::TERM);
        self.program.wait()
    }
}

/// Submission and type of each event that ends one, in order.
#[must_use]
pub fn ends(log: &[Value]) -> Vec<(i64, String)> {
    let ends = log.iter().filter_map(|entry| {
        let kind = entry["event"]["type"].as_str()?;
        let is_end = kind == "done" || kind == "dead";
        is_end.then(|| {
            (
                entry["submission"].as_i64().unwrap_or_default(),
                kind.to_owned(),
            )
        })
    });
    ends.collect()
}

fn results(log: &[Value], id: i64) -> Vec<String> {
    let of_it = log.iter().filter(|entry| entry["submission"] == id);
    let results = of_it.filter(|entry| entry["event"]["type"] == "result");
    results
        .filter_map(|entry| entry["event"]["result"].as_str().map(str::to_owned))
        .collect()
}
