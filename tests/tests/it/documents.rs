//! What the documents promise is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::rules::{root, rust_files};

/// Names in backticks in the last column of a document's tables, and those in its
/// other text that can only be a test's.
fn named_gates(document: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let (rows, others): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('|'));
    let cells = rows.iter().filter_map(|row| last_cell(row));
    let names = cells.flat_map(quoted);
    // A test's name, not a program's or a folder's.
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let in_tables = names.filter(|name| name.contains('_'));
    let in_text = others.iter().flat_map(|line| quoted(line));
    let in_text = in_text.filter(|name| {
        name.matches('_').count() >= 3 && !name.contains(|c: char| c.is_ascii_uppercase())
    });
    let all = in_tables.chain(in_text).filter(is_name);
    all.map(str::to_owned).collect()
}

fn last_cell(row: &str) -> Option<&str> {
    row.trim_end_matches('|').rsplit('|').next()
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A row of the comparison without a test says so.
#[test]
fn every_row_of_the_comparison_names_a_test() {
    let text = fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.contains("| Test |");
    let rows: Vec<_> = text.lines().filter(is_row).collect();
    assert!(rows.len() > 60, "{rows:?}");
    for row in rows {
        let cell = last_cell(row).unwrap();
        assert!(cell.trim() == "none" || quoted(cell).count() > 0, "{row}");
    }
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
