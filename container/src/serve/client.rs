//! The commands that talk to a running `serve`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::GroupName;
use drawbridge_shared::ipc::HostMessage;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::{Accepted, Closed, Submitted, to_line};
use super::command::{Command, LiveCommand, StoreCommand};
use super::connection::Client;
use super::stream::Wanted;
use crate::config::{FlagValues, Key, Scope, SettingKey};
use crate::error::{Context, Error, Result};
use crate::mounts::MountRequest;
use crate::process::block_on;
use crate::run::follow_ups::read_prompt;
use crate::serve::store::Summary;
use crate::serve::submission::{Kind, Stage, Submission, SubmissionId};
use crate::terminal::output;

/// Arguments of `drawbridge submit`.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// The first message to the agent; `-` reads it from standard input.
    #[arg(long, value_name = "TEXT|-", allow_hyphen_values = true)]
    prompt: String,
    /// Keep workspace, home and conversation under this name for later runs.
    #[arg(long, value_name = "NAME")]
    group: Option<GroupName>,
    /// Work on a schedule: it comes before the group's messages.
    #[arg(long)]
    task: bool,
    /// A name of your own; submitting it again gives the first one's number.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Go on after the first answer, until `drawbridge close`.
    #[arg(long)]
    stay_open: bool,
    /// Wait for the end, print the answers, and exit as the run did.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    settings: FlagValues<Key>,
    /// Program and arguments of `--agent command`.
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// Arguments of `drawbridge send`.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct SendArgs {
    /// Submission whose run gets the message.
    #[arg(long, value_name = "NUMBER", required_unless_present = "group")]
    id: Option<SubmissionId>,
    /// Group whose live run gets it; without one it is submitted.
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    group: Option<GroupName>,
    /// The message; `-` reads it from standard input.
    #[arg(value_name = "TEXT|-", allow_hyphen_values = true)]
    text: String,
}

/// Arguments of `drawbridge list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those that are this far.
    #[arg(long, value_name = "queued|running|done|dead", value_parser = parse_stage)]
    stage: Option<Stage>,
    /// Only those of this group.
    #[arg(long, value_name = "NAME")]
    group: Option<GroupName>,
    /// Only those with larger numbers; a list has at most 1000 entries.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: i64,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Arguments of `drawbridge events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Position of the last event that you have.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    since: i64,
    /// Only those of this submission.
    #[arg(long, value_name = "NUMBER")]
    submission: Option<SubmissionId>,
    /// Wait for more, until interrupted.
    #[arg(long)]
    follow: bool,
}

/// Arguments of `drawbridge close`.
#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    /// The submission.
    #[arg(value_name = "NUMBER")]
    id: SubmissionId,
    /// Do not wait for the end of the present turn.
    #[arg(long)]
    now: bool,
}

/// Arguments of `drawbridge interrupt`.
#[derive(Debug, Args)]
pub(crate) struct InterruptArgs {
    /// The submission.
    #[arg(value_name = "NUMBER")]
    id: SubmissionId,
}

fn parse_stage(text: &str) -> Result<Stage, String> {
    serde_json::from_value(Value::String(text.to_owned()))
        .map_err(|_| "accepted are queued, running, done and dead".to_owned())
}

/// `drawbridge submit`.
pub(crate) fn submit(args: &SubmitArgs) -> Result<Exit> {
    let submission = Submission {
        prompt: read_prompt(&args.prompt)?,
        group: args.group.clone(),
        kind: if args.task { Kind::Task } else { Kind::Message },
        key: args.key.clone(),
        settings: settings(&args.settings),
        mounts: mounts(&args.settings)?,
        agent_args: args
            .settings
            .all(Key::AgentArg)
            .map(str::to_owned)
            .collect(),
        program: args.program.clone(),
        stay_open: args.stay_open,
    };
    let failed = || Error::usage("the submission cannot be written");
    let text = serde_json::to_string(&submission).context(failed)?;
    let input = RawValue::from_string(text).context(failed)?;
    block_on(async {
        let mut client = Client::connect().await?;
        let command = Command::Live(LiveCommand::Submit(input));
        let Submitted { id, .. } = client.ask(&command).await?;
        if args.wait {
            return wait(&mut client, id).await;
        }
        output::data_line(&id.to_string());
        Ok(Exit::Success)
    })
}

/// The settings given as flags, by their names.
fn settings(flags: &FlagValues<Key>) -> BTreeMap<String, String> {
    let keys = Key::in_scope(Scope::Submission);
    keys.filter_map(|key| Some((key.name().to_owned(), flags.all(key).next()?.to_owned())))
        .collect()
}

/// The mounts given as flags, as `serve` finds them from its own folder.
fn mounts(flags: &FlagValues<Key>) -> Result<Vec<String>> {
    let mounts = flags.all(Key::Mount);
    mounts
        .map(|text| Ok(MountRequest::from_flag(text)?.absolute()?.to_string()))
        .collect()
}

/// One entry of the event log.
#[derive(Deserialize)]
struct Entry {
    seq: i64,
    event: AwaitedEvent,
}

/// The events that `submit --wait` reacts to, with the fields that it needs.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum AwaitedEvent {
    Start,
    Result {
        result: Option<String>,
    },
    Retry {
        error: String,
    },
    Done {
        code: u8,
    },
    Dead {
        error: String,
        code: u8,
    },
    #[serde(other)]
    Other,
}

/// Prints the answers as they come, and ends as the submission does. When
/// `serve` goes away meanwhile, the submission does not, and the events so far
/// show what becomes of it.
async fn wait(client: &mut Client, id: SubmissionId) -> Result<Exit> {
    let wanted = Wanted {
        since: 0,
        submission: Some(id),
        follow: true,
    };
    let mut events = client.events(wanted).await?;
    let mut has_begun = false;
    while let Some(line) = events.next().await? {
        let Entry { seq, event } = serde_json::from_slice(&line)
            .context(|| Error::infrastructure("serve sent an event that cannot be read"))?;
        tracing::debug!("event {seq}");
        match event {
            AwaitedEvent::Result { result } => {
                if let Some(text) = result {
                    output::data_line(&text);
                }
            }
            // From here on the next `serve` takes it that the agent has acted.
            AwaitedEvent::Start => has_begun = true,
            AwaitedEvent::Done { code } => return Ok(Exit::Child(code)),
            AwaitedEvent::Retry { error } => {
                has_begun = false;
                output::note(&format!("warning: it is tried again: {error}"));
            }
            AwaitedEvent::Dead { error, code } => {
                return Err(Error::new(Exit::Child(code), error)
                    .hint(format!("`drawbridge dead-letter show {id}` tells the rest")));
            }
            AwaitedEvent::Other => {}
        }
    }
    Err(abandoned(id, has_begun))
}

/// The error of one who waits for a submission that `serve` left behind.
fn abandoned(id: SubmissionId, has_begun: bool) -> Error {
    let hint = if has_begun {
        format!(
            "its agent had begun, so the next `drawbridge serve` does not repeat it without \
             --retry-agent-failures: look with `drawbridge dead-letter show {id}`, then \
             `drawbridge dead-letter retry {id}`"
        )
    } else {
        "it is kept; the next `drawbridge serve` goes on with it".to_owned()
    };
    Error::infrastructure(format!("serve ended before submission {id}")).hint(hint)
}

/// `drawbridge send`.
pub(crate) fn send(args: &SendArgs) -> Result<Exit> {
    let command = LiveCommand::Send {
        id: args.id,
        group: args.group.clone(),
        message: HostMessage::text(read_prompt(&args.text)?),
    };
    let Submitted { id, .. } = ask(&Command::Live(command))?;
    output::data_line(&id.to_string());
    Ok(Exit::Success)
}

/// `drawbridge close`.
pub(crate) fn close(args: &CloseArgs) -> Result<Exit> {
    let (id, now) = (args.id, args.now);
    let _: Closed = ask(&Command::Live(LiveCommand::Close { id, now }))?;
    Ok(Exit::Success)
}

/// `drawbridge interrupt`.
pub(crate) fn interrupt(args: &InterruptArgs) -> Result<Exit> {
    let id = args.id;
    let _: Accepted = ask(&Command::Live(LiveCommand::Interrupt { id }))?;
    Ok(Exit::Success)
}

/// `drawbridge list`.
pub(crate) fn list(args: &ListArgs) -> Result<Exit> {
    let command = StoreCommand::List {
        stage: args.stage,
        group: args.group.clone(),
        after: args.after,
    };
    let list: Vec<Summary> = ask(&Command::Store(command))?;
    show_list(&list, args.json)?;
    Ok(Exit::Success)
}

/// Prints a list of submissions.
pub(crate) fn show_list(list: &[Summary], json: bool) -> Result<()> {
    for entry in list {
        let line = if json {
            to_line(entry)?
        } else {
            list_line(entry)
        };
        output::data_line(&line);
    }
    Ok(())
}

/// One line of a list for a person.
pub(crate) fn list_line(entry: &Summary) -> String {
    let (id, attempt) = (entry.id, entry.attempt);
    let (stage, kind) = (entry.stage.name(), entry.kind.name());
    let group = entry.group.as_ref().map_or("-", GroupName::as_str);
    let mut line = format!("{id:>6}  {stage:<8} {kind:<8} {group:<16} attempt {attempt}");
    if let Some(reason) = &entry.reason {
        let end = reason.floor_char_boundary(100);
        let _ = write!(line, "  {}", &reason[..end]);
    }
    line
}

/// `drawbridge events`.
pub(crate) fn events(args: &EventsArgs) -> Result<Exit> {
    let wanted = Wanted {
        since: args.since,
        submission: args.submission,
        follow: args.follow,
    };
    block_on(async {
        let mut events = Client::connect().await?.events(wanted).await?;
        while let Some(line) = events.next().await? {
            output::data_line(&String::from_utf8_lossy(&line));
        }
        Ok(Exit::Success)
    })
}

fn ask<T: DeserializeOwned>(command: &Command) -> Result<T> {
    block_on(async { Client::connect().await?.ask(command).await })
}
