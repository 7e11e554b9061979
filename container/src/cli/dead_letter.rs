//! `drawbridge dead-letter`: look at what failed for good, and decide.
//!
//! With a `serve` these commands go through it; without one they open the
//! queue themselves.

use clap::{Args, Subcommand};
use drawbridge_shared::exit::Exit;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};
use crate::process::block_on;
use crate::serve::store::{DeadLetter, Store, Summary};
use crate::serve::submission::{Stage, SubmissionId};
use crate::serve::{
    self, Accepted, Answer, Client, Command, Purged, StoreCommand, list_line, perform_on_store,
    show_list, to_line,
};
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
    match command {
        DeadLetterCommand::List { json } => {
            let dead: Vec<Summary> = ask(StoreCommand::List {
                stage: Some(Stage::Dead),
                group: None,
                after: 0,
            })?;
            show_list(&dead, *json)?;
        }
        DeadLetterCommand::Show { id, json } => {
            let letter: DeadLetter = ask(StoreCommand::DeadLetter { id: *id })?;
            if *json {
                output::data_line(&to_line(&letter)?);
            } else {
                show(&letter);
            }
        }
        DeadLetterCommand::Retry { id } => {
            let Accepted { id } = ask(StoreCommand::Retry { id: *id })?;
            output::note(&format!("submission {id} is queued"));
        }
        DeadLetterCommand::Purge(args) => {
            let Purged { purged } = ask(StoreCommand::Purge { id: args.id })?;
            output::note(&format!("forgot {purged} dead letters"));
        }
    }
    Ok(Exit::Success)
}

fn ask<T: DeserializeOwned>(command: StoreCommand) -> Result<T> {
    block_on(async {
        let state = State::open()?;
        if let Some(mut client) = Client::find(&state).await? {
            return client.ask(&Command::Store(command)).await;
        }
        let answer = ask_offline(&state, command).await?;
        let failed = || Error::infrastructure("an answer cannot be read");
        serde_json::to_value(answer)
            .and_then(serde_json::from_value)
            .context(failed)
    })
}

/// The answer of the store itself, while no `serve` runs.
async fn ask_offline(state: &State, command: StoreCommand) -> Result<Answer> {
    let _lock = serve::lock(state)?;
    let path = state.serve_folder().join(serve::QUEUE);
    if !path.exists() {
        return match command {
            StoreCommand::List { .. } => Ok(Answer::List(Vec::new())),
            _ => Err(Error::usage("there are no dead letters")),
        };
    }
    perform_on_store(&Store::open(&path)?, command, drop).await
}

fn show(letter: &DeadLetter) {
    output::data_line(&list_line(&letter.summary));
    output::data_line(&format!("input: {}", letter.input));
    for failure in &letter.failures {
        let (attempt, code) = (failure.attempt, failure.code);
        let (class, reason) = (&failure.class, &failure.reason);
        output::data_line(&format!(
            "attempt {attempt}: {class}, exit code {code}: {reason}"
        ));
        if let Some(hint) = &failure.hint {
            output::data_line(&format!("  hint: {hint}"));
        }
        for line in failure.log.lines() {
            output::data_line(&format!("  | {line}"));
        }
    }
}
