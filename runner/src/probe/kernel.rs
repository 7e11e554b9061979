//! The kernel's view of this process: identity, privileges, limits, mounts and
//! interfaces. Files that are missing give empty values, which the doctor
//! reports as such.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// User and groups of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// The barriers that keep the process from gaining more rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Union of all five capability sets, as a bit mask.
    pub capabilities: u64,
    /// Whether set-uid programs gain nothing.
    pub no_new_privileges: bool,
    /// 0 is none, 1 strict, 2 a filter.
    pub seccomp: u8,
    /// Whether the root file system refuses writes.
    pub read_only_root: bool,
    /// Mount points that accept writes, kernel file systems left out.
    pub writable_mounts: Vec<String>,
    /// Control sockets of container engines that are visible.
    pub engine_sockets: Vec<String>,
}

/// Limits of the control group; absent where there is none or it is not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
    /// Processor time, in thousandths of a processor.
    pub cpu_millis: Option<u64>,
}

/// Interfaces, routes and name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Names of the interfaces that are up. Some kernels put tunnel interfaces
    /// that are down into every network namespace.
    pub interfaces: Vec<String>,
    /// Routes that do not lead to the loopback interface.
    pub routes: Vec<String>,
    /// Name servers in `/etc/resolv.conf`.
    pub name_servers: Vec<String>,
}

pub(super) fn identity() -> Identity {
    Identity {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        groups: rustix::process::getgroups()
            .unwrap_or_default()
            .iter()
            .map(|group| group.as_raw())
            .collect(),
    }
}

pub(super) fn isolation() -> Isolation {
    let status = read("/proc/self/status");
    let field = |name: &str| status_field(&status, name);
    let capabilities = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .iter()
        .filter_map(|name| u64::from_str_radix(field(name)?, 16).ok())
        .fold(0, |all, set| all | set);
    let mounts = parse_mounts(&read("/proc/self/mountinfo"));
    Isolation {
        capabilities,
        no_new_privileges: field("NoNewPrivs") == Some("1"),
        seccomp: field("Seccomp").and_then(|v| v.parse().ok()).unwrap_or(0),
        read_only_root: mounts.iter().any(|m| m.point == "/" && m.is_read_only),
        writable_mounts: writable(&mounts),
        engine_sockets: engine_sockets(),
    }
}

fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then_some(value.trim())
    })
}

struct Mount {
    point: String,
    kind: String,
    is_read_only: bool,
}

/// Reads `/proc/self/mountinfo`: fields 5 and 6 are the mount point and its
/// options, and the file system's type follows the lone dash.
fn parse_mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let mut front = front.split(' ').skip(4);
            Some(Mount {
                point: front.next()?.to_owned(),
                is_read_only: front.next()?.split(',').any(|option| option == "ro"),
                kind: back.split(' ').next()?.to_owned(),
            })
        })
        .collect()
}

fn writable(mounts: &[Mount]) -> Vec<String> {
    const KERNEL_KINDS: [&str; 5] = ["proc", "sysfs", "cgroup", "cgroup2", "mqueue"];
    // The engine puts these over parts of /proc, and they stay empty.
    let is_ours = |m: &&Mount| {
        !m.is_read_only
            && !KERNEL_KINDS.contains(&m.kind.as_str())
            && !m.point.starts_with("/proc/")
            && !m.point.starts_with("/sys/")
            && !m.point.starts_with("/dev")
    };
    mounts
        .iter()
        .filter(is_ours)
        .map(|mount| mount.point.clone())
        .collect()
}

fn engine_sockets() -> Vec<String> {
    const SOCKETS: [&str; 5] = [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run/crio/crio.sock",
    ];
    SOCKETS
        .iter()
        .filter(|path| Path::new(path).exists())
        .map(|&path| path.to_owned())
        .collect()
}

/// The limits of the control group, version 2 first, then version 1.
pub(super) fn limits() -> Limits {
    let number = |paths: [&str; 2]| paths.iter().find_map(|path| read(path).trim().parse().ok());
    Limits {
        // Version 1 writes "no limit" as the largest page-aligned number.
        memory_bytes: number([
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ])
        .filter(|bytes| *bytes < 1 << 60),
        pids: number(["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"]),
        cpu_millis: cpu_millis(
            &read("/sys/fs/cgroup/cpu.max"),
            &read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
            &read("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
        ),
    }
}

fn cpu_millis(v2: &str, v1_quota: &str, v1_period: &str) -> Option<u64> {
    let (quota, period) = v2.trim().split_once(' ').unwrap_or((v1_quota, v1_period));
    let quota: u64 = quota.trim().parse().ok()?;
    let period: u64 = period.trim().parse().ok()?;
    (quota * 1000).checked_div(period)
}

pub(super) fn network() -> Network {
    let mut interfaces: Vec<_> = read("/proc/self/net/dev")
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .filter(|name| is_up(&read(&format!("/sys/class/net/{name}/flags"))))
        .collect();
    interfaces.sort();
    Network {
        interfaces,
        routes: routes(
            &read("/proc/self/net/route"),
            &read("/proc/self/net/ipv6_route"),
        ),
        name_servers: name_servers(&read("/etc/resolv.conf")),
    }
}

/// Reads an interface's flags; what cannot be read counts as up.
fn is_up(flags: &str) -> bool {
    const IFF_UP: u32 = 1;
    let flags = flags.trim().trim_start_matches("0x");
    u32::from_str_radix(flags, 16).map_or(true, |flags| flags & IFF_UP != 0)
}

fn routes(v4: &str, v6: &str) -> Vec<String> {
    let v4 = v4.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (device, destination) = (fields.next()?, fields.next()?);
        (device != "lo").then(|| format!("{destination} via {device}"))
    });
    let v6 = v6.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (destination, device) = (fields.first()?, fields.last()?);
        (*device != "lo").then(|| format!("{destination} via {device}"))
    });
    v4.chain(v6).collect()
}

pub(super) fn name_servers(resolv_conf: &str) -> Vec<String> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(|address| address.trim().to_owned())
        .collect()
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_from_recorded_lines() {
        let mounts = parse_mounts(
            "100 90 0:40 / / ro,relatime master:1 - overlay overlay rw,lowerdir=x\n\
             101 100 0:41 / /proc rw,nosuid - proc proc rw\n\
             102 100 8:1 /w /workspace/group rw,relatime - ext4 /dev/vda rw\n\
             103 100 0:42 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=1k\n",
        );
        assert!(mounts[0].is_read_only, "the mount's own options count");
        assert_eq!(writable(&mounts), ["/workspace/group", "/tmp"]);
    }

    #[test]
    fn routes_to_loopback_are_not_routes() {
        let v4 = "Iface\tDestination\tGateway\neth0\t00000000\t010011AC\nlo\t0000007F\t0\n";
        let v6 = "00000000000000000000000000000001 80 00 00 00 00 00 00 00 lo\n";
        assert_eq!(routes(v4, v6), ["00000000 via eth0"]);
    }

    #[test]
    fn only_an_interface_that_says_so_is_down() {
        assert!(is_up("0x9\n") && is_up(""));
        assert!(!is_up("0x80\n"));
    }

    #[test]
    fn processor_limits_of_both_versions_are_read() {
        assert_eq!(cpu_millis("150000 100000\n", "", ""), Some(1500));
        assert_eq!(cpu_millis("max 100000\n", "", ""), None);
        assert_eq!(cpu_millis("", "50000\n", "100000\n"), Some(500));
        assert_eq!(cpu_millis("", "-1\n", "100000\n"), None);
    }
}
