//! The `.env` format: `NAME=VALUE` lines, as the common tools write them.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// A variable's value begins with a quote that nothing ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: the quoted value of {name} has no end")]
pub(crate) struct UnterminatedQuote {
    /// The line where the value begins, counted from 1.
    line: usize,
    /// The variable.
    name: String,
}

/// Reads the variables that `wanted` accepts; the last assignment counts.
///
/// `export` before the name is allowed. A value in single quotes is taken as it
/// is, one in double quotes knows `\n`, `\r`, `\t`, `\"`, `\\` and `\$`, and
/// both may span lines. A bare value ends at the line's end or at ` #`. Lines
/// of any other kind are not ours to judge and are skipped.
///
/// # Errors
/// A wanted variable's quoted value has no end.
pub(crate) fn parse(
    text: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Zeroizing<String>>, UnterminatedQuote> {
    let mut variables = BTreeMap::new();
    let whole = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = whole;
    while !rest.is_empty() {
        let (line, after_line) = split_line(rest);
        let Some((name, value)) = assignment(line) else {
            rest = after_line;
            continue;
        };
        let number = 1 + whole[..whole.len() - rest.len()].matches('\n').count();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let Some(quote) = quote else {
            if wanted(name) {
                variables.insert(name.to_owned(), bare(value));
            }
            rest = after_line;
            continue;
        };
        let start = rest.len() - after_line.len() - line_end(rest, line) - value.len() + 1;
        match quoted(&rest[start..], quote) {
            Some((value, used)) => {
                if wanted(name) {
                    variables.insert(name.to_owned(), value);
                }
                rest = split_line(&rest[start + used..]).1;
            }
            None if wanted(name) => {
                return Err(UnterminatedQuote {
                    line: number,
                    name: name.to_owned(),
                });
            }
            None => rest = after_line,
        }
    }
    Ok(variables)
}

/// The first line without its end, and what follows the end.
fn split_line(text: &str) -> (&str, &str) {
    match text.split_once('\n') {
        Some((line, rest)) => (line.strip_suffix('\r').unwrap_or(line), rest),
        None => (text, ""),
    }
}

/// Bytes that end `line`, the first line of `text`.
fn line_end(text: &str, line: &str) -> usize {
    match text.as_bytes().get(line.len()) {
        Some(b'\r') => 2,
        Some(_) => 1,
        None => 0,
    }
}

/// Name and value of an assignment; the value begins at its first character
/// that is not a space and reaches to the line's end.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let line = line
        .strip_prefix("export")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(valid)).then(|| (name, value.trim_start()))
}

fn bare(value: &str) -> Zeroizing<String> {
    let comment = value
        .char_indices()
        .find(|&(at, c)| c == '#' && (at == 0 || value[..at].ends_with([' ', '\t'])));
    let value = comment.map_or(value, |(at, _)| &value[..at]);
    Zeroizing::new(value.trim_end().to_owned())
}

/// The value up to the closing quote, and how many bytes it took with it.
fn quoted(text: &str, quote: char) -> Option<(Zeroizing<String>, usize)> {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            _ if c == quote => return Some((value, at + 1)),
            '\\' if quote == '"' => match characters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                kept @ ('"' | '\\' | '$') => value.push(kept),
                other => value.extend(['\\', other]),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn dotenv_files_of_all_kinds_are_read() {
        let parse =
            |text: &str| super::parse(text, |name| name == "KEY").map(|mut v| v.remove("KEY"));
        let value = |text: &str| parse(text).unwrap().unwrap().to_string();
        assert_eq!(value("KEY=plain"), "plain");
        assert_eq!(value("\u{feff}export KEY = spaced \r\n"), "spaced");
        assert_eq!(value("KEY=a#b # comment"), "a#b");
        assert_eq!(value("KEY='a # $b' # c\n"), "a # $b");
        assert_eq!(value(r#"KEY="a\"b\\n\q""#), r#"a"b\n\q"#);
        assert_eq!(value("KEY=\"two\nlines\""), "two\nlines");
        assert_eq!(value("KEY=1\n#KEY=2\nKEY=3\nexportKEY=4\n"), "3");
        assert_eq!(value("KEY=\nOTHER=x"), "");
        // A name inside another value is not an assignment.
        assert_eq!(value("OTHER=\"x\nKEY=evil\n\"\r\nKEY=good"), "good");
        assert_eq!(value("OTHER='never ends\nKEY=good"), "good");
        assert!(parse("not an assignment").unwrap().is_none());
        let error = parse("A=1\nKEY='sk-never-ends\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: the quoted value of KEY has no end"
        );
    }

    proptest! {
        #[test]
        fn dotenv_gives_back_what_was_quoted(value in "[ -~]{0,40}", before in "[ -~\n]{0,40}") {
            prop_assume!(!before.contains(['\'', '"']));
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!("{before}\nKEY=\"{quoted}\"\nEND=1");
            let read = super::parse(&text, |name| name == "KEY").unwrap();
            prop_assert_eq!(read["KEY"].as_str(), value.as_str());
        }

        #[test]
        fn dotenv_never_panics(text in "(KEY|=|'|\"|\\\\|\r|\n|é|#| |export ){0,30}") {
            let _ = super::parse(&text, |_| true);
        }
    }
}
