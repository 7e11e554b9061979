//! The argument list of `docker run` and `podman run`.

use std::ffi::OsString;

use super::{Engine, Facts};
use crate::spec::{Access, HOME, Mount, Network, RunSpec, WORKSPACE};

/// Arguments that start a run with an engine's program.
pub(super) fn run_args(engine: Engine, facts: &Facts, spec: &RunSpec) -> Vec<OsString> {
    let mut args = Args(vec!["run".into()]);
    args.flags(["--rm", "--interactive", "--pull=never", "--log-driver=none"]);
    args.pair("--name", &spec.name);
    args.pair("--label", format!("drawbridge.install={}", spec.install));
    args.pair("--label", format!("drawbridge.run={}", spec.run));
    args.network(engine, &spec.network);

    args.flags(["--read-only", "--cap-drop=ALL"]);
    if engine == Engine::Podman {
        // It would put writable folders over /run and /var/tmp.
        args.flags(["--read-only-tmpfs=false"]);
    }
    args.pair("--security-opt", "no-new-privileges");
    if facts.is_unconfined {
        args.pair("--security-opt", "seccomp=builtin");
    }
    args.pair("--user", spec.user.to_string());
    args.user_namespace(engine, facts);
    args.pair("--pids-limit", spec.limits.pids.to_string());
    args.pair("--memory", spec.limits.memory.to_string());
    // The same value for memory and swap together means no swap.
    args.pair("--memory-swap", spec.limits.memory.to_string());
    args.pair("--cpus", spec.limits.cpus.to_string());
    args.pair("--ulimit", "core=0");
    let open_files = spec.limits.open_files;
    args.pair("--ulimit", format!("nofile={open_files}:{open_files}"));
    if engine == Engine::Podman {
        // It would ask for more than it may have itself; the pids limit counts.
        let processes = spec.limits.processes;
        args.pair("--ulimit", format!("nproc={processes}:{processes}"));
    }
    if let Some(size) = spec.limits.file_size {
        let size = size.bytes();
        args.pair("--ulimit", format!("fsize={size}:{size}"));
    }

    let exec = if spec.scratch.exec { "exec" } else { "noexec" };
    let size = spec.scratch.size.bytes();
    let options = format!("rw,{exec},nosuid,nodev,size={size},mode=1777");
    args.pair("--tmpfs", format!("/tmp:{options}"));
    for mount in &spec.mounts {
        args.mount(engine, facts, mount);
    }
    args.pair("--workdir", WORKSPACE);
    args.pair("--env", format!("HOME={HOME}"));
    if let Some(zone) = &spec.time_zone {
        args.pair("--env", format!("TZ={zone}"));
    }
    args.0.push(spec.image.to_string().into());
    args.0
}

struct Args(Vec<OsString>);

impl Args {
    fn flags<const N: usize>(&mut self, flags: [&str; N]) {
        self.0.extend(flags.map(OsString::from));
    }

    fn pair(&mut self, flag: &str, value: impl Into<OsString>) {
        self.0.push(flag.into());
        self.0.push(value.into());
    }

    fn network(&mut self, engine: Engine, network: &Network) {
        match network {
            Network::Sealed => self.pair("--network", "none"),
            Network::Bridge { name, host } => {
                self.pair("--network", name);
                if let Some(host) = host {
                    self.pair("--add-host", format!("{}:{host}", engine.host_alias()));
                }
            }
        }
    }

    /// Makes ids inside the container mean what they mean on the host, so that
    /// the agent's files belong to the caller.
    fn user_namespace(&mut self, engine: Engine, facts: &Facts) {
        match engine {
            Engine::Podman if facts.is_rootless => self.pair("--userns", "keep-id"),
            Engine::Docker if facts.maps_users => self.pair("--userns", "host"),
            Engine::Podman | Engine::Docker | Engine::Apple => {}
        }
    }

    fn mount(&mut self, engine: Engine, facts: &Facts, mount: &Mount) {
        let is_read_only = mount.access == Access::Read;
        // Docker can set a label with --volume only, which splits at colons;
        // a mount's paths hold none.
        if facts.has_selinux && engine == Engine::Docker {
            let mut value = mount.source().as_os_str().to_owned();
            value.push(":");
            value.push(mount.target());
            value.push(if is_read_only { ":ro,z" } else { ":z" });
            return self.pair("--volume", value);
        }
        // --mount refuses a source that is not there; --volume would make one.
        // The value is a line of CSV, so fields with a path are quoted.
        let mut value = OsString::from("type=bind,\"source=");
        value.push(mount.source());
        value.push("\",\"target=");
        value.push(mount.target());
        value.push("\"");
        if is_read_only {
            value.push(",readonly");
        }
        if facts.has_selinux {
            value.push(",relabel=shared");
        }
        self.pair("--mount", value);
    }
}
