//! `agent-runner probe`: what this container can see and reach.
//!
//! `drawbridge doctor` starts it in place of a conversation, with the flags and
//! the input document of a real run, and reads the report from the record it
//! writes. It needs no other program, so it works in an image that holds
//! nothing but the runner. Nothing here talks to a public address: routes are
//! tested by connecting datagram sockets, which sends no packet, and to
//! addresses that are reserved for documentation.

mod kernel;
mod reach;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

use drawbridge_shared::exit::Exit;
use drawbridge_shared::marker::Markers;
use drawbridge_shared::protocol::{MAX_INPUT_BYTES, RunInput, RunRecord};
use serde::{Deserialize, Serialize};

pub use kernel::{Identity, Isolation, Limits, Network};

/// Options of the probe.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ProbeArgs {
    /// Also try a TCP connection to this `ADDRESS:PORT`; may be repeated
    #[arg(long = "dial", value_name = "ADDRESS:PORT")]
    pub dials: Vec<String>,
    /// Also try to open this file for writing, without writing; may be repeated
    #[arg(long = "write", value_name = "PATH")]
    pub writes: Vec<PathBuf>,
    /// Accept TCP connections on this port of every address for a minute, so
    /// that another probe can try to reach it, instead of probing
    #[arg(long, value_name = "PORT", conflicts_with_all = ["dials", "writes"])]
    pub listen: Option<u16>,
}

/// The result of an action that a sealed agent must not be able to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attempt {
    /// It was refused; the reason as the kernel gave it.
    Blocked(String),
    /// It worked; what was reached.
    Reached(String),
}

impl Attempt {
    /// Whether it was refused.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked(_))
    }

    /// The reason, or what was reached.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Blocked(text) | Self::Reached(text) => text,
        }
    }

    fn from_result<T, E: std::fmt::Display>(
        result: Result<T, E>,
        reached: impl FnOnce(T) -> String,
    ) -> Self {
        match result {
            Ok(value) => Self::Reached(reached(value)),
            Err(error) => Self::Blocked(error.to_string()),
        }
    }
}

/// The HTTP status codes with which the proxy answered, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyAnswer {
    /// Asked without a token; 401 is right.
    pub without_token: Result<u16, String>,
    /// Asked with the run's token; 200 is right.
    pub with_token: Result<u16, String>,
}

/// Everything the probe found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of the runner in the image.
    pub runner_version: String,
    /// User and groups.
    pub identity: Identity,
    /// Capabilities, seccomp and the like.
    pub isolation: Isolation,
    /// Limits of the control group, as far as they are visible.
    pub limits: Limits,
    /// Interfaces, routes and name servers.
    pub network: Network,
    /// Each thing that was tried, by name.
    pub attempts: BTreeMap<String, Attempt>,
    /// The proxy's answers; absent when the input document names no proxy.
    pub proxy: Option<ProxyAnswer>,
    /// Names of environment variables whose value looks like a credential.
    pub credential_variables: Vec<String>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Standard input could not be read.
    #[error("cannot read the run input")]
    Read(#[source] std::io::Error),
    /// Standard input is not a run input document.
    #[error("the run input is not valid")]
    Input(#[source] serde_json::Error),
    /// The report could not be written.
    #[error("cannot write the report")]
    Write(#[source] std::io::Error),
}

/// The subcommand: probes with standard input and output.
pub(crate) fn main(args: &ProbeArgs) -> Exit {
    if let Some(port) = args.listen {
        return match reach::be_reachable(port) {
            Ok(()) => Exit::Success,
            Err(error) => {
                tracing::error!("cannot listen on port {port}: {error}");
                Exit::AgentFailed
            }
        };
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the probe is a run of its own, and this record is its result"
    )]
    let stdout = std::io::stdout();
    match run(args, std::io::stdin().lock(), stdout.lock()) {
        Ok(()) => Exit::Success,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "no report");
            Exit::AgentFailed
        }
    }
}

/// Reads the input document of a run (empty input is allowed), probes, and
/// writes the report as the result of one record.
///
/// # Errors
/// The input cannot be read or understood, or the output is closed.
pub fn run(args: &ProbeArgs, input: impl Read, output: impl Write) -> Result<(), ProbeError> {
    probe(args, &reach::EGRESS_ATTEMPTS, input, output)
}

fn probe(
    args: &ProbeArgs,
    egress_attempts: &[reach::EgressAttempt],
    input: impl Read,
    mut output: impl Write,
) -> Result<(), ProbeError> {
    let mut text = String::new();
    input
        .take(MAX_INPUT_BYTES as u64)
        .read_to_string(&mut text)
        .map_err(ProbeError::Read)?;
    let document: Option<RunInput> = match text.trim() {
        "" => None,
        text => Some(serde_json::from_str(text).map_err(ProbeError::Input)?),
    };
    let options = document
        .and_then(|input| input.drawbridge)
        .unwrap_or_default();
    let report = Report {
        runner_version: env!("CARGO_PKG_VERSION").to_owned(),
        identity: kernel::identity(),
        isolation: kernel::isolation(),
        limits: kernel::limits(),
        network: kernel::network(),
        attempts: reach::attempts(egress_attempts, args),
        proxy: options.proxy.as_ref().map(reach::ask_proxy),
        credential_variables: credential_variables(std::env::vars_os()),
    };
    let result = serde_json::to_string(&report).map_err(ProbeError::Input)?;
    Markers::new(options.nonce.as_ref())
        .write(&mut output, &RunRecord::answer(Some(result), None))
        .map_err(ProbeError::Write)
}

/// Variables that hold what looks like a real key of a model provider. Session
/// tokens and the placeholder do not look like one.
fn credential_variables(
    vars: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Vec<String> {
    const KEY_PREFIXES: [&str; 4] = ["sk-", "sk_", "AIza", "ghp_"];
    vars.filter(|(_, value)| {
        let value = value.to_string_lossy();
        KEY_PREFIXES.iter().any(|prefix| value.starts_with(prefix))
    })
    .map(|(name, _)| name.to_string_lossy().into_owned())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drawbridge_shared::marker::{DEFAULT_MAX_RECORD_BYTES, ScanEvent, Scanner};

    /// Without the egress attempts: tests send nothing beyond this machine.
    fn report(args: &ProbeArgs, input: &str) -> Report {
        let mut out = Vec::new();
        probe(args, &[], input.as_bytes(), &mut out).unwrap();
        let mut scanner = Scanner::new(Markers::new(None), DEFAULT_MAX_RECORD_BYTES);
        let events = scanner.push(&out);
        let [ScanEvent::Record(record)] = events.as_slice() else {
            panic!("not one record: {events:?}")
        };
        serde_json::from_str(record.result.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn the_report_is_the_result_of_a_record() {
        let report = report(&ProbeArgs::default(), "");
        assert_eq!(report.identity.uid, rustix::process::getuid().as_raw());
        assert!(report.network.interfaces.contains(&"lo".to_owned()));
        assert!(report.proxy.is_none());
    }

    #[test]
    fn a_listening_port_is_reached_and_a_closed_one_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().to_string();
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let args = ProbeArgs {
            dials: vec![open.clone(), closed.clone()],
            writes: vec!["/nonexistent/file".into()],
            listen: None,
        };
        let report = report(&args, "");
        assert!(!report.attempts[&format!("dial {open}")].is_blocked());
        assert!(report.attempts[&format!("dial {closed}")].is_blocked());
        assert!(report.attempts["write /nonexistent/file"].is_blocked());
    }

    #[test]
    fn a_proxy_that_is_not_there_is_reported_not_fatal() {
        let report = report(
            &ProbeArgs::default(),
            r#"{"prompt":"","groupFolder":"a","chatJid":"b","isMain":false,"drawbridge":{"proxy":
               {"endpoint":{"unix":"/nonexistent.sock"},"token":"t","authMode":"api-key"}}}"#,
        );
        report.proxy.unwrap().without_token.unwrap_err();
    }

    #[test]
    fn only_values_that_look_like_keys_are_named() {
        let vars = [("A", "sk-ant-fake-0"), ("B", "placeholder"), ("C", "dbs_x")];
        let found = credential_variables(vars.map(|(n, v)| (n.into(), v.into())).into_iter());
        assert_eq!(found, ["A"]);
    }
}
