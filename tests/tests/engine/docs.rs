//! The documentation is run: every `sh` block, in order, and the table of what
//! an agent cannot do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use drawbridge_testkit::{Answer, Launcher, Model, Program, program_path};
use serde_json::Value;

use crate::{Setting, Test};

pub(crate) const TESTS: &[Test] = &[
    ("docs_isolation", |setting| run_blocks(setting, "isolation")),
    ("docs_migration", |setting| run_blocks(setting, "migration")),
    ("docs_operations", |setting| {
        run_blocks(setting, "operations")
    }),
    ("docs_requests", |setting| run_blocks(setting, "requests")),
    ("docs_troubleshooting", |setting| {
        run_blocks(setting, "troubleshooting")
    }),
    ("the_isolation_table_is_true", the_isolation_table_is_true),
];

fn read(page: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    fs::read_to_string(docs.join(format!("{page}.md"))).unwrap()
}

/// The `sh` blocks of a page, one after the other.
fn blocks(page: &str) -> String {
    let text = read(page);
    let mut script = String::new();
    // Blocks within lists are indented, by as much as their first line.
    let mut indent = None;
    for line in text.lines() {
        match (line.trim(), indent) {
            ("```sh", _) => indent = line.find('`'),
            ("```", _) => indent = None,
            (_, Some(indent)) => {
                script.push_str(&format!("{}\n", line.get(indent..).unwrap_or("")))
            }
            (_, None) => {}
        }
    }
    assert!(!script.is_empty(), "{page} has no sh block");
    script
}

fn run_blocks(setting: Setting, page: &str) {
    let model = Model::start(|_| Answer::Text("done".into()));
    let launcher = Launcher::new(setting.credential, &model);
    let bin = launcher.working_directory().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["drawbridge", "credential-proxy"] {
        symlink(program_path(&format!("{name}-dup")), bin.join(name)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let drawbridge = launcher.command(&[]);
    let mut shell = Command::new("bash");
    shell
        .args(["-euxo", "pipefail", "-c", &blocks(page)])
        .env_clear()
        .envs(drawbridge.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("DRAWBRIDGE_AGENT", setting.agent.name())
        .current_dir(launcher.working_directory());
    let ended = Program::run(&mut shell);
    assert_eq!(ended.code, 0, "{page}: {}{}", ended.out, ended.err);
    launcher.assert_nothing_left();
}

fn the_isolation_table_is_true(setting: Setting) {
    let model = Model::start(|_| Answer::Text("never".into()));
    let launcher = Launcher::new(setting.credential, &model);
    let columns = [
        vec!["--runtime", "docker"],
        vec!["--runtime", "docker", "--network", "bridge"],
        vec!["--runtime", "host"],
    ];
    let observed = columns.map(|flags| {
        let agent = ["doctor", "--json", "--agent", setting.agent.name()];
        let ended = launcher.run(&[&agent[..], &flags].concat());
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        inside(&report)
    });
    let text = read("isolation");
    let (_, table) = text.split_once("|---|---|---|---|---|\n").unwrap();
    let rows: Vec<Vec<_>> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        for (column, checks) in observed.iter().enumerate() {
            let found = checks.get(row[0]).map_or("-", String::as_str);
            assert_eq!(row[column + 1], found, "{}, column {column}", row[0]);
        }
    }
}

/// What the doctor saw inside, in the table's words.
fn inside(report: &Value) -> BTreeMap<String, String> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["place"] == "inside")
        .map(|check| {
            let detail = check["detail"].as_str().unwrap();
            let word = match detail.split_once(':') {
                Some((word @ ("blocked" | "open"), _)) => word,
                _ if check["status"] == "pass" => "ok",
                _ => "broken",
            };
            (check["name"].as_str().unwrap().to_owned(), word.to_owned())
        })
        .collect()
}
