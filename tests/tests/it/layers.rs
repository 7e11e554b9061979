//! The order of the folders inside each crate: a folder uses only those below it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::rules::{root, rust_files};

/// The folders of a crate's `src`, top first. A file beside `lib.rs` counts as a
/// folder of its own. ARCHITECTURE.md prints the same lists.
const LAYERS: [(&str, &[&str]); 3] = [
    (
        "container",
        &[
            "cli", "demo", "doctor", "image", "serve", "fake_api", "run", "events", "requests",
            "engine", "config", "mounts", "state", "spec", "terminal", "process", "error",
        ],
    ),
    (
        "proxy",
        &[
            "cli",
            "handle",
            "control",
            "server",
            "request",
            "http1",
            "routes",
            "config",
            "credential",
            "session",
            "upstream",
            "observe",
            "usage",
            "policy",
            "secret",
            "scrub",
            "base",
        ],
    ),
    (
        "runner",
        &[
            "cli",
            "supervisor",
            "conversation",
            "agent",
            "mcp",
            "host",
            "probe",
            "process",
            "self_command",
        ],
    ),
];

#[test]
fn folders_use_only_what_is_below_them() {
    let mut upward = Vec::new();
    for (krate, layers) in LAYERS {
        let source = root().join(krate).join("src");
        let mut files = Vec::new();
        rust_files(&source, &mut files);
        let mut seen = BTreeSet::new();
        for file in files {
            let path = file.strip_prefix(&source).unwrap();
            if path
                .iter()
                .any(|part| part == "tests" || part == "tests.rs")
            {
                continue;
            }
            let module = module_of(path);
            // `lib.rs` and `main.rs` stand above all of them.
            let Some(own) = module.first() else { continue };
            let rank = |name: &str| layers.iter().position(|layer| *layer == name);
            let own_rank = rank(own).unwrap_or_else(|| panic!("{krate}: {own} is in no layer"));
            seen.insert(own.clone());
            let tokens: TokenStream = fs::read_to_string(&file).unwrap().parse().unwrap();
            let mut used = Vec::new();
            collect(tokens, &module, &mut used);
            for name in used {
                // What `lib.rs` defines has no rank and is refused as well.
                if rank(&name).is_none_or(|rank| rank < own_rank) {
                    upward.push(format!("{} uses {name}", file.display()));
                }
            }
        }
        let listed: BTreeSet<_> = layers.iter().map(|layer| (*layer).to_owned()).collect();
        assert_eq!(seen, listed, "{krate}: a layer without code");
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn architecture_prints_the_layers() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (krate, layers) in LAYERS {
        let heading = format!("`{krate}/src`");
        let printed: Vec<_> = text
            .lines()
            .skip_while(|line| !(line.starts_with("### ") && line.contains(&heading)))
            .skip(1)
            .take_while(|line| !line.starts_with('#'))
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .map(|folder| folder.trim_end_matches('/'))
            .collect();
        assert_eq!(printed, layers, "{krate}");
    }
}

/// The path of the module that a file is, such as `["run", "broker"]`.
fn module_of(file: &Path) -> Vec<String> {
    let mut path: Vec<_> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if ["mod", "lib", "main"].contains(&path.last().unwrap().as_str()) {
        path.pop();
    }
    path
}

/// Adds the top-level module of each path that starts at `crate`, or that leaves
/// the module's own top-level module by `super`. Test modules are left out.
fn collect(tokens: TokenStream, module: &[String], used: &mut Vec<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = end_of_item(&tokens, at);
            continue;
        }
        match &tokens[at] {
            TokenTree::Group(group) => collect(group.stream(), module, used),
            TokenTree::Ident(word) if word == "crate" || word == "super" => {
                let supers = count_supers(&tokens[at..]);
                let reaches_root = word == "crate" || supers >= module.len();
                let path = &tokens[at + if word == "crate" { 1 } else { supers * 3 - 2 }..];
                if reaches_root && is_colons(path) {
                    first_names(&path[2..], used);
                }
                at += supers.saturating_sub(1) * 3;
            }
            _ => {}
        }
        at += 1;
    }
}

/// The number of leading `super::`.
fn count_supers(tokens: &[TokenTree]) -> usize {
    let mut count = 0;
    while matches!(tokens.get(count * 3), Some(TokenTree::Ident(word)) if word == "super") {
        count += 1;
        if !is_colons(&tokens[count * 3 - 2..]) {
            break;
        }
    }
    count
}

fn is_colons(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    is_colon(tokens.first()) && is_colon(tokens.get(1))
}

/// The name that a path goes on with, or each one of a `{...}` list.
fn first_names(path: &[TokenTree], used: &mut Vec<String>) {
    match path.first() {
        Some(TokenTree::Ident(name)) => used.push(name.to_string()),
        Some(TokenTree::Group(list)) if list.delimiter() == Delimiter::Brace => {
            let tokens: Vec<_> = list.stream().into_iter().collect();
            let is_comma =
                |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
            for entry in tokens.split(is_comma) {
                first_names(entry, used);
            }
        }
        _ => {}
    }
}

/// Whether an item begins here that only tests have: `#[cfg(test)]`.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else {
        return false;
    };
    let text = attribute.stream().to_string().replace(' ', "");
    hash.as_char() == '#' && (text == "cfg(test)" || text.starts_with("cfg(all(test,"))
}

/// The place behind the item at `start`: its `;`, or its braces.
fn end_of_item(tokens: &[TokenTree], start: usize) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let length = tokens[start..].iter().position(is_end);
    length.map_or(tokens.len(), |length| start + length + 1)
}

#[test]
fn every_form_of_a_path_is_seen() {
    let code = "
        use crate::{cli::Args, run::{plan, context}};
        use super::super::engine;
        pub(crate) use super::state::Folder;
        pub(in crate::serve) fn f() { select! { _ = crate::events::g() => {} } }
        #[cfg(test)]
        mod tests { use crate::fake_api::Model; }
        #[cfg(test)]
        use crate::demo;
        // crate::comment
        const TEXT: &str = \"crate::text\";
        fn g() -> crate::error::Result<()> { super::sibling::h() }
    ";
    let module = ["serve".to_owned(), "store".to_owned()];
    let mut used = Vec::new();
    collect(code.parse().unwrap(), &module, &mut used);
    assert_eq!(used, ["cli", "run", "engine", "serve", "events", "error"]);
}
