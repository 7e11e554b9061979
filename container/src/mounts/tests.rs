use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;

struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// A home with a project, an allowlist for it, and a state folder.
    fn new() -> Self {
        // Not below /tmp: an image has that path itself.
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let machine = Self { folder };
        for name in [
            "home/src/app",
            "home/src/.ssh",
            "home/.config/drawbridge",
            "state",
        ] {
            fs::create_dir_all(machine.path(name)).unwrap();
        }
        machine.allow("~/src", true);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn allow(&self, root: &str, is_writable: bool) {
        self.allowlist(&format!(
            r#"{{"allowedRoots": [{{"path": "{root}", "allowReadWrite": {is_writable}}}],
                "blockedPatterns": ["vault"], "nonMainReadOnly": false}}"#
        ));
    }

    fn allowlist(&self, text: &str) {
        let path = self.path("home/.config/drawbridge/mount-allowlist.json");
        fs::write(path, text).unwrap();
    }

    fn check(&self, flags: &[&str]) -> Result<Vec<CheckedMount>> {
        let requests: Result<Vec<_>> = flags
            .iter()
            .map(|flag| MountRequest::from_flag(flag))
            .collect();
        let home = self.path("home");
        let list = place(|name| (name == "HOME").then(|| home.display().to_string()));
        let rules = Rules {
            home: Some(&home),
            allowlist: list.as_deref(),
            private: &[self.path("state")],
            configuration: &[
                self.path("home/src/here/deep/drawbridge.toml"),
                self.path("home/.config/drawbridge/drawbridge.toml"),
                self.path("home/src/here/deep/.env"),
            ],
            is_main: false,
        };
        let requests = requests?;
        let required = rules.require(&requests);
        let checked = rules.check(&requests);
        assert!(required.is_ok() || checked.is_err());
        checked
    }

    #[track_caller]
    fn refusal(&self, flag: &str) -> String {
        let error = self.check(&[flag]).unwrap_err();
        assert_eq!(error.exit().code(), 2, "{error:?}");
        error.one_line()
    }
}

#[test]
fn an_allowed_folder_is_mounted_under_its_name() {
    let machine = Machine::new();
    let mounts = machine.check(&["~/src/app", "~/src/app:two:rw", "~/src/app:same-path"]);
    let mounts = mounts.unwrap();
    let targets: Vec<_> = mounts.iter().map(|mount| mount.target.clone()).collect();
    let app = fs::canonicalize(machine.path("home/src/app")).unwrap();
    let extra = |name: &str| PathBuf::from("/workspace/extra").join(name);
    assert_eq!(targets, [extra("app"), extra("two"), app.clone()]);
    assert_eq!(mounts[0].id, FileId::of_path(&app).unwrap());
    assert_eq!(mounts[1].access, Access::Write);
}

#[test]
fn what_the_allowlist_does_not_name_is_refused() {
    let machine = Machine::new();
    fs::create_dir(machine.path("home/other")).unwrap();
    assert!(machine.refusal("~/other").contains("no allowed root holds"));
    machine.allow("~/src", false);
    assert!(
        machine
            .refusal("~/src/app:rw")
            .contains("allowReadWrite is false")
    );
    machine.check(&["~/src/app"]).unwrap();
    let twice = machine.check(&["~/src/app", "~/src/app"]).unwrap_err();
    assert!(twice.to_string().contains("both be mounted"), "{twice}");
}

#[test]
fn an_allowlist_that_cannot_be_trusted_allows_nothing() {
    let machine = Machine::new();
    let list = machine.path("home/.config/drawbridge/mount-allowlist.json");
    for text in [
        "",
        "{}",
        r#"{"allowedRoots": "~", "blockedPatterns": [], "nonMainReadOnly": false}"#,
        r#"{"allowedRoots": [], "blockedPatterns": [""], "nonMainReadOnly": false}"#,
        r#"{"allowedRoots": [], "blockedPatterns": [], "nonMainReadOnly": "no"}"#,
        r#"{"allowedRoot": [], "blockedPatterns": [], "nonMainReadOnly": false}"#,
    ] {
        machine.allowlist(text);
        assert!(
            machine
                .refusal("~/src/app")
                .contains("nothing can be mounted"),
            "{text}"
        );
    }
    machine.allow("~/src", true);
    fs::set_permissions(&list, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(machine.refusal("~/src/app").contains("others than you"));
    fs::remove_file(list).unwrap();
    assert!(
        machine
            .refusal("~/src/app")
            .contains("nothing may be mounted")
    );
}

#[test]
fn for_groups_that_are_not_main_all_may_be_read_only() {
    let machine = Machine::new();
    machine.allowlist(
        r#"{"allowedRoots": [{"path": "~/src", "allowReadWrite": true, "description": "mine"}],
            "blockedPatterns": [], "nonMainReadOnly": true}"#,
    );
    assert!(machine.refusal("~/src/app:rw").contains("nonMainReadOnly"));
    machine.check(&["~/src/app"]).unwrap();
}

#[test]
fn secrets_and_what_leads_to_them_are_refused() {
    let machine = Machine::new();
    symlink(
        machine.path("home/src/.ssh"),
        machine.path("home/src/harmless"),
    )
    .unwrap();
    fs::create_dir(machine.path("home/src/vault")).unwrap();
    for flag in [
        "~/src/.ssh:keys",
        "~/src/harmless",
        "~/src/app/../.ssh:keys",
        "~/src/vault",
    ] {
        assert!(
            machine.refusal(flag).contains("known to hold secrets"),
            "{flag}"
        );
    }
    symlink("/etc", machine.path("home/src/app/etc")).unwrap();
    assert!(
        machine
            .refusal("~/src/app/etc")
            .contains("belongs to the system")
    );
}

#[test]
fn our_own_folders_and_the_systems_are_never_mounted() {
    let machine = Machine::new();
    machine.allow("/", true);
    for path in [
        "home",
        "home/.config",
        "home/.config/drawbridge",
        "state",
        ".",
    ] {
        let path = machine.path(path).display().to_string() + ":x";
        assert!(
            machine.refusal(&path).contains("no agent may see"),
            "{path}"
        );
    }
    for path in ["/", "/var", "/etc", "/proc/self", "/var/lib/docker"] {
        machine.refusal(&format!("{path}:x"));
    }
}

#[test]
fn a_socket_is_refused_and_one_below_is_hidden() {
    let machine = Machine::new();
    let socket = machine.path("home/src/app/engine.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert!(
        machine
            .refusal("~/src/app/engine.sock")
            .contains("neither a folder")
    );
    let mounts = machine.check(&["~/src/app"]).unwrap();
    assert_eq!(mounts[0].hidden[0].path, Path::new("engine.sock"));
}

#[test]
fn secrets_below_are_found_at_any_depth_and_behind_no_link() {
    let machine = Machine::new();
    for name in ["a/b/.aws", "a/.git", "a/closed"] {
        fs::create_dir_all(machine.path("home/src/app").join(name)).unwrap();
    }
    for name in [
        ".env",
        "a/b/.env.local",
        "a/b/.aws/credentials",
        "a/.env.example",
        "a/main.rs",
    ] {
        fs::write(machine.path("home/src/app").join(name), "TOP=SECRET").unwrap();
    }
    symlink(".env", machine.path("home/src/app/link")).unwrap();
    symlink("..", machine.path("home/src/app/a/loop")).unwrap();
    let mounts = machine.check(&["~/src/app"]).unwrap();
    let mut found: Vec<_> = mounts[0]
        .hidden
        .iter()
        .map(|h| h.path.display().to_string())
        .collect();
    found.sort();
    assert_eq!(found, [".env", "a/b/.aws", "a/b/.env.local"]);
    let own = secrets_in(&machine.path("home/src/app")).unwrap();
    assert_eq!(own.len(), 3);
}

#[test]
fn a_folder_too_large_or_too_deep_to_look_through_is_refused() {
    let machine = Machine::new();
    let app = machine.path("home/src/app");
    for number in 0..=100 {
        fs::create_dir(app.join(format!("{number}"))).unwrap();
        fs::write(app.join(format!("{number}/.env")), "").unwrap();
    }
    assert!(
        machine
            .refusal("~/src/app")
            .contains("more than 100 secret files")
    );
    let deep: PathBuf = std::iter::repeat_n("d", 130).collect();
    fs::create_dir_all(machine.path("home/src/deep").join(deep)).unwrap();
    assert!(machine.refusal("~/src/deep").contains("too deep"));
}

#[test]
fn a_path_with_a_link_in_it_cannot_be_opened_as_checked() {
    let machine = Machine::new();
    symlink("app", machine.path("home/src/link")).unwrap();
    fs::create_dir(machine.path("home/src/app/sub")).unwrap();
    let plain = fs::canonicalize(machine.path("home/src/app/sub")).unwrap();
    walk::open_plain(&plain).unwrap();
    walk::open_plain(&machine.path("home/src/link/sub")).unwrap_err();
    let link = walk::open_plain(&machine.path("home/src/link"));
    assert!(link.is_err() || walk::kind(&link.unwrap()).unwrap() == FileType::Symlink);
}

#[test]
fn the_same_path_is_refused_where_the_image_has_its_own() {
    let source = |path: &str| target(&Place::SamePath, Path::new(path));
    for path in [
        "/usr/local/x",
        "/tmp/x",
        "/home",
        "/home/agent/x",
        "/workspace/x",
    ] {
        source(path).unwrap_err();
    }
    assert_eq!(source("/home/me/src").unwrap(), Path::new("/home/me/src"));
}

/// What an agent leaves where the next command reads its configuration would be
/// an order to the host.
#[test]
fn where_our_configuration_is_read_no_agent_may_write() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("home/src/here/deep/below")).unwrap();
    for flag in ["~/src/here:rw", "~/src/here/deep:rw", "~/src:x:rw"] {
        let refusal = machine.refusal(flag);
        assert!(
            refusal.contains("would read it as") && refusal.contains("/drawbridge.toml"),
            "{refusal}"
        );
    }
    for flag in ["~/src/here", "~/src/here/deep", "~/src/here/deep/below:rw"] {
        machine.check(&[flag]).unwrap();
    }
}

#[test]
fn no_file_that_configuration_is_read_from_may_be_written() {
    let machine = Machine::new();
    let here = machine.path("home/src/here/deep");
    fs::create_dir_all(&here).unwrap();
    let file = here.join("drawbridge.toml");
    fs::write(&file, "").unwrap();
    let flag = "~/src/here/deep/drawbridge.toml";
    let refusal = machine.refusal(&format!("{flag}:rw"));
    assert!(refusal.contains("would read it as"), "{refusal}");
    machine.check(&[flag]).unwrap();
}

/// A link may be replaced where it is, and may lead to what is not there yet.
#[test]
fn no_folder_that_linked_configuration_leads_into_may_be_written() {
    for link in [
        "home/src/here/deep/drawbridge.toml",
        "home/.config/drawbridge/drawbridge.toml",
        "home/src/here/deep/.env",
    ] {
        let machine = Machine::new();
        for folder in ["here/deep", "passed", "left", "end"] {
            fs::create_dir_all(machine.path("home/src").join(folder)).unwrap();
        }
        let end = machine.path("home/src/end/settings");
        let passed = machine.path("home/src/passed/link");
        symlink(
            machine.path("home/src/left/../passed/link"),
            machine.path(link),
        )
        .unwrap();
        symlink("../end/settings", &passed).unwrap();
        for is_there in [false, true] {
            if is_there {
                fs::write(&end, "").unwrap();
                machine.refusal("~/src/end/settings:rw");
            }
            for folder in ["end", "passed", "left"] {
                let refusal = machine.refusal(&format!("~/src/{folder}:rw"));
                let name = Path::new(link).file_name().unwrap().to_str().unwrap();
                assert!(refusal.contains(name), "{link} {folder}: {refusal}");
                machine.check(&[&format!("~/src/{folder}")]).unwrap();
            }
        }
        machine.check(&["~/src/app:rw"]).unwrap();
    }
    let machine = Machine::new();
    let looped = machine.path("home/.config/drawbridge/drawbridge.toml");
    symlink(&looped, &looped).unwrap();
    machine.check(&["~/src/app:rw"]).unwrap();
}
