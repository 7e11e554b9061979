//! What a model is asked: the conversation so far, whatever the API.

use serde_json::Value;

use super::Dialect;
use crate::request::Request;

/// What the model is asked.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The request that carries it.
    pub request: &'a Request,
    pub(super) dialect: Dialect,
    pub(super) body: Value,
}

/// One entry of a conversation.
#[derive(Debug, Default)]
struct Entry {
    is_models: bool,
    is_tool_result: bool,
    texts: Vec<String>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(dialect: Dialect, request: &'a Request) -> Self {
        Self {
            request,
            dialect,
            body: request.json(),
        }
    }

    /// All that came after the model's last answer: user texts and tool results.
    #[must_use]
    pub fn news(&self) -> String {
        join(&self.newest())
    }

    /// The whole conversation as text.
    #[must_use]
    pub fn history(&self) -> String {
        join(&self.entries())
    }

    /// Whether a tool's result came after the model's last answer.
    #[must_use]
    pub fn has_tool_result(&self) -> bool {
        self.newest().iter().any(|entry| entry.is_tool_result)
    }

    /// Full name of the offered tool whose name ends like this.
    #[must_use]
    pub fn offered_tool(&self, end: &str) -> Option<String> {
        let mut names = Vec::new();
        collect_names(&self.body["tools"], &mut names);
        names.into_iter().find(|name| name.ends_with(end))
    }

    fn newest(&self) -> Vec<Entry> {
        let mut entries = self.entries();
        let answered = entries.iter().rposition(|entry| entry.is_models);
        entries.split_off(answered.map_or(0, |at| at + 1))
    }

    fn entries(&self) -> Vec<Entry> {
        let (list, read): (_, fn(&Value) -> Entry) = match self.dialect {
            Dialect::Messages => ("messages", of_messages),
            Dialect::Responses => ("input", of_responses),
            Dialect::Gemini => ("contents", of_gemini),
        };
        let list = self.body[list].as_array().into_iter().flatten();
        list.map(read).collect()
    }
}

fn join(entries: &[Entry]) -> String {
    let texts: Vec<_> = entries.iter().flat_map(|entry| &entry.texts).collect();
    let texts: Vec<_> = texts.into_iter().map(String::as_str).collect();
    texts.join("\n")
}

fn of_messages(message: &Value) -> Entry {
    let content = &message["content"];
    let blocks = content.as_array().into_iter().flatten();
    let mut entry = Entry {
        is_models: message["role"] == "assistant",
        is_tool_result: { blocks }.any(|block| block["type"] == "tool_result"),
        ..Entry::default()
    };
    collect_texts(content, &mut entry.texts);
    entry
}

fn of_responses(item: &Value) -> Entry {
    let kind = item["type"].as_str().unwrap_or_default();
    let is_tool_result = kind.ends_with("_output");
    let is_models = item["role"] == "assistant" || kind.ends_with("_call") || kind == "reasoning";
    let mut entry = Entry {
        is_models,
        is_tool_result,
        ..Entry::default()
    };
    collect_texts(&item["content"], &mut entry.texts);
    collect_texts(&item["output"], &mut entry.texts);
    entry
}

fn of_gemini(content: &Value) -> Entry {
    let parts = || content["parts"].as_array().into_iter().flatten();
    let mut entry = Entry {
        is_models: content["role"] == "model",
        is_tool_result: parts().any(|part| part["functionResponse"].is_object()),
        ..Entry::default()
    };
    for part in parts() {
        collect_texts(&part["text"], &mut entry.texts);
        if let Some(response) = part.get("functionResponse") {
            entry.texts.push(response["response"].to_string());
        }
    }
    entry
}

fn collect_texts(content: &Value, texts: &mut Vec<String>) {
    match content {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(blocks) => {
            for block in blocks {
                collect_texts(&block["text"], texts);
                collect_texts(&block["content"], texts);
            }
        }
        _ => {}
    }
}

/// Names of tools; Gemini's are one level below a list of kinds of tools.
fn collect_names(tools: &Value, names: &mut Vec<String>) {
    for tool in tools.as_array().into_iter().flatten() {
        names.extend(tool["name"].as_str().map(ToOwned::to_owned));
        collect_names(&tool["functionDeclarations"], names);
    }
}
