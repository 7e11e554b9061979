//! The sandbox as Landlock rules.

use std::path::{Path, PathBuf};
use std::{fs, io};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};

use rustix::fs::fstat;
use rustix::process::geteuid;
use rustix::thread::{
    CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set,
};

use super::Sandbox;

/// The oldest kernel interface that restricts TCP; Linux 6.7.
const REQUIRED: ABI = ABI::V4;

/// Device files that programs write to and that keep nothing.
const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];

/// Why the sandbox cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub(super) enum SandboxError {
    #[error("the kernel has no Landlock, or one older than Linux 6.7")]
    Unsupported(#[source] RulesetError),
    #[error("the kernel enforced a part of the rules only")]
    Partial,
    #[error("a rule is not accepted")]
    Rule(#[from] RulesetError),
    #[error("capabilities cannot be given up")]
    Capabilities(#[source] io::Error),
    #[error("{} is not the folder that was checked", .0.display())]
    Exchanged(PathBuf),
    #[error("cannot look at {}", .0.display())]
    Look(PathBuf, #[source] io::Error),
}

/// Finds out without restricting anything.
pub(super) fn support() -> Result<(), SandboxError> {
    ruleset().map(|_| ())
}

/// Restricts this thread and all that it starts, for good.
pub(super) fn enforce(sandbox: &Sandbox) -> Result<(), SandboxError> {
    let read = AccessFs::from_read(REQUIRED);
    let all = AccessFs::from_all(REQUIRED);
    let mut rules = ruleset()?;
    // Names may be seen everywhere; what is in a file is another matter.
    rules = allow(rules, Path::new("/"), AccessFs::ReadDir.into())?;
    for path in readable(Path::new("/"), &hidden(sandbox))? {
        rules = allow(rules, &path, read)?;
    }
    for path in &sandbox.write {
        rules = allow(rules, path, all)?;
    }
    for checked in &sandbox.write_checked {
        let folder = PathFd::new(&checked.path)
            .map_err(|_| SandboxError::Exchanged(checked.path.clone()))?;
        let found = fstat(&folder)
            .map_err(|error| SandboxError::Look(checked.path.clone(), error.into()))?;
        if (found.st_dev, found.st_ino) != (checked.id.device, checked.id.inode) {
            return Err(SandboxError::Exchanged(checked.path.clone()));
        }
        rules = rules.add_rule(PathBeneath::new(folder, all))?;
    }
    for path in DEVICES {
        rules = allow(rules, Path::new(path), read | AccessFs::WriteFile)?;
    }
    give_up_capabilities().map_err(SandboxError::Capabilities)?;
    let port = NetPort::new(sandbox.port.get(), AccessNet::ConnectTcp);
    let status = rules.add_rule(port)?.restrict_self()?;
    // Scopes came later than the rest and are taken where they are.
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(SandboxError::Partial),
    }
}

/// Makes sure that the next program has no capabilities, also as root: with
/// some of them it could read the memory of processes outside the sandbox.
fn give_up_capabilities() -> io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability),
            Ok(false) => Ok(()),
            // The kernel knows no capability of this number, nor a higher one.
            Err(_) => return Ok(()),
        }
        .or_else(|error| match geteuid().is_root() {
            true => Err(error),
            // Only root gets capabilities from the set.
            false => Ok(()),
        })?;
    }
    Ok(())
}

fn ruleset() -> Result<RulesetCreated, SandboxError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(REQUIRED))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(REQUIRED)))
        .map(|rules| rules.set_compatibility(CompatLevel::BestEffort))
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .map_err(SandboxError::Unsupported)
}

/// Adds a rule for a file or folder; one that is not there needs none.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, SandboxError> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(rules);
    };
    let access = if metadata.is_dir() {
        access
    } else {
        access & AccessFs::from_file(REQUIRED)
    };
    match PathFd::new(path) {
        Ok(file) => Ok(rules.add_rule(PathBeneath::new(file, access))?),
        Err(_) => Ok(rules),
    }
}

/// The hidden paths as the kernel sees them; a link hides what it leads to.
fn hidden(sandbox: &Sandbox) -> Vec<PathBuf> {
    let paths = sandbox.hide.iter();
    paths
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect()
}

/// The largest folders below `path` that hold nothing hidden.
///
/// Landlock can only allow, so what is to be hidden is left out: on the way
/// from the root to a hidden path, each folder is allowed by its other entries.
fn readable(path: &Path, hidden: &[PathBuf]) -> Result<Vec<PathBuf>, SandboxError> {
    if hidden.iter().any(|hidden| hidden == path) {
        return Ok(Vec::new());
    }
    if !hidden.iter().any(|hidden| hidden.starts_with(path)) {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error| SandboxError::Look(path.to_owned(), error);
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // What a link leads to is allowed, or not, where it is.
        if !entry.file_type().map_err(failed)?.is_symlink() {
            found.extend(readable(&entry.path(), hidden)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_hidden_is_readable() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in ["a", "home/.ssh", "home/work"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("home/.env"), "").unwrap();
        std::os::unix::fs::symlink("home", root.join("link")).unwrap();
        let hidden = [root.join("home/.ssh"), root.join("home/.env")];
        let mut found = readable(&root, &hidden).unwrap();
        found.sort();
        assert_eq!(found, [root.join("a"), root.join("home/work")]);
        assert_eq!(readable(&root, &[]).unwrap(), [root]);
    }
}
