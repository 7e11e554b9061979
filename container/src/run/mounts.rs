//! The mounts of a run: the parts of this machine that its agent sees, and the
//! secrets in them that are masked.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use drawbridge_settings::{Document, Environment};
use drawbridge_shared::protocol::MountedFile;

use super::context::RunContext;
use crate::engine::Runtime;
use crate::error::{Context, Error, Result};
use crate::mounts::{CheckedMount, FileId, Masked, MountRequest, Rules, place, secrets_in};
use crate::requests::Snapshot;
use crate::spec::{Access, Mount, MountSummary, WORKSPACE};
use crate::state::{Group, State};

/// Folders of the state folder that all groups may read, and where a container
/// has them.
const SHARED: [(&str, &str); 2] = [
    ("global", "/workspace/global"),
    ("skills", "/workspace/skills"),
];

/// Everything that a run sees of this machine in addition to its own folders.
#[derive(Debug)]
pub(super) struct RunMounts {
    checked: Vec<CheckedMount>,
    /// Secrets in the workspace, below it.
    in_workspace: Vec<Masked>,
    shared: Vec<(PathBuf, &'static str)>,
    covers: Covers,
}

impl RunMounts {
    /// Checks what was asked for, and looks for secrets.
    pub(super) fn check(
        context: &RunContext<'_>,
        group: &Group,
        snapshot: &Snapshot,
    ) -> Result<Self> {
        let (settings, state) = (&context.settings, context.state);
        let mut checked = with_rules(state, snapshot.is_main(group.name()), |rules| {
            rules.check(&settings.mounts)
        })?;
        let in_workspace = if settings.mask_secrets {
            secrets_in(&group.workspace())?
        } else {
            checked.iter_mut().for_each(|mount| mount.hidden.clear());
            Vec::new()
        };
        let shared = SHARED.map(|(name, target)| (state.root().join(name), target));
        Ok(Self {
            checked,
            in_workspace,
            shared: shared
                .into_iter()
                .filter(|(path, _)| path.is_dir())
                .collect(),
            covers: Covers::below(&context.folder.covers()),
        })
    }

    /// The number of files and folders that are masked.
    pub(super) fn masked(&self) -> usize {
        let in_mounts: usize = self.checked.iter().map(|mount| mount.hidden.len()).sum();
        in_mounts + self.in_workspace.len()
    }

    /// The mounts that were asked for, as the agent finds them.
    pub(super) fn summaries(&self, runtime: &Runtime) -> Vec<MountSummary> {
        let shown = self.checked.iter().map(|mount| MountSummary {
            source: mount.source.clone(),
            target: place_of(mount, runtime).to_owned(),
            writable: mount.access == Access::Write,
        });
        shown.collect()
    }

    /// Folders that the runner does not find on its own.
    pub(super) fn extra_folders(&self, runtime: &Runtime) -> Vec<PathBuf> {
        let folders = self.checked.iter().filter(|mount| mount.is_folder);
        let places = folders.map(|mount| place_of(mount, runtime));
        places
            .filter(|path| !path.starts_with(crate::mounts::EXTRA))
            .map(Path::to_owned)
            .collect()
    }

    /// A shared folder, for an agent on this machine.
    pub(super) fn shared(&self, name: &str) -> Option<PathBuf> {
        let mut shared = self.shared.iter();
        let found = shared.find(|(path, _)| path.file_name().is_some_and(|last| last == name));
        found.map(|(path, _)| path.clone())
    }

    /// Files that the runner has to find before it starts an agent. In a virtual
    /// machine files have other numbers, so nothing can be compared there.
    pub(super) fn expected_files(&self, runtime: &Runtime) -> Result<Vec<MountedFile>> {
        if matches!(runtime, Runtime::Container(_, facts) if facts.is_in_vm) {
            return Ok(Vec::new());
        }
        let mut expected: Vec<_> = self
            .checked
            .iter()
            .map(|mount| mount.id.expected_at(place_of(mount, runtime).to_owned()))
            .collect();
        if matches!(runtime, Runtime::Container(..)) {
            for (cover, target) in self.covered() {
                let id = FileId::of_path(&cover).context(no_cover)?;
                expected.push(id.expected_at(target));
            }
        }
        Ok(expected)
    }

    /// The mounts of a container, and the covers over what it must not see.
    pub(super) fn mounts(&self) -> Result<Vec<Mount>> {
        let shared = self.shared.iter();
        let shared = shared.map(|(path, target)| (path.clone(), target.into(), Access::Read));
        let checked = self.checked.iter();
        let checked =
            checked.map(|mount| (mount.source.clone(), mount.target.clone(), mount.access));
        let covers = self.covered().into_iter();
        let covers = covers.map(|(cover, target)| (cover, target, Access::Read));
        let mounts: Result<Vec<_>, _> = shared
            .chain(checked)
            .chain(covers)
            .map(|(source, target, access)| Mount::new(source, target, access))
            .collect();
        mounts.context(|| Error::usage("the name of a mount, or of a secret file in one, cannot be passed to the container engine"))
    }

    /// Paths that the sandbox of an agent on this machine lets it write to or hides.
    pub(super) fn host_paths(&self) -> Result<HostPaths> {
        let mut view = HostPaths::default();
        if let Some(secret) = self.in_workspace.first() {
            return Err(cannot_hide(&Path::new("the workspace").join(&secret.path)));
        }
        for mount in &self.checked {
            let mut hidden = mount.hidden.iter().map(|h| mount.source.join(&h.path));
            if mount.access == Access::Read {
                view.hide.extend(hidden);
            } else if let Some(secret) = hidden.next() {
                return Err(cannot_hide(&secret));
            } else {
                view.write.push((mount.source.clone(), mount.id));
            }
        }
        Ok(view)
    }

    /// Makes the files that cover secrets in a container, if there are any.
    pub(super) fn make_covers(&self, runtime: &Runtime) -> Result<()> {
        match runtime {
            Runtime::Container(..) if self.masked() > 0 => self.covers.make().context(no_cover),
            _ => Ok(()),
        }
    }

    /// Each cover and the path that it masks.
    fn covered(&self) -> Vec<(PathBuf, PathBuf)> {
        let in_mounts = self
            .checked
            .iter()
            .map(|mount| (&*mount.target, &mount.hidden));
        in_mounts
            .chain([(Path::new(WORKSPACE), &self.in_workspace)])
            .flat_map(|(target, hidden)| {
                let covers = &self.covers;
                hidden
                    .iter()
                    .map(move |hidden| (covers.of(hidden), target.join(&hidden.path)))
            })
            .collect()
    }
}

/// Refuses mounts that no run of a group like this would get.
pub(crate) fn require_mountable(
    mounts: &[MountRequest],
    state: &State,
    is_main: bool,
) -> Result<()> {
    with_rules(state, is_main, |rules| rules.require(mounts))
}

/// Does `work` with what mounts are checked against on this machine.
fn with_rules<T>(
    state: &State,
    is_main: bool,
    work: impl FnOnce(&Rules<'_>) -> Result<T>,
) -> Result<T> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = variable("HOME").map(PathBuf::from);
    let environment = Environment::observe()
        .context(|| Error::not_started("the working directory cannot be read"))?;
    let configuration = [
        Some(Document::place_here(&environment)),
        Document::place_of_user(&environment),
        Some(environment.dotenv_path()),
    ];
    let configuration = configuration.into_iter().flatten();
    // A folder that the environment names may be relative.
    let configuration = configuration.map(|path| environment.directory().join(path));
    work(&Rules {
        home: home.as_deref(),
        allowlist: place(variable).as_deref(),
        private: &[state.root().to_owned()],
        configuration: &configuration.collect::<Vec<_>>(),
        is_main,
    })
}

/// The mounts as Landlock needs them.
#[derive(Debug, Default)]
pub(super) struct HostPaths {
    pub(super) write: Vec<(PathBuf, FileId)>,
    pub(super) hide: Vec<PathBuf>,
}

/// On this machine a folder is where it is.
fn place_of<'a>(mount: &'a CheckedMount, runtime: &Runtime) -> &'a Path {
    match runtime {
        Runtime::Container(..) => &mount.target,
        Runtime::Host => &mount.source,
    }
}

fn no_cover() -> Error {
    Error::not_started("cannot make the empty files that cover secrets")
}

fn cannot_hide(secret: &Path) -> Error {
    let secret = secret.display();
    Error::not_started(format!(
        "Landlock cannot hide {secret} in a folder that may be written to"
    ))
    .hint("choose a container runtime, or show it with --mask-secrets false")
}

/// An empty file and an empty folder that are put over secrets.
#[derive(Debug)]
struct Covers {
    file: PathBuf,
    folder: PathBuf,
}

impl Covers {
    fn below(parent: &Path) -> Self {
        Self {
            file: parent.join("file"),
            folder: parent.join("folder"),
        }
    }

    fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        if !self.file.exists() {
            fs::write(&self.file, "")?;
        }
        fs::set_permissions(&self.file, Permissions::from_mode(0o444))?;
        fs::set_permissions(&self.folder, Permissions::from_mode(0o555))
    }

    fn of(&self, hidden: &Masked) -> PathBuf {
        if hidden.is_folder {
            self.folder.clone()
        } else {
            self.file.clone()
        }
    }
}
