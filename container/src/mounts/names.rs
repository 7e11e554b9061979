//! Names that are known to hold secrets.
//!
//! Names are compared with whole components of a path, never with parts of
//! them, and without regard to case, as some file systems do.

use std::path::Path;

/// Names that may not be mounted, nor be on the way to a mount: NanoClaw's
/// list, and what other tools keep credentials in.
const BLOCKED: [&str; 26] = [
    ".ssh",
    ".gnupg",
    ".gpg",
    ".aws",
    ".azure",
    ".gcloud",
    ".kube",
    ".docker",
    "credentials",
    ".env",
    ".netrc",
    ".npmrc",
    ".pypirc",
    "id_rsa",
    "id_ed25519",
    "private_key",
    ".secret",
    ".secrets",
    ".git-credentials",
    ".password-store",
    ".vault-token",
    ".pgpass",
    ".config/gcloud",
    ".config/gh",
    ".local/share/keyrings",
    ".mozilla",
];

/// Folders that are hidden wherever they are found below a mounted one.
const SECRET_FOLDERS: [&str; 13] = [
    ".ssh",
    ".gnupg",
    ".gpg",
    ".aws",
    ".azure",
    ".gcloud",
    ".kube",
    ".secret",
    ".secrets",
    ".password-store",
    ".config/gcloud",
    ".config/gh",
    ".local/share/keyrings",
];

/// Files that are hidden wherever they are found below a mounted folder.
/// Shorter than [`BLOCKED`]: a package may well have a folder `credentials`.
const SECRET_FILES: [&str; 22] = [
    ".env",
    ".envrc",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".git-credentials",
    ".vault-token",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "private_key",
    "private_key.pem",
    "credentials",
    "credentials.json",
    ".credentials.json",
    ".secret",
    ".secrets",
    ".docker/config.json",
    ".codex/auth.json",
];

/// Ends of `.env.*` names of files that are made to be shared.
const SHARED_ENV: [&str; 5] = [
    ".env.example",
    ".env.sample",
    ".env.template",
    ".env.dist",
    ".env.defaults",
];

/// The names that count, the user's own included.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    own: Vec<String>,
}

impl Names {
    /// The names that are always there, and the user's.
    pub(super) fn with(own: &[String]) -> Self {
        let own = own.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { own }
    }

    /// The part of a path that forbids to mount it.
    pub(super) fn blocked(&self, path: &Path) -> Option<String> {
        let path = lower(path);
        let mut ancestors = path.ancestors();
        let found = ancestors.find(|path| {
            BLOCKED.iter().any(|name| path.ends_with(name)) || is_env(path) || self.is_own(path)
        });
        found.map(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        })
    }

    /// Whether a file that was found below a mounted folder has to be hidden.
    pub(super) fn hides_file(&self, path: &Path) -> bool {
        let path = lower(path);
        SECRET_FILES.iter().any(|name| path.ends_with(name)) || is_env(&path) || self.is_own(&path)
    }

    /// Whether a folder that was found below a mounted one has to be hidden.
    pub(super) fn hides_folder(&self, path: &Path) -> bool {
        let path = lower(path);
        SECRET_FOLDERS.iter().any(|name| path.ends_with(name)) || self.is_own(&path)
    }

    fn is_own(&self, path: &Path) -> bool {
        self.own.iter().any(|name| path.ends_with(name))
    }
}

/// `.env.production` and its like.
fn is_env(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(".env.") && !SHARED_ENV.contains(&name.as_ref())
}

fn lower(path: &Path) -> std::path::PathBuf {
    path.as_os_str().to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_components() {
        let names = Names::with(&["Vault/private".to_owned()]);
        for path in [
            "/home/a/.ssh",
            "/home/a/.SSH/keys",
            "/srv/app/.env",
            "/srv/app/.env.production",
            "/srv/credentials/x",
            "/home/a/.config/gh",
            "/srv/vault/private/x",
        ] {
            assert!(names.blocked(Path::new(path)).is_some(), "{path}");
        }
        for path in [
            "/srv/my.ssh.notes",
            "/srv/environment",
            "/srv/.env.example",
            "/srv/credentials-docs",
            "/srv/vault",
            "/home/a/.config/other",
        ] {
            assert_eq!(names.blocked(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn what_packages_call_credentials_stays_visible() {
        let names = Names::default();
        for path in [
            ".env",
            "a/.env.local",
            "a/b/id_rsa",
            "aws/credentials",
            ".docker/config.json",
        ] {
            assert!(names.hides_file(Path::new(path)), "{path}");
        }
        for path in [
            ".env.example",
            "docs/credentials.md",
            "config.json",
            "id_rsa.pub",
        ] {
            assert!(!names.hides_file(Path::new(path)), "{path}");
        }
        assert!(names.hides_folder(Path::new("x/.aws")));
        for path in ["lib/credentials", ".docker", "src"] {
            assert!(!names.hides_folder(Path::new(path)), "{path}");
        }
    }
}
