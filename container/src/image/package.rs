//! The npm packages that hold the agents' programs for Linux. They are
//! installed on the operator's machine and never published by us.

use super::ImageKind;
use super::versions::Versions;

/// A pinned agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// Name of the program in the image, and of its folder in the state folder.
    pub(super) program: &'static str,
    pub(super) version: String,
    /// The packages that npm installs.
    pub(super) spec: String,
    /// The program's path below `node_modules`.
    pub(super) path: String,
    /// Programs that it starts, from the folder that it is in itself.
    pub(super) companions: &'static [&'static str],
}

impl Package {
    /// The package of an image for this machine's processor; the builtin agent
    /// needs none.
    pub(super) fn of(kind: ImageKind, versions: &Versions) -> Option<Self> {
        let is_arm = cfg!(target_arch = "aarch64");
        let cpu = if is_arm { "arm64" } else { "x64" };
        let machine = if is_arm { "aarch64" } else { "x86_64" };
        let (program, version, spec, path) = match kind {
            ImageKind::Builtin => return None,
            ImageKind::Claude => {
                let (name, version) = ("@anthropic-ai/claude-code-linux", &versions.claude_code);
                let spec = format!("{name}-{cpu}@{version}");
                ("claude", version, spec, format!("{name}-{cpu}/claude"))
            }
            ImageKind::Codex => {
                // Its platforms are versions of one package.
                let version = &versions.codex;
                let spec = format!("@openai/codex@{version}-linux-{cpu}");
                let target = format!("{machine}-unknown-linux-musl");
                let path = format!("@openai/codex/vendor/{target}/bin/codex");
                ("codex", version, spec, path)
            }
            ImageKind::Opencode => {
                let version = &versions.opencode;
                let name = format!("opencode-linux-{cpu}");
                let spec = format!("{name}@{version}");
                ("opencode", version, spec, format!("{name}/bin/opencode"))
            }
        };
        Some(Self {
            program,
            version: version.clone(),
            spec,
            path,
            companions: match kind {
                // Runs the scripts in which current models call all tools.
                ImageKind::Codex => &["codex-code-mode-host"],
                _ => &[],
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned_exactly() {
        let versions = Versions::pinned().unwrap();
        for kind in [ImageKind::Claude, ImageKind::Codex, ImageKind::Opencode] {
            let package = Package::of(kind, &versions).unwrap();
            assert!(
                package.spec.contains(&format!("@{}", package.version)),
                "{package:?}"
            );
            assert!(!package.version.starts_with(['^', '~']), "{package:?}");
        }
        assert_eq!(Package::of(ImageKind::Builtin, &versions), None);
    }
}
