//! Facts about an engine, from its own description.

use serde::Deserialize;

use crate::spec::Protection;

/// Abilities of an engine, and its mapping of users and networks.
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
    /// Its own default is to run containers without a system call filter.
    pub(crate) is_unconfined: bool,
    /// Protections that it lacks.
    pub(crate) lacks: Vec<Protection>,
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
            is_unconfined: info.security_options.iter().any(|option| {
                option.starts_with("name=seccomp") && option.ends_with("profile=unconfined")
            }),
            lacks: missing(&[
                (has("seccomp"), Protection::Seccomp),
                (info.memory_limit, Protection::Memory),
                (info.pids_limit, Protection::Pids),
                (info.cpu_cfs_quota, Protection::Cpus),
            ]),
        })
    }

    /// Facts of Apple's `container`, from its flags. Each container is a virtual
    /// machine of its own, which stands in for the rest where it is waived.
    pub(crate) fn of_apple() -> Self {
        Self {
            is_in_vm: true,
            lacks: vec![Protection::Seccomp, Protection::NoNewPrivileges],
            ..Self::default()
        }
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
            is_unconfined: false,
            lacks: missing(&[
                (host.security.seccomp_enabled, Protection::Seccomp),
                (controls("memory"), Protection::Memory),
                (controls("pids"), Protection::Pids),
                (controls("cpu"), Protection::Cpus),
            ]),
        })
    }
}

fn missing(protections: &[(bool, Protection)]) -> Vec<Protection> {
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
        assert_eq!(facts.lacks, [Protection::Seccomp, Protection::Pids]);
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
        assert_eq!(facts.lacks, [Protection::Cpus]);
    }
}
