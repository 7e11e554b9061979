//! Another container, for the probe to try to reach.

use std::time::Duration;

use drawbridge_shared::ids::RunId;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::config::RunSettings;
use crate::engine::{Engine, Facts, Runtime};
use crate::error::{Context, Error, Result};
use crate::state::{RunFolder, State};

/// The port on which it accepts connections.
const PORT: u16 = 4711;
/// Longest wait until it does.
const READY: Duration = Duration::from_secs(20);

/// A container that listens, on a network of its own like that of a run.
#[derive(Debug)]
pub(super) struct Peer {
    engine: Engine,
    run: RunId,
    address: String,
    /// While it is there, a doctor that is killed is cleaned up after.
    folder: RunFolder,
}

impl Peer {
    /// Starts one, where the engine can tell its address.
    pub(super) async fn start(
        settings: &RunSettings,
        runtime: &Runtime,
        state: &State,
    ) -> Result<Option<Self>> {
        let (engine, facts) = match runtime {
            // Whether it listens can be seen from here only without a machine
            // in between.
            Runtime::Container(engine @ Engine::Docker, facts) if !facts.is_in_vm => {
                (engine, facts)
            }
            _ => return Ok(None),
        };
        let failed = || Error::not_started("cannot start a second container to be reached");
        let run = RunId::random().context(failed)?;
        let name = format!("drawbridge-peer-{run}");
        let mut folder = state.new_run(&run)?;
        folder.note_container(engine.program(), &name)?;
        let mut peer = Self {
            engine: *engine,
            run,
            address: String::new(),
            folder,
        };
        match peer.listen(settings, facts, state, &name).await {
            Ok(address) => {
                peer.address = address;
                Ok(Some(peer))
            }
            Err(error) => {
                peer.stop().await?;
                Err(error)
            }
        }
    }

    /// Starts the container, and returns where it accepts connections.
    async fn listen(
        &self,
        settings: &RunSettings,
        facts: &Facts,
        state: &State,
        name: &str,
    ) -> Result<String> {
        let (engine, run) = (self.engine, &self.run);
        let network = engine.create_network(facts, run, state.install()).await?;
        let args = args(settings, state, run, name, network.name())?;
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        engine.run_detached(&args).await?;
        listening(engine, name).await
    }

    /// Where it accepts connections, also from this machine.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Removes it, its network and its folder. When that fails, the next command
    /// tries again.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.engine.wait_until_gone(&self.run).await?;
        self.folder.release();
        Ok(())
    }
}

/// The arguments that start it, shut off like a run.
fn args(
    settings: &RunSettings,
    state: &State,
    run: &RunId,
    name: &str,
    network: &str,
) -> Result<Vec<String>> {
    let flags = "run --detach --rm --pull=never --log-driver=none --read-only --cap-drop=ALL \
                 --security-opt no-new-privileges --pids-limit 64 --memory 64m";
    let mut args: Vec<_> = flags.split(' ').map(str::to_owned).collect();
    for (flag, value) in [
        ("--name", name.to_owned()),
        ("--label", format!("drawbridge.install={}", state.install())),
        ("--label", format!("drawbridge.run={run}")),
        ("--network", network.to_owned()),
        ("--user", settings.agent_user()?.to_string()),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    args.push(settings.image.to_string());
    args.extend(["probe", "--listen", &PORT.to_string()].map(str::to_owned));
    Ok(args)
}

/// Waits until it can be reached from this machine: a probe that cannot reach it
/// would prove nothing otherwise.
async fn listening(engine: Engine, name: &str) -> Result<String> {
    let address = format!("{}:{PORT}", engine.address_of(name).await?);
    let connected = timeout(READY, async {
        while TcpStream::connect(&address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    match connected.await {
        Ok(()) => Ok(address),
        Err(_) => Err(Error::infrastructure(format!(
            "a second container at {address} cannot be reached from here"
        ))),
    }
}
