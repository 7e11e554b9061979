//! The names of the tests that a run of all suites executes, read from the sources.
//!
//! A function that only looks like a test is none of them: what counts is a test
//! attribute, or, in a program with a `main` of its own, an entry in a list of
//! trials, in a file that the program's root leads to by `mod`. A list that
//! nothing uses is refused by the compiler.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use serde_json::Value;

use crate::rules::cargo;

/// The conditions under which a test of ours is compiled wherever the suites run.
const HERE: [&str; 3] = [
    "cfg(test)",
    "cfg(target_os=\"linux\")",
    "cfg(all(test,target_os=\"linux\"))",
];

pub(crate) fn tests() -> BTreeSet<String> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let mut names = BTreeSet::new();
    for target in targets.filter(|target| target["test"] == true) {
        let root = Path::new(target["src_path"].as_str().unwrap());
        let code = tokens(root);
        let has_main = |pair: &[TokenTree]| is_word(&pair[0], "fn") && is_word(&pair[1], "main");
        let is_listed = target["kind"][0] == "test" && code.windows(2).any(has_main);
        let mut source = Source {
            folder: root.parent().unwrap().to_owned(),
            is_listed,
            names: &mut names,
        };
        source.read(&code);
    }
    names
}

fn tokens(file: &Path) -> Vec<TokenTree> {
    let text = fs::read_to_string(file).unwrap();
    let tokens: TokenStream = text.parse().unwrap();
    tokens.into_iter().collect()
}

/// A part of a test program's code.
struct Source<'a> {
    /// Where the files of its child modules are.
    folder: PathBuf,
    /// Whether its tests are entries of lists: the program has a `main`.
    is_listed: bool,
    names: &'a mut BTreeSet<String>,
}

impl Source<'_> {
    fn read(&mut self, tokens: &[TokenTree]) {
        // Of the item that begins.
        let mut attributes: Vec<String> = Vec::new();
        let mut rest = tokens;
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            match (first, behind) {
                (TokenTree::Punct(mark), [TokenTree::Group(group), ..])
                    if mark.as_char() == '#' =>
                {
                    attributes.push(group.stream().to_string().replace([' ', '\n'], ""));
                    rest = &behind[1..];
                }
                (TokenTree::Ident(word), [TokenTree::Ident(name), body, ..]) if word == "mod" => {
                    self.read_module(name, body, &attributes);
                    attributes.clear();
                    rest = &behind[2..];
                }
                (TokenTree::Ident(word), [TokenTree::Ident(name), ..]) if word == "fn" => {
                    if !self.is_listed && is_test(&attributes) {
                        self.names.insert(name.to_string());
                    }
                    attributes.clear();
                }
                (TokenTree::Ident(word), _) if self.is_listed && word == "const" => {
                    self.read_list(behind);
                }
                (TokenTree::Ident(word), [mark, TokenTree::Group(group), ..])
                    if self.is_listed && word == "tests" && mark.to_string() == "!" =>
                {
                    let is_name = |token: &TokenTree| matches!(token, TokenTree::Ident(_));
                    let names = group.stream().into_iter().filter(is_name);
                    self.names.extend(names.map(|name| name.to_string()));
                }
                (TokenTree::Group(group), _) => self.read_group(group),
                (TokenTree::Punct(mark), _) if mark.as_char() == ';' => attributes.clear(),
                _ => {}
            }
        }
    }

    fn read_group(&mut self, group: &Group) {
        let tokens: Vec<_> = group.stream().into_iter().collect();
        self.read(&tokens);
    }

    fn read_module(&mut self, name: &Ident, body: &TokenTree, attributes: &[String]) {
        if !is_compiled(attributes) {
            return;
        }
        let mut path = attributes.iter().filter_map(|a| a.strip_prefix("path=\""));
        let path = path.find_map(|path| path.strip_suffix('"'));
        let folder = self.folder.join(name.to_string());
        let (folder, code) = match (body, path) {
            (TokenTree::Group(body), _) => (folder, body.stream().into_iter().collect()),
            (_, Some(path)) => {
                let file = self.folder.join(path);
                (file.parent().unwrap().to_owned(), tokens(&file))
            }
            _ => {
                let files = [folder.with_extension("rs"), folder.join("mod.rs")];
                let file = files.iter().find(|file| file.exists());
                (folder, tokens(file.unwrap()))
            }
        };
        let mut module = Source {
            folder,
            is_listed: self.is_listed,
            names: self.names,
        };
        module.read(&code);
    }

    /// Takes the names of a constant's entries: `("name", function)`.
    fn read_list(&mut self, tokens: &[TokenTree]) {
        let is_end =
            |token: &&TokenTree| !matches!(token, TokenTree::Punct(p) if p.as_char() == ';');
        for token in tokens.iter().take_while(is_end) {
            let TokenTree::Group(group) = token else {
                continue;
            };
            let inside: Vec<_> = group.stream().into_iter().collect();
            match &inside[..] {
                [TokenTree::Literal(name), _, ..]
                    if group.delimiter() == Delimiter::Parenthesis =>
                {
                    self.names
                        .insert(name.to_string().trim_matches('"').to_owned());
                }
                _ => self.read_list(&inside),
            }
        }
    }
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_compiled(attributes: &[String]) -> bool {
    let mut conditions = attributes.iter().filter(|a| a.starts_with("cfg("));
    conditions.all(|condition| HERE.contains(&condition.as_str()))
}

fn is_test(attributes: &[String]) -> bool {
    let path = |attribute: &String| attribute.split('(').next().unwrap_or_default().to_owned();
    let mut paths = attributes.iter().map(path);
    paths.any(|path| path == "test" || path.ends_with("::test"))
        && !attributes.iter().any(|a| a.starts_with("ignore"))
        && is_compiled(attributes)
}

fn found(code: &str, is_listed: bool) -> Vec<String> {
    let mut names = BTreeSet::new();
    let tokens: TokenStream = code.parse().unwrap();
    let mut source = Source {
        folder: PathBuf::new(),
        is_listed,
        names: &mut names,
    };
    source.read(&tokens.into_iter().collect::<Vec<_>>());
    names.into_iter().collect()
}

#[test]
fn only_functions_that_run_as_tests_are_found() {
    let code = r#"
        #[test]
        fn a() {}
        #[expect(lint, reason = "fn x")]
        #[tokio::test(start_paused = true)]
        async fn b() {}
        proptest! {
            /// Documented.
            #[test]
            fn c(x in 0..3) {}
        }
        #[cfg(test)]
        mod inner {
            #[test]
            fn d() {}
        }
        fn helper() {}
        // #[test] fn commented() {}
        #[test]
        #[ignore = "slow"]
        fn ignored() {}
        #[cfg(any())]
        #[test]
        fn never_compiled() {}
        #[cfg(windows)]
        mod elsewhere {
            #[test]
            fn on_windows() {}
        }
    "#;
    assert_eq!(found(code, false), ["a", "b", "c", "d"]);
    assert_eq!(found(code, true), Vec::<String>::new());
}

#[test]
fn only_entries_of_lists_are_found() {
    let code = r#"
        const TESTS: &[Test] = &[("a", a), ("b", |setting| run(setting, "x"))];
        crate::tests![c, d];
        // ("commented", commented),
        fn a() { assert(("e", e)); }
        fn helper() {}
    "#;
    assert_eq!(found(code, true), ["a", "b", "c", "d"]);
    assert_eq!(found(code, false), Vec::<String>::new());
}
