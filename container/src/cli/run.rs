//! `drawbridge run`.

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::GroupName;

use super::RunArgs;
use crate::config::resolve;
use crate::engine::orphans;
use crate::error::{Context, Error, Result};
use crate::events::{Event, Reporter};
use crate::process::{block_on, hide_memory};
use crate::run::broker::read_snapshot;
use crate::run::{Request, follow_ups, launch, require_program, responder};
use crate::state::State;
use crate::terminal::output;

/// `drawbridge run`.
pub(super) fn run(args: &RunArgs) -> Result<Exit> {
    let printer = output::Printer::start();
    let reporter = if args.json {
        Reporter::Json(printer)
    } else {
        Reporter::Person(printer)
    };
    hide_memory();
    block_on(async {
        let done = run_to_the_end(args, reporter.clone()).await;
        reporter.report(Event::exit(&done));
        reporter.flush().await;
        done
    })
}

async fn run_to_the_end(args: &RunArgs, reporter: Reporter) -> Result<Exit> {
    let state = State::open()?;
    orphans::clean_up(&state).await?;
    launch(request(args)?, &state, reporter).await
}

fn request(args: &RunArgs) -> Result<Request> {
    let (settings, proxy) = resolve(&args.flags())?;
    let group: Option<GroupName> = args
        .group
        .as_deref()
        .map(str::parse)
        .transpose()
        .context(|| Error::usage("--group"))?;
    require_program(settings.agent, &args.program)?;
    let snapshot = args.snapshot.as_deref().map(|path| {
        read_snapshot(path).context(|| {
            let path = path.display();
            Error::usage(format!(
                "--snapshot: {path} is no snapshot of groups and tasks"
            ))
        })
    });
    Ok(Request {
        responder: responder(settings.on_request.as_deref(), args.json)?,
        snapshot: snapshot.transpose()?.unwrap_or_default(),
        prompt: follow_ups::read_prompt(&args.prompt)?,
        group,
        program: args.program.clone(),
        follow_ups: follow_ups::Source::of(&args.prompt, args.json),
        ..Request::new(settings, proxy?)
    })
}
