//! git over HTTPS through the `github` preset.

use std::fs;
use std::path::Path;
use std::process::Command;

use drawbridge_testkit::git::GitServer;
use drawbridge_testkit::{Canary, Ended, FAKE_KEY, Program, requirement};

use crate::Test;
use crate::proxy;

pub(crate) const TESTS: &[Test] = &[("git_clones_and_pushes", git_clones_and_pushes)];

/// More than git sends in one piece, so that the push comes in chunks.
const FILE_BYTES: u32 = 3 * 1024 * 1024;

pub(crate) fn availability() -> Result<(), String> {
    requirement::program("git").map(drop)
}

fn git_clones_and_pushes() {
    let server = GitServer::start("x-access-token", FAKE_KEY);
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("roots.pem"),
        server.upstream.authority().unwrap(),
    )
    .unwrap();
    let configuration = format!(
        "[proxy]\nextra-roots = [\"roots.pem\"]\n\
         [[route]]\npreset = \"github\"\nupstream = \"{}\"\nallow-private = true\n",
        server.upstream.url()
    );
    let proxy = proxy::start_in(folder, &configuration, &[("GITHUB_TOKEN", FAKE_KEY)]);
    let token = proxy.token();
    let url = |token: &str| {
        let address = proxy.address;
        format!("http://agent:{token}@{address}/github-git/team/project.git")
    };
    let work = tempfile::tempdir().unwrap();
    let work = work.path();

    let refused = git(work, &["clone", &url("placeholder"), "refused"]);
    assert_ne!(refused.code, 0);
    assert!(server.upstream.requests().is_empty());

    done(git(work, &["clone", &url(&token), "first"]));
    let first = work.join("first");
    let noise: Vec<u8> = (0..FILE_BYTES / 4)
        .flat_map(|n| {
            n.wrapping_mul(0x9E37_79B1)
                .rotate_left(n % 31)
                .to_le_bytes()
        })
        .collect();
    fs::write(first.join("noise"), &noise).unwrap();
    done(git(&first, &["add", "noise"]));
    done(git(&first, &["commit", "--message", "Add noise"]));
    done(git(&first, &["push", "origin", "HEAD:main"]));
    done(git(work, &["clone", &url(&token), "second"]));
    assert_eq!(fs::read(work.join("second/noise")).unwrap(), noise);

    let requests = server.upstream.requests();
    let is_chunked = |r: &drawbridge_testkit::Request| {
        r.header("transfer-encoding").is_some() && r.target.ends_with("git-receive-pack")
    };
    assert!(requests.iter().any(is_chunked), "the push was not streamed");
    for request in requests {
        assert!(!request.text().contains(&token), "{}", request.target);
    }
    Canary::new(FAKE_KEY).assert_absent("the log", proxy.program.err());
    assert!(Canary::new(FAKE_KEY).assert_absent_below(work) > 10);
}

fn git(folder: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=tester", "-c", "user.email=t@example.com"])
        .args(args)
        .current_dir(folder)
        .env("HOME", folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    Program::run(&mut command)
}

fn done(ended: Ended) {
    assert_eq!(ended.code, 0, "{}", ended.err);
}
