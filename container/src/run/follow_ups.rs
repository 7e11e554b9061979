//! Follow-up messages from standard input: typed by a person, or as NDJSON.

use std::io::{self, IsTerminal, Read};

use drawbridge_shared::ipc::{HostMessage, MAX_MESSAGE_BYTES};
use drawbridge_shared::protocol::MAX_INPUT_BYTES;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::RunControl;
use crate::error::{Context, Error, Result};
use crate::process::lines::TextLines;

/// Where follow-ups come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Nowhere; the conversation ends with the first answer.
    None,
    /// A person types lines and ends with Ctrl-D.
    Terminal,
    /// A program writes `{"type":"message","text":..}`, answers to requests, and
    /// `{"type":"close"}`.
    Ndjson,
    /// Another part of this program.
    Given(mpsc::Receiver<RunControl>),
}

impl Source {
    /// The source that standard input is, given the arguments of the command.
    pub(crate) fn of(prompt: &str, json: bool) -> Self {
        if prompt == "-" {
            Self::None
        } else if json {
            Self::Ndjson
        } else if io::stdin().is_terminal() {
            Self::Terminal
        } else {
            Self::None
        }
    }

    /// Starts to read; the channel ends with [`RunControl::Close`], or when no
    /// answers can come either.
    pub(crate) fn start(self) -> mpsc::Receiver<RunControl> {
        let (sender, receiver) = mpsc::channel(16);
        let parse = match self {
            // The sender is dropped, so the channel is at its end.
            Self::None => return receiver,
            Self::Given(receiver) => return receiver,
            Self::Terminal => message_line,
            Self::Ndjson => ndjson,
        };
        tokio::spawn(read_lines(parse, sender));
        receiver
    }
}

async fn read_lines(parse: fn(String) -> Option<RunControl>, sender: mpsc::Sender<RunControl>) {
    let limit = usize::try_from(MAX_MESSAGE_BYTES).unwrap_or(usize::MAX);
    let mut lines = TextLines::new(tokio::io::stdin(), limit);
    loop {
        let (control, is_end) = match lines.next().await {
            Ok(Some(Ok(line))) => (parse(line), false),
            Ok(Some(Err(error))) => (Some(RunControl::Invalid(error.to_string())), false),
            Err(error) => (Some(RunControl::Invalid(error.to_string())), true),
            Ok(None) => (None, true),
        };
        if let Some(control) = control
            && sender.send(control).await.is_err()
        {
            return;
        }
        if is_end {
            break;
        }
    }
    let _ = sender.send(RunControl::Close).await;
}

fn message_line(line: String) -> Option<RunControl> {
    let is_blank = line.trim().is_empty();
    (!is_blank).then_some(RunControl::Message(HostMessage::text(line)))
}

/// Reads an answer, a snapshot, `{"type":"close"}`, or any message that a runner
/// understands.
fn ndjson(line: String) -> Option<RunControl> {
    if line.trim().is_empty() {
        return None;
    }
    let control = serde_json::from_str(&line).and_then(control);
    Some(control.unwrap_or_else(|error| RunControl::Invalid(error.to_string())))
}

fn control(mut line: Map<String, Value>) -> serde_json::Result<RunControl> {
    Ok(match line.get("type").and_then(Value::as_str) {
        Some("close") => RunControl::Close,
        Some("answer") => {
            line.remove("type");
            let id = line.remove("id").unwrap_or_default();
            RunControl::Answer {
                id: serde_json::from_value(id)?,
                reply: serde_json::from_value(line.into())?,
            }
        }
        Some("snapshot") => {
            line.remove("type");
            RunControl::Snapshot(serde_json::from_value(line.into())?)
        }
        _ => match serde_json::from_value(line.into())? {
            message if message == HostMessage::text(String::new()) => {
                RunControl::Invalid("a message without text".to_owned())
            }
            message => RunControl::Message(message),
        },
    })
}

/// The prompt, which `-` says is on standard input.
pub(crate) fn read_prompt(prompt: &str) -> Result<String> {
    let text = if prompt == "-" {
        let mut text = String::new();
        let limit = MAX_INPUT_BYTES as u64 / 2;
        io::stdin()
            .lock()
            .take(limit + 1)
            .read_to_string(&mut text)
            .context(|| Error::usage("cannot read the prompt from standard input"))?;
        if text.len() as u64 > limit {
            let limit = limit / 1024 / 1024;
            return Err(Error::usage(format!(
                "the prompt is larger than {limit} MB"
            )));
        }
        text
    } else {
        prompt.to_owned()
    };
    if text.trim().is_empty() {
        return Err(Error::usage("the prompt is empty")
            .hint("give it with --prompt TEXT, or on standard input with --prompt -"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::{Reply, Snapshot};

    #[test]
    fn lines_of_json_are_messages_or_the_end() {
        let message = HostMessage::text("hi".to_owned());
        assert_eq!(
            ndjson(r#"{"type":"message","text":"hi"}"#.to_owned()),
            Some(RunControl::Message(message))
        );
        assert_eq!(
            ndjson(r#"{"type":"close"}"#.to_owned()),
            Some(RunControl::Close)
        );
        let answer = r#"{"type":"answer","id":"r1","ok":false,"text":"no"}"#;
        assert_eq!(
            ndjson(answer.to_owned()),
            Some(RunControl::Answer {
                id: "r1".to_owned(),
                reply: Reply::refused("no"),
            })
        );
        assert_eq!(
            ndjson(r#"{"type":"snapshot","groups":[]}"#.to_owned()),
            Some(RunControl::Snapshot(Snapshot::default()))
        );
        assert_eq!(ndjson("  ".to_owned()), None);
    }

    #[test]
    fn what_is_neither_is_named() {
        let cases = [
            ("{", "EOF while parsing"),
            (r#"{"type":"answer","ok":true}"#, "expected a string"),
            (
                r#"{"type":"answer","id":"r","okay":true}"#,
                "unknown field `okay`",
            ),
            (r#"{"type":"snapshot","tasks":[{}]}"#, "missing field `id`"),
            (
                r#"{"type":"stop"}"#,
                "unknown variant `stop`, expected one of `message`",
            ),
            (r#"{"type":"message","txt":"hi"}"#, "missing field `text`"),
            (r#"{"type":"message","text":""}"#, "a message without text"),
        ];
        for (line, expected) in cases {
            let Some(RunControl::Invalid(reason)) = ndjson(line.to_owned()) else {
                panic!("{line} was accepted")
            };
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
