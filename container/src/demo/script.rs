//! The answers of the fake model in the demonstration, and how much of it can be
//! found in the requests it got.

use serde_json::Value;

use crate::fake_api::{Received, Reply};

/// The first question.
pub(crate) const QUESTION: &str = "Look around: which key do you hold, and what can you reach?";
/// The question asked while the agent is still running.
pub(crate) const FOLLOW_UP: &str = "So what happens if somebody steals what you hold?";

/// Shows what an agent's process holds and reaches: its variables, its network
/// interfaces, and how many routes lead out.
const INSPECT: &str = "env | grep -E '^(ANTHROPIC|CLAUDE)_' | sort; \
    echo INTERFACES=$(ls /sys/class/net); \
    echo ROUTES=$(tail -n +2 /proc/net/route | wc -l)";

const ANSWER: &str = "I hold a session token, not a key. It opens one proxy, for this run only.";
const SECOND_ANSWER: &str =
    "Nothing much: the token is worthless anywhere else, and it dies with this run.";

/// The model's part: one tool call, then an answer; one more for the follow-up.
pub(crate) fn reply(request: &Value) -> Reply {
    if tool_result(request).is_some() {
        Reply::Text(ANSWER.to_owned())
    } else if last_text(request).is_some_and(|text| text.contains(FOLLOW_UP)) {
        Reply::Text(SECOND_ANSWER.to_owned())
    } else {
        Reply::Bash(INSPECT.to_owned())
    }
}

/// The report of the agent's process about itself, as the model received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// Variables that lead to the model, by name.
    pub(crate) variables: Vec<(String, String)>,
    /// Names of the network interfaces.
    pub(crate) interfaces: String,
    /// Number of routes that lead out.
    pub(crate) routes: String,
}

impl Inspection {
    /// Finds the tool's output in the requests.
    pub(crate) fn find(received: &[Received]) -> Option<Self> {
        let output = received
            .iter()
            .find_map(|request| tool_result(&request.body))?;
        let mut variables = Vec::new();
        let (mut interfaces, mut routes) = (String::new(), String::new());
        for (name, value) in output.lines().filter_map(|line| line.split_once('=')) {
            match name {
                "INTERFACES" => value.clone_into(&mut interfaces),
                "ROUTES" => value.clone_into(&mut routes),
                _ => variables.push((name.to_owned(), value.to_owned())),
            }
        }
        Some(Self {
            variables,
            interfaces,
            routes,
        })
    }

    /// The value of a variable.
    pub(crate) fn variable(&self, wanted: &str) -> Option<&str> {
        let found = self.variables.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    }
}

fn last_content(request: &Value) -> Option<&Value> {
    Some(&request["messages"].as_array()?.last()?["content"])
}

/// The text of the tool's result in the newest message, which is either a plain
/// string or a list of blocks.
fn tool_result(request: &Value) -> Option<String> {
    let blocks = last_content(request)?.as_array()?;
    let result = blocks.iter().find(|block| block["type"] == "tool_result")?;
    Some(text_of(&result["content"]))
}

fn last_text(request: &Value) -> Option<String> {
    Some(text_of(last_content(request)?))
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks
            .iter()
            .filter_map(|block| block["text"].as_str())
            .collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_model_looks_around_answers_and_answers_again() {
        let first = json!({"messages": [{"role": "user", "content": QUESTION}]});
        assert!(matches!(reply(&first), Reply::Bash(_)));
        let result = json!([{"type": "tool_result", "content": "A=1\nINTERFACES=lo\nROUTES=0"}]);
        let second = json!({"messages": [{"role": "user", "content": result}]});
        assert!(matches!(reply(&second), Reply::Text(text) if text == ANSWER));
        let text = json!([{"type": "text", "text": FOLLOW_UP}]);
        let third = json!({"messages": [{"role": "user", "content": text}]});
        assert!(matches!(reply(&third), Reply::Text(text) if text == SECOND_ANSWER));

        let received = [first, second].map(|body| Received {
            line: String::new(),
            credentials: vec![],
            body,
        });
        let found = Inspection::find(&received).unwrap();
        assert_eq!(found.variable("A"), Some("1"));
        assert_eq!(
            (found.interfaces.as_str(), found.routes.as_str()),
            ("lo", "0")
        );
    }
}
