//! Follow-up messages from standard input: typed by a person, or as NDJSON.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Read};

use drawbridge_shared::ipc::{HostMessage, MAX_MESSAGE_BYTES};
use drawbridge_shared::protocol::MAX_INPUT_BYTES;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_util::codec::FramedRead;

use crate::error::{Context, Error, Result};
use crate::process::lines::Lines;
use crate::requests::{Reply, Snapshot};

/// What the caller wants of a running conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// A further message.
    Message(HostMessage),
    /// A further message is made ready in a file of the group's outbox, from where
    /// [`Self::HandOver`] moves it to the agent in one step.
    Prepare { file: String, message: HostMessage },
    /// The agent gets what was made ready.
    HandOver { file: String },
    /// No more messages will come; answers may.
    Close,
    /// An answer to a request of the agent.
    Answer {
        /// The request.
        id: String,
        reply: Reply,
    },
    /// What the host knows now of its groups and tasks.
    Snapshot(Snapshot),
    /// Something that cannot be understood; it is reported and skipped.
    Invalid(String),
}

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
    Given(mpsc::Receiver<FollowUp>),
}

impl Source {
    /// What standard input is good for, given how the command was called.
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

    /// Starts to read; the channel ends with [`FollowUp::Close`], or when no
    /// answers can come either.
    pub(crate) fn start(self) -> mpsc::Receiver<FollowUp> {
        let (sender, receiver) = mpsc::channel(16);
        let parse = match self {
            // The sender is dropped, so the channel is at its end.
            Self::None => return receiver,
            Self::Given(receiver) => return receiver,
            Self::Terminal => typed,
            Self::Ndjson => ndjson,
        };
        tokio::spawn(read_lines(parse, sender));
        receiver
    }
}

async fn read_lines(parse: fn(String) -> Option<FollowUp>, sender: mpsc::Sender<FollowUp>) {
    let limit = usize::try_from(MAX_MESSAGE_BYTES).unwrap_or(usize::MAX);
    let mut lines = FramedRead::new(tokio::io::stdin(), Lines::up_to(limit));
    while let Some(line) = lines.next().await {
        let follow_up = match line {
            Ok(Ok(line)) => parse(line),
            Ok(Err(error)) => Some(FollowUp::Invalid(error.to_string())),
            Err(error) => Some(FollowUp::Invalid(error.to_string())),
        };
        let Some(follow_up) = follow_up else {
            continue;
        };
        if sender.send(follow_up).await.is_err() {
            return;
        }
    }
    let _ = sender.send(FollowUp::Close).await;
}

fn typed(line: String) -> Option<FollowUp> {
    let is_blank = line.trim().is_empty();
    (!is_blank).then_some(FollowUp::Message(HostMessage::text(line)))
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// Reads an answer, a snapshot, `{"type":"close"}`, or any message that a runner
/// understands.
fn ndjson(line: String) -> Option<FollowUp> {
    if line.trim().is_empty() {
        return None;
    }
    let parsed = serde_json::from_str::<Line<'_>>(&line).and_then(|Line { kind }| {
        Ok(match &*kind {
            "close" => FollowUp::Close,
            "answer" => {
                let mut fields = fields(&line)?;
                let id = fields.remove("id").unwrap_or_default();
                FollowUp::Answer {
                    id: serde_json::from_value(id)?,
                    reply: serde_json::from_value(fields.into())?,
                }
            }
            "snapshot" => FollowUp::Snapshot(serde_json::from_value(fields(&line)?.into())?),
            _ => match serde_json::from_str(&line)? {
                message if message == HostMessage::text(String::new()) => {
                    FollowUp::Invalid("a message without text".to_owned())
                }
                message => FollowUp::Message(message),
            },
        })
    });
    Some(parsed.unwrap_or_else(|error| FollowUp::Invalid(error.to_string())))
}

/// The fields of a line beside its type.
fn fields(line: &str) -> serde_json::Result<serde_json::Map<String, serde_json::Value>> {
    let mut fields: serde_json::Map<_, _> = serde_json::from_str(line)?;
    fields.remove("type");
    Ok(fields)
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

    #[test]
    fn lines_of_json_are_messages_or_the_end() {
        let message = HostMessage::text("hi".to_owned());
        assert_eq!(
            ndjson(r#"{"type":"message","text":"hi"}"#.to_owned()),
            Some(FollowUp::Message(message))
        );
        assert_eq!(
            ndjson(r#"{"type":"close"}"#.to_owned()),
            Some(FollowUp::Close)
        );
        let answer = r#"{"type":"answer","id":"r1","ok":false,"text":"no"}"#;
        assert_eq!(
            ndjson(answer.to_owned()),
            Some(FollowUp::Answer {
                id: "r1".to_owned(),
                reply: Reply::refused("no"),
            })
        );
        assert_eq!(
            ndjson(r#"{"type":"snapshot","groups":[]}"#.to_owned()),
            Some(FollowUp::Snapshot(Snapshot::default()))
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
            let Some(FollowUp::Invalid(reason)) = ndjson(line.to_owned()) else {
                panic!("{line} was accepted")
            };
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
