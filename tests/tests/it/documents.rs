//! What the documents promise is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::rules::{root, rust_files};

/// Names in backticks in the last column of a document's tables.
fn named_gates(document: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    // A test's name, not a program's or a folder's.
    let is_test = |name: &&str| {
        name.contains('_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    names.filter(is_test).map(str::to_owned).collect()
}

/// Each of the thirty classes has a test, or the reason why it needs none.
#[test]
fn every_attack_class_has_a_row() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    for class in 1..=30 {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| {class} |")));
        let is_answered =
            row.is_some_and(|row| row.contains('`') || row.contains("Not applicable"));
        assert!(is_answered, "class {class}: {row:?}");
    }
}

#[test]
fn every_named_gate_exists() {
    let mut files = Vec::new();
    for folder in ["shared", "proxy", "runner", "container", "tests"] {
        rust_files(&root().join(folder), &mut files);
    }
    let read = |file: &Path| fs::read_to_string(file).unwrap();
    let code: String = files.iter().map(|file| read(file)).collect();
    for document in [
        "ARCHITECTURE.md",
        "SECURITY.md",
        "docs/compatibility.md",
        "docs/runtimes.md",
    ] {
        let gates = named_gates(document);
        assert!(gates.len() > 10, "{document}: {gates:?}");
        for gate in gates {
            assert!(
                code.contains(&format!("fn {gate}(")),
                "{document} names {gate}, which does not exist"
            );
        }
    }
}
