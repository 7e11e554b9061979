//! Events of a run, for a person or as NDJSON.

mod channel;
mod hint;

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::{GroupName, RunId};
use drawbridge_shared::protocol::{AgentKind, ErrorKind, Progress, RecordStatus, RunRecord};
use serde::Serialize;

use crate::engine::Isolation;
use crate::error::Error;
use crate::requests::{Asked, Request};
use crate::terminal::output::{self, Printer};

use channel::EventSender;
pub(crate) use channel::{Listener, RecordedEvent, channel};
use hint::hint_for;

/// One event of a run. The last one is always [`Event::Exit`].
#[derive(Clone, Debug, Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Event {
    /// The agent is about to start, isolated as described.
    Start {
        run: RunId,
        runtime: &'static str,
        group: GroupName,
        agent: AgentKind,
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        isolation: Isolation,
    },
    /// The agent answered, or could not.
    Result(RunRecord),
    /// Something happened on the way to an answer.
    Progress(RunRecord),
    /// The agent asks for something that it may ask for.
    Request(Asked),
    /// Something is not as it should be, and the run goes on.
    Warning { message: String },
    /// The program of the run has ended or was stopped.
    Stopped {
        /// Whether the agent had a message, so that it may have done something.
        reached_agent: bool,
        /// The last lines of the runner's log.
        log: Vec<String>,
    },
    /// The command is over.
    Exit {
        code: u8,
        class: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

impl Event {
    /// The last event of a command.
    pub(crate) fn exit(done: &Result<Exit, Error>) -> Self {
        let (exit, error) = match done {
            Ok(exit) => (*exit, None),
            Err(error) => (error.exit(), Some(error)),
        };
        Self::Exit {
            code: exit.code(),
            class: class(exit),
            error: error.map(Error::one_line),
            hint: error.and_then(Error::hint_text).map(str::to_owned),
        }
    }
}

/// The class of an exit: who is at fault.
const fn class(exit: Exit) -> &'static str {
    match exit {
        Exit::Success => "success",
        Exit::AgentFailed | Exit::Child(_) => "agent-failed",
        Exit::Usage => "usage",
        Exit::NotStarted => "not-started",
        Exit::Infrastructure => "infrastructure",
        Exit::TimedOut => "timed-out",
        Exit::Interrupted => "interrupted",
    }
}

/// Where events go.
#[derive(Clone, Debug)]
pub(crate) enum Reporter {
    /// Answers on standard output, the rest on standard error.
    Person(Printer),
    /// Every event as a line of JSON on standard output.
    Json(Printer),
    /// To another part of this program.
    Channel(EventSender),
}

impl Reporter {
    pub(crate) fn report(&self, event: Event) {
        match self {
            Self::Person(printer) => report_to_person(&event, printer),
            Self::Json(printer) => {
                if let Some(line) = to_json(&event) {
                    printer.push(line);
                }
            }
            Self::Channel(sender) => {
                if let Some(json) = to_json(&event) {
                    sender.send(RecordedEvent { event, json });
                }
            }
        }
    }

    pub(crate) fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        self.report(Event::Warning { message });
    }

    /// Waits until there is room for more events.
    pub(crate) async fn capacity(&self) {
        match self {
            Self::Person(printer) | Self::Json(printer) => printer.capacity().await,
            Self::Channel(teller) => teller.capacity().await,
        }
    }

    /// Waits until what was said is on record, where a record is kept: what comes
    /// next must not be done unrecorded.
    pub(crate) async fn persisted(&self) {
        if let Self::Channel(teller) = self {
            teller.flush().await;
        }
    }

    /// Waits until all events are written, if their reader reads them.
    pub(crate) async fn flush(&self) {
        match self {
            Self::Person(printer) | Self::Json(printer) => printer.flush().await,
            Self::Channel(teller) => teller.flush().await,
        }
    }
}

/// The line of an event. One that cannot be written is reported itself.
fn to_json(event: &Event) -> Option<String> {
    serde_json::to_string(event)
        .inspect_err(|error| output::note(&format!("warning: an event is lost: {error}")))
        .ok()
}

fn report_to_person(event: &Event, printer: &Printer) {
    match event {
        Event::Start {
            run,
            runtime,
            isolation,
            ..
        } => output::note(&format!("{run} on {runtime}: {isolation}")),
        Event::Result(record) => show_result(record, printer),
        Event::Request(asked) => show_request(asked, printer),
        Event::Warning { message } => output::note(&format!("warning: {message}")),
        Event::Progress(record) => show_progress(record),
        Event::Stopped { .. } => {}
        // The error itself is printed by `main_impl`, for all commands alike.
        Event::Exit { .. } => {}
    }
}

fn show_result(record: &RunRecord, printer: &Printer) {
    if let Some(notice) = &record.details.notice {
        output::note(&format!("warning: {}", output::truncate_line(notice)));
    }
    match (record.status, &record.result, &record.error) {
        (RecordStatus::Success, Some(text), _) => printer.push(text.clone()),
        (RecordStatus::Success, None, _) => {}
        // The end of the command says who stopped the run, and why.
        _ if record.details.error_kind == Some(ErrorKind::Stopped) => {}
        (RecordStatus::Error, _, error) => {
            let error = error.as_deref().unwrap_or("it gave no reason");
            let error = Error::agent(format!("the agent failed: {error}"));
            output::error(&match hint_for(&record.details) {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
    }
}

/// Of what happens on the way to an answer, a person has to know why there is none
/// yet: an agent may try a call again for minutes.
fn show_progress(record: &RunRecord) {
    if let Some(Progress::Retry { error }) = &record.details.progress {
        let error = output::truncate_line(error);
        output::note(&format!("warning: a model call is tried again: {error}"));
    }
}

/// Shows a request. Messages of the agent go where its answers go.
fn show_request(asked: &Asked, printer: &Printer) {
    match &asked.request {
        Request::Message { text, .. } => printer.push(text.clone()),
        Request::File { text, .. } => {
            if let Some(text) = text {
                printer.push(text.clone());
            }
            if let Some(file) = &asked.file {
                output::note(&format!("the agent sends {}", file.display()));
            }
        }
        Request::AskUser {
            question, options, ..
        } => {
            output::note(&format!("the agent asks: {question}"));
            for option in options {
                output::note(&format!("  - {option}"));
            }
        }
        // It is refused, and the warning says so.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(events: &[Event]) -> String {
        let lines = events.iter().map(|e| serde_json::to_string(e).unwrap());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn events_are_tagged_lines_of_json() {
        let failed = Err(Error::not_started("docker has no image x").hint("build it"));
        insta::assert_snapshot!(lines(&[
            Event::Start {
                run: "run-00112233".parse().unwrap(),
                runtime: "host",
                group: "main".parse().unwrap(),
                agent: AgentKind::Claude,
                image: None,
                isolation: Isolation {
                    isolated: false,
                    network: "host",
                    user: "1000:1000".to_owned(),
                    sandbox: None,
                    container: None,
                    mounts: Vec::new(),
                    masked: 0,
                },
            },
            Event::Result(RunRecord::answer(Some("hi".to_owned()), None)),
            Event::Result(RunRecord::failure("no", Some("s1".to_owned()))),
            Event::Warning { message: "slow".to_owned() },
            Event::Stopped { reached_agent: true, log: vec!["bye".to_owned()] },
            Event::exit(&Ok(Exit::Success)),
            Event::exit(&failed),
        ]), @r#"
    {"type":"start","run":"run-00112233","runtime":"host","group":"main","agent":"claude","isolation":{"isolated":false,"network":"host","user":"1000:1000","masked":0}}
    {"type":"result","status":"success","result":"hi","kind":"answer"}
    {"type":"result","status":"error","result":null,"newSessionId":"s1","error":"no","kind":"error"}
    {"type":"warning","message":"slow"}
    {"type":"stopped","reachedAgent":true,"log":["bye"]}
    {"type":"exit","code":0,"class":"success"}
    {"type":"exit","code":3,"class":"not-started","error":"docker has no image x","hint":"build it"}
    "#);
    }
}
