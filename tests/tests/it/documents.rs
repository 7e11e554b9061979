//! What the documents promise is there.

use std::collections::BTreeSet;
use std::fs;

use crate::registered;
use crate::rules::root;

const ATTACK_CLASSES: &str = "\n## Attack classes";

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

/// The list that shows each requirement's tests.
fn requirements() -> String {
    fs::read_to_string(root().join("tests/REQUIREMENTS.md")).unwrap()
}

/// Rows of the requirements and their tests; a row without a test says `none`.
#[test]
fn every_row_of_the_comparison_names_a_test() {
    let text = requirements();
    let is_row = |line: &&str| line.starts_with("| ") && !line.contains("| Test |");
    let rows: Vec<_> = text.lines().filter(is_row).collect();
    assert!(rows.len() > 150, "{rows:?}");
    for row in rows {
        let cell = last_cell(row).unwrap();
        assert!(cell.trim() == "none" || quoted(cell).count() > 0, "{row}");
    }
}

/// The thirty attack classes, each with tests or the reason why it needs none.
/// A row that links to the requirements has its tests there.
#[test]
fn every_attack_class_has_a_row() {
    let security = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let requirements = requirements();
    let (_, linked) = requirements.split_once(ATTACK_CLASSES).unwrap();
    for class in 1..=30 {
        let start = format!("| {class} |");
        let row_of = |text: &str| {
            let mut lines = text.lines();
            let row = lines.find(|line| line.starts_with(&start));
            row.unwrap_or_else(|| panic!("class {class} has no row"))
                .to_owned()
        };
        let mut row = row_of(&security);
        if row.contains("tests/REQUIREMENTS.md") {
            row = row_of(linked);
        }
        let cell = last_cell(&row).unwrap();
        let is_answered = quoted(cell).count() > 0 || cell.contains("Not applicable");
        assert!(is_answered, "class {class}: {row}");
    }
}

/// Tests that are named are run: neither helpers nor what is commented out.
#[test]
fn every_named_gate_exists() {
    let tests = registered::tests();
    for document in ["ARCHITECTURE.md", "SECURITY.md", "tests/REQUIREMENTS.md"] {
        let gates = named_gates(document);
        assert!(gates.len() > 10, "{document}: {gates:?}");
        let missing: Vec<_> = gates.difference(&tests).collect();
        assert!(
            missing.is_empty(),
            "{document} names what no run executes: {missing:?}"
        );
    }
}
