//! `drawbridge dead-letter`: look at what failed for good, and decide.
//!
//! With a `serve` these commands go through it; without one they open the
//! queue themselves.

use clap::{Args, Subcommand};
use drawbridge_shared::exit::Exit;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::process::block_on;
use crate::serve::store::Store;
use crate::serve::submission::{Stage, SubmissionId};
use crate::serve::{self, Client, Command, perform_offline, show_list};
use crate::state::State;
use crate::terminal::output;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// Show all dead letters, oldest first.
    List {
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Show one with its input, its attempts, and the end of their logs.
    Show {
        /// The submission.
        #[arg(value_name = "NUMBER")]
        id: SubmissionId,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Put one back into the queue for one attempt more; at most three times.
    Retry {
        /// The submission.
        #[arg(value_name = "NUMBER")]
        id: SubmissionId,
    },
    /// Forget one, or all.
    Purge(PurgeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// The submission.
    #[arg(value_name = "NUMBER", required_unless_present = "all")]
    id: Option<SubmissionId>,
    /// Forget all dead letters.
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

/// Carries the command out.
pub(crate) fn command(command: &DeadLetterCommand) -> Result<Exit> {
    let asked = match command {
        DeadLetterCommand::List { .. } => Command::List {
            stage: Some(Stage::Dead),
            group: None,
            after: 0,
        },
        DeadLetterCommand::Show { id, .. } => Command::DeadLetter { id: *id },
        DeadLetterCommand::Retry { id } => Command::Retry { id: *id },
        DeadLetterCommand::Purge(args) => Command::Purge { id: args.id },
    };
    let answer = block_on(ask(asked))?;
    match command {
        DeadLetterCommand::List { json } => show_list(&answer, *json),
        DeadLetterCommand::Show { json: true, .. } => output::data_line(&answer.to_string()),
        DeadLetterCommand::Show { .. } => show(&answer),
        DeadLetterCommand::Retry { id } => output::note(&format!("submission {id} is queued")),
        DeadLetterCommand::Purge(_) => {
            output::note(&format!("forgot {} dead letters", answer["purged"]));
        }
    }
    Ok(Exit::Success)
}

async fn ask(command: Command) -> Result<Value> {
    let state = State::open()?;
    if let Some(mut client) = Client::find(&state).await? {
        return client.ask(&command).await;
    }
    let _lock = serve::lock(&state)?;
    let path = state.serve_folder().join(serve::QUEUE);
    if !path.exists() {
        return match command {
            Command::List { .. } => Ok(Value::Array(Vec::new())),
            _ => Err(Error::usage("there are no dead letters")),
        };
    }
    perform_offline(&Store::open(&path)?, command).await
}

fn show(letter: &Value) {
    show_list(&Value::Array(vec![letter.clone()]), false);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    output::data_line(&format!("input: {}", text(&letter["input"])));
    for failure in letter["failures"].as_array().into_iter().flatten() {
        let (attempt, code) = (&failure["attempt"], &failure["code"]);
        let (class, reason) = (text(&failure["class"]), text(&failure["reason"]));
        output::data_line(&format!(
            "attempt {attempt}: {class}, exit code {code}: {reason}"
        ));
        if let Some(hint) = failure["hint"].as_str() {
            output::data_line(&format!("  hint: {hint}"));
        }
        for line in text(&failure["log"]).lines() {
            output::data_line(&format!("  | {line}"));
        }
    }
}
