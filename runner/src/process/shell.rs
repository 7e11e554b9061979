//! The shell that commands are given to.

use std::ffi::OsString;

/// A shell: bash where there is one, else what there is.
#[derive(Clone, Debug)]
pub(crate) struct Shell {
    pub(crate) program: OsString,
    /// Arguments that come before all others.
    pub(crate) args: Vec<OsString>,
}

impl Shell {
    /// Looks for a shell in `PATH`.
    pub(crate) fn find() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let exists =
            |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
        match ["bash", "sh"].into_iter().find(exists) {
            Some(shell) => Self {
                program: shell.into(),
                args: Vec::new(),
            },
            None => Self {
                program: "busybox".into(),
                args: vec!["sh".into()],
            },
        }
    }
}
