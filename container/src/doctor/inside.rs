//! Judging what the probe saw inside the container.

use drawbridge_runner::probe::{Attempt, Report};

use super::check::{Check, Place, Status};
use crate::config::{NetworkChoice, RunSettings, SandboxChoice};
use crate::engine::BRIDGE_PREFIX;
use crate::fake_api::Received;
use crate::spec::{HOME, IPC, WORKSPACE};

/// Limits are compared in the kernel's pages.
const PAGE: u64 = 4096;

/// One check for each promise that a real run makes.
pub(crate) fn judge(report: &Report, settings: &RunSettings, peer: Option<&str>) -> Vec<Check> {
    let mut checks = vec![
        version(report),
        user(report, settings),
        privileges(report),
        file_system(report),
        engine_socket(report),
        variables(report),
    ];
    checks.extend(limits(report, settings));
    checks.extend(network(report, settings.network, peer));
    checks
}

/// The promises of Landlock for an agent on this machine; without it, nothing is
/// promised, and what is open is only noted.
pub(crate) fn judge_host(report: &Report, settings: &RunSettings) -> Vec<Check> {
    let is_promised = settings.sandbox == SandboxChoice::Landlock;
    let mut checks = vec![version(report), variables(report)];
    let kept = |name: &&String| name.starts_with("dial ") || name.starts_with("write ");
    for name in report.attempts.keys().filter(kept) {
        checks.push(egress(name, &report.attempts[name], is_promised));
    }
    checks
}

fn check(name: &'static str, is_good: bool, detail: impl Into<String>) -> Check {
    let status = if is_good { Status::Pass } else { Status::Fail };
    Check::new(Place::Inside, name, status, detail)
}

fn version(report: &Report) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    let theirs = &report.runner_version;
    let check = check("runner", theirs == ours, format!("version {theirs}"));
    if theirs == ours {
        return check;
    }
    check.hint(format!(
        "this is drawbridge {ours}: build the image again with `drawbridge build-image`"
    ))
}

fn user(report: &Report, settings: &RunSettings) -> Check {
    let identity = &report.identity;
    let is_wanted = settings.agent_user().is_ok_and(|wanted| {
        identity.uid == wanted.uid && identity.gid == wanted.gid && identity.uid != 0
    });
    let detail = format!(
        "{}:{}, groups {:?}",
        identity.uid, identity.gid, identity.groups
    );
    check("user", is_wanted, detail)
}

fn privileges(report: &Report) -> Check {
    let isolation = &report.isolation;
    let has_filter = isolation.seccomp == 2;
    let is_good = isolation.capabilities == 0 && isolation.no_new_privileges && has_filter;
    let detail = format!(
        "capabilities {:#x}, no-new-privileges {}, system call filter {}",
        isolation.capabilities,
        on_or_off(isolation.no_new_privileges),
        on_or_off(has_filter),
    );
    let check = check("privileges", is_good, detail);
    if has_filter {
        check
    } else {
        check.hint("the engine runs with seccomp switched off; start it with its default profile")
    }
}

const fn on_or_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

fn file_system(report: &Report) -> Check {
    let isolation = &report.isolation;
    let allowed = [WORKSPACE, IPC, HOME, "/tmp"];
    let is_expected = |point: &String| {
        allowed.contains(&point.as_str()) || point.starts_with("/workspace/extra/")
    };
    let is_good = isolation.read_only_root && isolation.writable_mounts.iter().all(is_expected);
    let root = if isolation.read_only_root {
        "read-only"
    } else {
        "writable"
    };
    let writable = isolation.writable_mounts.join(" ");
    check(
        "file system",
        is_good,
        format!("root {root}; writable: {writable}"),
    )
}

fn engine_socket(report: &Report) -> Check {
    let sockets = &report.isolation.engine_sockets;
    let detail = if sockets.is_empty() {
        "not visible".to_owned()
    } else {
        sockets.join(" ")
    };
    check("engine socket", sockets.is_empty(), detail)
}

fn variables(report: &Report) -> Check {
    let names = &report.credential_variables;
    let detail = if names.is_empty() {
        "no variable holds a key".to_owned()
    } else {
        format!("a key is in {}", names.join(", "))
    };
    check("environment", names.is_empty(), detail)
}

fn limits(report: &Report, wanted: &RunSettings) -> Vec<Check> {
    let found = &report.limits;
    let pids = u64::from(wanted.pids.get());
    let memory = wanted.memory.bytes();
    let memory_matches = |bytes: u64| bytes / PAGE == memory / PAGE;
    vec![
        limit(
            "memory limit",
            found
                .memory_bytes
                .map(|n| (memory_matches(n), format!("{} MiB", n >> 20))),
        ),
        limit(
            "process limit",
            found.pids.map(|n| (n == pids, n.to_string())),
        ),
        limit(
            "processor limit",
            found.cpu_millis.map(|n| {
                let thousandths = u64::from(wanted.cpus.at_most_of_this_machine().thousandths());
                (n == thousandths, format!("{}.{:03}", n / 1000, n % 1000))
            }),
        ),
    ]
}

fn limit(name: &'static str, found: Option<(bool, String)>) -> Check {
    match found {
        Some((is_wanted, value)) => check(name, is_wanted, value),
        None => check(name, false, "none is in force").hint(
            "the engine does not enforce it; on Linux the control group controller may be off",
        ),
    }
}

fn network(report: &Report, wanted: NetworkChoice, peer: Option<&str>) -> Vec<Check> {
    let network = &report.network;
    let others: Vec<_> = network
        .interfaces
        .iter()
        .filter(|name| *name != "lo")
        .collect();
    let is_sealed = wanted == NetworkChoice::Sealed;
    let interfaces = check(
        "interfaces",
        !is_sealed || (others.is_empty() && network.routes.is_empty()),
        format!(
            "{}; {} routes",
            network.interfaces.join(" "),
            network.routes.len()
        ),
    );
    let attempts = report.attempts.iter().map(|(name, attempt)| {
        let is_peer = peer.is_some_and(|peer| name.strip_prefix("dial ") == Some(peer));
        let name = if is_peer { "peer" } else { name };
        // Nothing may give raw sockets, files or other containers; the rest is
        // what a bridge is for.
        let is_network = !is_peer && name != "raw-socket" && !name.starts_with("write ");
        let must_be_blocked = is_sealed || !is_network;
        egress(name, attempt, must_be_blocked)
    });
    std::iter::once(interfaces).chain(attempts).collect()
}

fn egress(name: &str, attempt: &Attempt, must_be_blocked: bool) -> Check {
    let name = match name {
        "dns" => "DNS",
        "icmp" => "ICMP",
        "raw-socket" => "raw socket",
        "route-ipv4" => "IPv4 route",
        "route-ipv6" => "IPv6 route",
        "metadata" => "metadata address",
        "peer" => "other containers",
        name if name.starts_with("write ") => "other files",
        _ => "host's ports",
    };
    let status = match attempt {
        Attempt::Blocked(_) => Status::Pass,
        Attempt::Reached(_) if must_be_blocked => Status::Fail,
        Attempt::Reached(_) => Status::Note,
    };
    let word = if attempt.is_blocked() {
        "blocked"
    } else {
        "open"
    };
    Check::new(
        Place::Inside,
        name,
        status,
        format!("{word}: {}", attempt.detail()),
    )
}

/// Whether the proxy knows the run, and puts the key in the token's place.
pub(crate) fn proxy(report: &Report, received: &[Received], key: &str) -> Check {
    let Some(answer) = &report.proxy else {
        return check("proxy", false, "the run input named none");
    };
    let (without, with) = (&answer.without_token, &answer.with_token);
    let got_key = |request: &Received| request.credentials == [("x-api-key".into(), key.into())];
    let is_injected = !received.is_empty() && received.iter().all(got_key);
    let is_good = *without == Ok(401) && *with == Ok(200) && is_injected;
    let show = |result: &Result<u16, String>| match result {
        Ok(status) => status.to_string(),
        Err(reason) => reason.clone(),
    };
    let upstream = if is_injected {
        "the key"
    } else {
        "NOT the key"
    };
    let detail = format!(
        "answers {} without the session token and {} with it; the upstream gets {upstream}",
        show(without),
        show(with),
    );
    let check = check("proxy", is_good, detail);
    match (without, with) {
        (Err(_), _) | (_, Err(_)) => check.hint(super::outside::firewall().map_or_else(
            || {
                "the container cannot reach the proxy: a firewall may be in the way, or \
                     the engine cannot share a socket (try --network bridge)"
                    .to_owned()
            },
            |name| {
                format!(
                    "{name} is on and keeps containers from the proxy: allow TCP from the \
                         interfaces {BRIDGE_PREFIX}* to this machine"
                )
            },
        )),
        _ => check,
    }
}
