//! Apple's `container`: one small virtual machine for each container.
//!
//! Written from the command reference of its release 1.2. It has not been run:
//! that needs a Mac. What its command line has no flag for is in
//! [`Facts::of_apple`], so that a run asks for a waiver instead of having less
//! than it says.
//!
//! [`Facts::of_apple`]: super::Facts::of_apple

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde::Deserialize;
use serde_json::Value;

use crate::spec::{Access, HOME, Mount, Network, RunSpec, WORKSPACE};

/// Arguments that start a run with `container`.
pub(super) fn run_args(spec: &RunSpec) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["run", "--rm", "--interactive", "--progress", "none"]
        .map(OsString::from)
        .into();
    let mut pair = |flag: &str, value: OsString| args.extend([flag.into(), value]);
    pair("--name", spec.name.clone().into());
    pair(
        "--label",
        format!("drawbridge.install={}", spec.install).into(),
    );
    pair("--label", format!("drawbridge.run={}", spec.run).into());
    let network = match &spec.network {
        Network::Sealed => "none",
        Network::Bridge { name, .. } => name,
    };
    pair("--network", network.into());
    args.extend(["--read-only".into(), "--cap-drop".into(), "ALL".into()]);
    let mut pair = |flag: &str, value: OsString| args.extend([flag.into(), value]);
    pair("--user", spec.user.to_string().into());
    // The machine has no other users, so a limit per user is one per container.
    pair("--ulimit", format!("nproc={}", spec.limits.pids).into());
    pair("--ulimit", "core=0".into());
    pair(
        "--ulimit",
        format!("nofile={}", spec.limits.open_files).into(),
    );
    if let Some(size) = spec.limits.file_size {
        pair("--ulimit", format!("fsize={}", size.bytes()).into());
    }
    pair(
        "--memory",
        format!("{}M", spec.limits.memory.bytes() >> 20).into(),
    );
    pair("--cpus", whole_cpus(spec).to_string().into());
    let size = spec.scratch.size.bytes() >> 20;
    pair(
        "--mount",
        format!("type=tmpfs,destination=/tmp,size={size}M,mode=1777").into(),
    );
    for mount in &spec.mounts {
        pair("--mount", mount_value(mount));
    }
    pair("--workdir", WORKSPACE.into());
    pair("--env", format!("HOME={HOME}").into());
    if let Some(zone) = &spec.time_zone {
        pair("--env", format!("TZ={zone}").into());
    }
    args.push(spec.image.to_string().into());
    args
}

/// A virtual machine has whole processors, and at least one.
fn whole_cpus(spec: &RunSpec) -> u32 {
    (spec.limits.cpus.thousandths() / 1000).max(1)
}

/// The value is split at commas, of which a mount's paths have none.
fn mount_value(mount: &Mount) -> OsString {
    let mut value = OsString::from("type=bind,source=");
    value.push(mount.source());
    value.push(",target=");
    value.push(mount.target());
    if mount.access == Access::Read {
        value.push(",readonly");
    }
    value
}

/// An item in the answers of `container list --all --format json` and
/// `container network list --format json`.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) configuration: Configuration,
}

/// The part of an item's configuration that we look at.
#[derive(Debug, Deserialize)]
pub(super) struct Configuration {
    /// Containers have an id; networks a name, or an id in older releases.
    id: Option<String>,
    name: Option<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

impl Configuration {
    /// The item's name on the command line.
    pub(super) fn into_id(self) -> String {
        self.id.or(self.name).unwrap_or_default()
    }
}

/// The value of a label of an image, wherever `container image inspect` has it:
/// each platform's configuration holds the same ones.
pub(super) fn image_label(inspected: &Value, label: &str) -> Option<String> {
    match inspected {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name.eq_ignore_ascii_case("labels") {
                return Some(value.get(label)?.as_str()?.to_owned());
            }
            image_label(value, label)
        }),
        Value::Array(items) => items.iter().find_map(|item| image_label(item, label)),
        _ => None,
    }
}
