//! `drawbridge doctor`: everything a run needs, checked from outside, and from
//! inside a container that is started with the flags of a real run.

mod check;
mod credential;
mod inside;
mod outside;
mod peer;

use drawbridge_runner::probe::Report;
use drawbridge_shared::exit::Exit;
use serde_json::json;

use crate::config::{FlagValues, Key, RunSettings, resolve};
use crate::engine::Runtime;
use crate::engine::orphans;
use crate::error::{Context, Error, Result};
use crate::events::channel;
use crate::fake_api::{FakeApi, Received, Reply};
use crate::process::block_on;
use crate::run::{Request, launch};
use crate::state::State;
use crate::terminal::colour::Paint;
use crate::terminal::output::data_line;
use crate::terminal::progress::Progress;
use check::{Check, Place, Status};
use peer::Peer;

/// The proxy of the probe puts this in; its upstream is a stand-in.
const FAKE_KEY: &str = "sk-ant-fake-DOCTOR-0123456789";

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    settings: FlagValues<Key>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Ask the upstream whether it accepts the credential. Without this, the
    /// doctor sends nothing beyond this machine.
    #[arg(long)]
    check_credential: bool,
}

/// `drawbridge doctor`.
pub(crate) fn command(args: &DoctorArgs) -> Result<Exit> {
    let (settings, credential) = resolve(&args.settings)?;
    let checks = block_on(async {
        let progress = Progress::new();
        let state = State::open()?;
        orphans::clean_up(&state).await?;
        progress.step("looking at this machine");
        let (mut checks, runtime) = outside::inspect(&settings, &state, &credential).await;
        if let (true, Ok(config)) = (args.check_credential, credential) {
            progress.step("asking the upstream");
            checks.push(credential::try_out(config).await);
        }
        progress.step("looking from inside");
        checks.extend(inspect_inside(&settings, runtime.as_ref(), &state).await);
        Ok(checks)
    })?;
    if args.json {
        let is_well = !checks.iter().any(Check::is_failure);
        data_line(&json!({ "ok": is_well, "checks": checks }).to_string());
    } else {
        data_line(&check::show(&checks, Paint::for_stdout()));
    }
    if checks.iter().any(Check::is_failure) {
        return Ok(Exit::NotStarted);
    }
    Ok(Exit::Success)
}

async fn inspect_inside(
    settings: &RunSettings,
    runtime: Option<&Runtime>,
    state: &State,
) -> Vec<Check> {
    let skipped = |why| vec![Check::new(Place::Inside, "probe", Status::Skipped, why)];
    let Some(runtime) = runtime else {
        return skipped("nothing can be started before the failures above are mended");
    };
    let peer = match Peer::start(settings, runtime, state).await {
        Ok(peer) => peer,
        Err(error) => {
            let failed = Check::fail("other containers", &error);
            return vec![Check {
                place: Place::Inside,
                ..failed
            }];
        }
    };
    let address = peer.as_ref().map(|peer| peer.address().to_owned());
    let seen = probe(settings, runtime, state, address.as_deref()).await;
    let gone = match peer {
        Some(peer) => peer.stop().await,
        None => Ok(()),
    };
    let (report, received) = match gone.and(seen) {
        Ok(seen) => seen,
        Err(error) => {
            let failed = Check::fail("probe", &error);
            return vec![Check {
                place: Place::Inside,
                ..failed
            }];
        }
    };
    let mut checks = match runtime {
        Runtime::Container(..) => inside::judge(&report, settings, address.as_deref()),
        Runtime::Host => inside::judge_host(&report, settings),
    };
    checks.push(inside::proxy(&report, &received, FAKE_KEY));
    checks
}

/// Starts a run whose runner probes instead of talking to an agent.
async fn probe(
    settings: &RunSettings,
    runtime: &Runtime,
    state: &State,
    peer: Option<&str>,
) -> Result<(Report, Vec<Received>)> {
    let fake_api = FakeApi::start(|_| Reply::Text(String::new())).await?;
    let proxy = fake_api.proxy_config(FAKE_KEY, state)?;
    // A port of this machine that nobody but the doctor should reach.
    let canary = outside::canary(runtime, settings).await?;
    let address = canary.local_addr().map(|address| address.to_string());
    let address = address.context(|| Error::infrastructure("the canary has no address"))?;
    let file = match runtime {
        Runtime::Container(..) => "/etc/passwd".to_owned(),
        Runtime::Host => state.root().join("install-id").display().to_string(),
    };
    let mut words = vec!["probe", "--dial", &address, "--write", &file];
    words.extend(peer.iter().flat_map(|peer| ["--dial", *peer]));
    let request = Request {
        prompt: "probe".to_owned(),
        runner_args: words.into_iter().map(str::to_owned).collect(),
        ..Request::new(settings.clone(), proxy)
    };
    let (reporter, events) = channel();
    const REBUILD: &str = "build the image again: its runner may be older than this program";
    let (ended, text) = tokio::join!(launch(request, state, reporter), events.last_answer());
    ended.map_err(|error| match error.hint_text() {
        Some(_) => error,
        None => error.hint(REBUILD),
    })?;
    let failed = || Error::infrastructure("the probe gave no report").hint(REBUILD);
    let text = text.ok_or_else(failed)?;
    let report = serde_json::from_str(&text).map_err(|error| failed().caused_by(error));
    Ok((report?, fake_api.received()))
}

#[cfg(test)]
mod tests;
