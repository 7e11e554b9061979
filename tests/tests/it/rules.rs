//! Rules of the workspace that no compiler checks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use drawbridge_testkit::Program;
use serde_json::Value;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

pub(crate) fn cargo(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let ended = Program::run(
        command
            .args(args)
            .args(["--offline", "--locked"])
            .current_dir(root()),
    );
    assert_eq!(ended.code, 0, "{}", ended.err);
    ended.out
}

/// Dependencies of every member, by kind: `(name, is only for tests)`.
fn members() -> BTreeMap<String, Vec<(String, bool)>> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let name = package["name"].as_str().unwrap().to_owned();
            let all = package["dependencies"].as_array().unwrap().iter();
            let dependencies =
                all.map(|d| (d["name"].as_str().unwrap().to_owned(), d["kind"] == "dev"));
            (name, dependencies.collect())
        })
        .collect()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let allowed = BTreeMap::from([
        ("drawbridge-shared", vec![]),
        ("drawbridge-testkit", vec!["drawbridge-shared"]),
        ("drawbridge-io", vec![]),
        ("drawbridge-settings", vec![]),
        (
            "drawbridge-proxy",
            vec!["drawbridge-io", "drawbridge-settings", "drawbridge-shared"],
        ),
        (
            "drawbridge-runner",
            vec!["drawbridge-io", "drawbridge-shared"],
        ),
        (
            "drawbridge-container",
            vec![
                "drawbridge-io",
                "drawbridge-proxy",
                "drawbridge-runner",
                "drawbridge-settings",
                "drawbridge-shared",
            ],
        ),
        (
            "drawbridge-tests",
            vec![
                "drawbridge-container",
                "drawbridge-proxy",
                "drawbridge-runner",
                "drawbridge-shared",
                "drawbridge-testkit",
            ],
        ),
    ]);
    for (member, dependencies) in members() {
        let ours = dependencies
            .iter()
            .filter(|(name, _)| name.starts_with("drawbridge-"));
        for (dependency, is_for_tests) in ours {
            let is_testkit = *is_for_tests && dependency == "drawbridge-testkit";
            assert!(
                is_testkit || allowed[member.as_str()].contains(&dependency.as_str()),
                "{member} depends on {dependency}"
            );
        }
    }
}

#[test]
fn the_shared_crate_has_neither_network_nor_async_code() {
    let members = members();
    for (dependency, is_for_tests) in &members["drawbridge-shared"] {
        let is_async = ["tokio", "hyper", "futures", "rustls"].contains(&dependency.as_str());
        assert!(*is_for_tests || !is_async, "shared depends on {dependency}");
    }
}

/// The static runner must not carry a cryptography library: it never speaks TLS.
#[test]
fn the_runner_has_no_tls() {
    let tree = cargo(&[
        "tree",
        "-p",
        "drawbridge-runner",
        "-e",
        "normal",
        "--prefix",
        "none",
    ]);
    for name in ["rustls ", "aws-lc", "ring ", "openssl"] {
        assert!(!tree.contains(name), "the runner depends on {name}");
    }
}

/// Agents reach the proxy by its address, so no connection is intercepted and
/// there is no authority whose key could be stolen.
#[test]
fn class_27_no_program_can_make_certificates() {
    for package in ["proxy", "runner", "container"] {
        let package = format!("drawbridge-{package}");
        let tree = cargo(&["tree", "-p", &package, "-e", "normal", "--prefix", "none"]);
        for name in ["rcgen ", "x509-cert ", "openssl "] {
            assert!(!tree.contains(name), "{package} depends on {name}");
        }
    }
}

#[test]
fn there_is_one_cryptography_provider() {
    let tree = cargo(&["tree", "--workspace", "--prefix", "none"]);
    assert!(tree.contains("aws-lc-rs "), "{tree}");
    assert!(!tree.contains("\nring "), "ring is in the build graph");
}

#[test]
fn files_stay_under_500_lines() {
    let mut files = Vec::new();
    for folder in ["shared", "proxy", "runner", "container", "tests"] {
        rust_files(&root().join(folder), &mut files);
    }
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        let is_test = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
        assert!(
            lines <= 500 || file.iter().any(is_test),
            "{} has {lines} lines",
            file.display()
        );
    }
}

pub(crate) fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The set-up of a newcomer is two commands, and these are tested as written, but
/// for the demo's profile, which is built faster.
#[test]
fn the_readme_shows_the_demo_and_the_test_command() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let script = fs::read_to_string(root().join("tests/run.sh")).unwrap();
    assert!(readme.contains("\ncargo run --release -- demo\n"));
    assert!(readme.contains("\ntests/run.sh\n"));
    assert!(script.contains("cargo run --profile quick --locked -- demo\n"));
}

/// The demo's last lines, and every page, name programs by their bare names.
#[test]
fn the_readme_builds_each_program_of_the_host() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let commands: Vec<Vec<_>> = readme
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    let builds = |package: &str| {
        let mut commands = commands.iter();
        commands.any(|words| {
            words.starts_with(&["cargo", "build", "--release"])
                && words.windows(2).any(|pair| pair == ["-p", package])
        })
    };
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    for program in ["drawbridge", "credential-proxy"] {
        let mut packages = metadata["packages"].as_array().unwrap().iter();
        let package = packages.find(|package| {
            let mut targets = package["targets"].as_array().unwrap().iter();
            targets.any(|target| target["name"] == program && target["kind"][0] == "bin")
        });
        let package = package.unwrap()["name"].as_str().unwrap();
        assert!(builds(package), "{program} is not built: {package}");
    }
    assert!(
        readme.contains("target/release"),
        "no word on where they are"
    );
}

#[test]
fn ci_runs_the_one_test_command_and_nothing_else() {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let commands: Vec<_> = script
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    assert_eq!(commands, [r#"exec "$(dirname "$0")/../tests/run.sh""#]);
}

/// Lines that users or models read as they stand: help texts and the
/// descriptions of tools.
const SHOWN_TEXTS: [&str; 5] = [
    "What it may do on its routes, such as \"POST /v1/messages\"; repeat for more",
    "How clients prove that they may use the proxy [default: session]",
    "What is logged, such as \"warn\" or \"info,drawbridge::request=off\"",
    "What the agent should do when the task runs. For an isolated task,",
    "How long to wait for the answer; 300 seconds when absent.",
];

/// A reader looks for the thing, not for a question about it.
#[test]
fn no_doc_comment_begins_with_a_question() {
    const QUESTIONS: [&str; 6] = ["What", "Whatever", "Who", "Whoever", "Whose", "How"];
    let mut files = Vec::new();
    for folder in ["shared", "proxy", "runner", "container"] {
        rust_files(&root().join(folder), &mut files);
    }
    let mut found = Vec::new();
    let is_part = |file: &Path, name: &str| file.iter().any(|part| part == name);
    let is_production = |file: &&PathBuf| {
        is_part(file, "src") && !is_part(file, "tests") && !is_part(file, "tests.rs")
    };
    for file in files.iter().filter(is_production) {
        let text = fs::read_to_string(file).unwrap();
        let mut is_continued = false;
        for line in text.lines().map(str::trim_start) {
            let doc = line
                .strip_prefix("//!")
                .or_else(|| line.strip_prefix("///"));
            let doc = doc.map(str::trim);
            let first = doc
                .and_then(|doc| doc.split(' ').next())
                .unwrap_or_default();
            let is_question = QUESTIONS.contains(&first);
            if is_question && !is_continued && !doc.is_some_and(|doc| SHOWN_TEXTS.contains(&doc)) {
                found.push(format!("{}: {line}", file.display()));
            }
            is_continued = doc.is_some();
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
