//! What an engine tells about itself.

use serde::Deserialize;

/// What an engine can do, and how it maps what we ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// It runs without root, so container ids are mapped.
    pub(crate) is_rootless: bool,
    /// It maps container ids although it runs as root.
    pub(crate) maps_users: bool,
    /// Mounts need an SELinux label.
    pub(crate) has_selinux: bool,
    /// It runs in a virtual machine that cannot share a socket with us.
    pub(crate) is_in_vm: bool,
    /// Protections that it lacks, by the name of the setting.
    pub(crate) lacks: Vec<&'static str>,
}

/// Why an engine's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactsError {
    #[error("{0}")]
    Engine(String),
    #[error("its answer cannot be read")]
    Unreadable(#[from] serde_json::Error),
}

impl Facts {
    /// Reads `docker info --format '{{json .}}'`.
    pub(crate) fn from_docker(json: &str) -> Result<Self, FactsError> {
        let info: DockerInfo = serde_json::from_str(json)?;
        // Some versions answer with exit code 0 when the daemon is not there.
        if let Some(error) = info.server_errors.into_iter().next() {
            return Err(FactsError::Engine(error));
        }
        let has = |name: &str| {
            let name = format!("name={name}");
            let mut options = info.security_options.iter();
            options.any(|option| option.split(',').next() == Some(&name))
        };
        Ok(Self {
            is_rootless: has("rootless"),
            maps_users: has("userns"),
            has_selinux: has("selinux"),
            is_in_vm: info.operating_system.starts_with("Docker Desktop"),
            lacks: missing(&[
                (has("seccomp"), "seccomp"),
                (info.memory_limit, "memory"),
                (info.pids_limit, "pids"),
                (info.cpu_cfs_quota, "cpus"),
            ]),
        })
    }

    /// Reads `podman info --format '{{json .}}'`.
    pub(crate) fn from_podman(json: &str) -> Result<Self, FactsError> {
        let PodmanInfo { host } = serde_json::from_str(json)?;
        let controls = |name: &str| host.cgroup_controllers.iter().any(|c| c == name);
        Ok(Self {
            is_rootless: host.security.rootless,
            maps_users: false,
            has_selinux: host.security.selinux_enabled,
            is_in_vm: host.service_is_remote,
            lacks: missing(&[
                (host.security.seccomp_enabled, "seccomp"),
                (controls("memory"), "memory"),
                (controls("pids"), "pids"),
                (controls("cpu"), "cpus"),
            ]),
        })
    }
}

fn missing(protections: &[(bool, &'static str)]) -> Vec<&'static str> {
    let missing = protections.iter().filter(|(is_there, _)| !is_there);
    missing.map(|(_, name)| *name).collect()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DockerInfo {
    server_errors: Vec<String>,
    operating_system: String,
    security_options: Vec<String>,
    memory_limit: bool,
    pids_limit: bool,
    #[serde(rename = "CpuCfsQuota")]
    cpu_cfs_quota: bool,
}

#[derive(Debug, Deserialize)]
struct PodmanInfo {
    host: PodmanHost,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodmanHost {
    security: PodmanSecurity,
    #[serde(default)]
    cgroup_controllers: Vec<String>,
    #[serde(default)]
    service_is_remote: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodmanSecurity {
    rootless: bool,
    #[serde(rename = "selinuxEnabled")]
    selinux_enabled: bool,
    #[serde(rename = "seccompEnabled")]
    seccomp_enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_tells_what_it_has() {
        let facts = Facts::from_docker(
            r#"{"OperatingSystem":"Debian GNU/Linux 12","MemoryLimit":true,"PidsLimit":true,
                "CpuCfsQuota":true,"SecurityOptions":["name=seccomp,profile=default"],"X":1}"#,
        );
        assert_eq!(facts.unwrap(), Facts::default());
    }

    #[test]
    fn docker_tells_what_it_lacks() {
        let facts = Facts::from_docker(
            r#"{"OperatingSystem":"Docker Desktop","MemoryLimit":true,"CpuCfsQuota":true,
                "SecurityOptions":["name=rootless","name=selinux"]}"#,
        )
        .unwrap();
        assert!(facts.is_rootless && facts.has_selinux && facts.is_in_vm);
        assert_eq!(facts.lacks, ["seccomp", "pids"]);
    }

    #[test]
    fn a_daemon_that_is_not_there_is_an_error_also_with_exit_code_zero() {
        let error = Facts::from_docker(r#"{"ServerErrors":["cannot connect"]}"#).unwrap_err();
        assert_eq!(error.to_string(), "cannot connect");
    }

    #[test]
    fn podman_tells_what_it_has() {
        let facts = Facts::from_podman(
            r#"{"host":{"security":{"rootless":true,"selinuxEnabled":true,
                "seccompEnabled":true},"cgroupControllers":["memory","pids"]}}"#,
        )
        .unwrap();
        assert!(facts.is_rootless && facts.has_selinux);
        assert_eq!(facts.lacks, ["cpus"]);
    }
}
