//! A bridge network for one run alone, so that containers cannot reach each
//! other. It carries the labels of its run, by which it is swept.

use std::net::IpAddr;
use std::time::Duration;

use drawbridge_shared::ids::RunId;
use serde::Deserialize;

use super::program::{ANSWER, Listed};
use super::{Engine, Facts};
use crate::error::{Context, Error, Result};
use crate::spec::InstallId;

/// First letters of the names of our bridge interfaces, for firewall rules.
pub(crate) const BRIDGE_PREFIX: &str = "drawb-";
/// Longest name of an interface, `IFNAMSIZ` without its final zero.
const MAX_INTERFACE_NAME: usize = 15;
/// An engine that is removing a container may hold its network a moment longer.
const RELEASE: Duration = Duration::from_secs(10);

/// The network of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunNetwork {
    name: String,
    gateway: Option<IpAddr>,
}

impl RunNetwork {
    /// The name by which a container is attached to it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// This machine's address in it; absent where the engine runs in a virtual
    /// machine and forwards a name to our loopback instead.
    pub(crate) const fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }
}

/// A name that the kernel accepts and that says whose interface it is.
fn interface_name(run: &RunId) -> String {
    let digits = run.as_str().trim_start_matches("run-");
    let room = MAX_INTERFACE_NAME - BRIDGE_PREFIX.len();
    format!("{BRIDGE_PREFIX}{}", &digits[..digits.len().min(room)])
}

/// The arguments that make the network of a run.
fn create_args(
    engine: Engine,
    facts: &Facts,
    run: &RunId,
    install: &InstallId,
    name: &str,
) -> Vec<String> {
    let mut args = vec!["network".to_owned(), "create".to_owned()];
    let mut pair = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
    pair("--label", format!("drawbridge.install={install}"));
    pair("--label", format!("drawbridge.run={run}"));
    if engine == Engine::Docker {
        pair("--driver", "bridge".to_owned());
        if !facts.is_in_vm {
            let bridge = interface_name(run);
            pair("--opt", format!("com.docker.network.bridge.name={bridge}"));
        }
    }
    args.push(name.to_owned());
    args
}

impl Engine {
    /// Makes the network of a run.
    pub(crate) async fn create_network(
        self,
        facts: &Facts,
        run: &RunId,
        install: &InstallId,
    ) -> Result<RunNetwork> {
        let name = format!("drawbridge-{run}");
        let program = self.program();
        let failed = || Error::not_started(format!("{program} cannot make a network for {run}"));
        let args = create_args(self, facts, run, install, &name);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let answer = self.ask(&args, ANSWER).await.context(failed)?;
        if !answer.status.success() {
            return Err(failed().caused_by(answer.stderr_summary()).hint(
                "an engine has room for some thirty networks at once, unless its \
                 default-address-pools are larger; `drawbridge clean` removes ours",
            ));
        }
        if self == Self::Apple || facts.is_in_vm {
            let gateway = None;
            return Ok(RunNetwork { name, gateway });
        }
        match self.gateway(&name).await {
            Ok(gateway) => Ok(RunNetwork {
                name,
                gateway: Some(gateway),
            }),
            Err(error) => {
                self.remove_networks(run).await?;
                Err(error)
            }
        }
    }

    async fn gateway(self, name: &str) -> Result<IpAddr> {
        let failed =
            || Error::not_started(format!("network {name} has no address of this machine"));
        let args = [
            "network",
            "inspect",
            "--format",
            "{{json .IPAM.Config}}",
            name,
        ];
        let answer = self.ask(&args, ANSWER).await.context(failed)?;
        let configs: Vec<Ipam> = serde_json::from_str(&answer.stdout).context(failed)?;
        let mut gateways = configs.into_iter().filter_map(|config| config.gateway);
        gateways.find(IpAddr::is_ipv4).ok_or_else(failed)
    }

    /// Removes the networks of a run, and makes sure that they are gone.
    pub(crate) async fn remove_networks(self, run: &RunId) -> Result<()> {
        let failed = || {
            let what = format!("cannot make sure that the network of {run} is gone");
            Error::infrastructure(what).hint("run `drawbridge clean` when the engine works again")
        };
        let deadline = tokio::time::Instant::now() + RELEASE;
        loop {
            let listed = self.networks("drawbridge.run", run.as_str()).await;
            let Some(left) = listed.context(failed)?.pop() else {
                return Ok(());
            };
            if tokio::time::Instant::now() > deadline {
                return Err(failed().caused_by(format!("{} is still there", left.id)));
            }
            let verb = if self == Self::Apple { "delete" } else { "rm" };
            // It fails as long as the engine is removing its container.
            let _ = self.ask(&["network", verb, &left.id], ANSWER).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The networks that have a label of ours with this value.
    pub(super) async fn networks(self, label: &str, value: &str) -> Result<Vec<Listed>> {
        let verb = if self == Self::Apple { "list" } else { "ls" };
        self.listed(&["network", verb], label, value).await
    }
}

/// One entry of `IPAM.Config`.
#[derive(Debug, Deserialize)]
struct Ipam {
    #[serde(rename = "Gateway")]
    gateway: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_carries_the_labels_of_its_run() {
        let run: RunId = "run-0011223344556677".parse().unwrap();
        let install = "00112233445566aa".parse().unwrap();
        let args =
            |engine, facts: &Facts| create_args(engine, facts, &run, &install, "x").join(" ");
        insta::assert_snapshot!(args(Engine::Docker, &Facts::default()), @"network create --label drawbridge.install=00112233445566aa --label drawbridge.run=run-0011223344556677 --driver bridge --opt com.docker.network.bridge.name=drawb-001122334 x");
        insta::assert_snapshot!(args(Engine::Apple, &Facts::of_apple()), @"network create --label drawbridge.install=00112233445566aa --label drawbridge.run=run-0011223344556677 x");
    }

    #[test]
    fn an_interface_name_fits_the_kernel() {
        for run in ["run-0011223344556677", "12345678", "run-----"] {
            let name = interface_name(&run.parse().unwrap());
            assert!(name.len() <= MAX_INTERFACE_NAME, "{name}");
        }
    }
}
