//! The claims of the demonstration, checked against what really happened.

use drawbridge_shared::env::ANTHROPIC_API_KEY;

use super::script::Inspection;
use crate::fake_api::Received;

/// Observations of the demonstration.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// The key that only the proxy knows.
    pub(crate) key: String,
    /// Findings of the agent's process in its own environment.
    pub(crate) inspection: Option<Inspection>,
    /// Requests that the model API received.
    pub(crate) received: Vec<Received>,
    /// The agent's answers, in order.
    pub(crate) answers: Vec<String>,
    /// Whether the agent ran in a sealed container.
    pub(crate) is_sealed: bool,
}

/// One claim, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) text: String,
    pub(crate) holds: bool,
}

impl Observed {
    /// All claims of the demonstration.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![
            self.agent_had_a_token_and_no_key(),
            self.upstream_got_the_key(),
            self.tool_was_used_once(),
            self.follow_up_was_answered(),
        ];
        if self.is_sealed {
            claims.push(self.no_way_out());
        }
        claims
    }

    fn agent_had_a_token_and_no_key(&self) -> Claim {
        let holds = self.inspection.as_ref().is_some_and(|seen| {
            let is_clean = |(_, value): &(String, String)| !value.contains(&self.key);
            seen.variable(ANTHROPIC_API_KEY).is_some() && seen.variables.iter().all(is_clean)
        });
        claim(
            "the agent held a session token, and the key nowhere in its environment",
            holds,
        )
    }

    fn upstream_got_the_key(&self) -> Claim {
        let expected = [("x-api-key".to_owned(), self.key.clone())];
        let is_right = |request: &Received| request.credentials == expected;
        let holds = !self.received.is_empty() && self.received.iter().all(is_right);
        let count = self.received.len();
        claim(
            format!(
                "each of {count} requests reached the model API with the key, and no other credential"
            ),
            holds,
        )
    }

    /// The conversation grows by one result for each use of the tool.
    fn tool_was_used_once(&self) -> Claim {
        let uses = self.received.last().map_or(0, |request| {
            request.body["messages"]
                .to_string()
                .matches(r#""type":"tool_result""#)
                .count()
        });
        claim("the agent used its tool once", uses == 1)
    }

    /// The follow-up went into the conversation that was under way: its request
    /// holds all that was said before.
    fn follow_up_was_answered(&self) -> Claim {
        let texts = self
            .received
            .last()
            .map(|last| last.body["messages"].to_string());
        let is_same_conversation = texts.is_some_and(|texts| {
            texts.contains(super::script::QUESTION) && texts.contains(super::script::FOLLOW_UP)
        });
        let holds = self.answers.len() == 2 && is_same_conversation;
        claim(
            "the follow-up message was answered within the same conversation",
            holds,
        )
    }

    fn no_way_out(&self) -> Claim {
        let holds = self
            .inspection
            .as_ref()
            .is_some_and(|seen| seen.routes == "0");
        claim(
            "the container had no network route: the proxy's socket was the only way out",
            holds,
        )
    }
}

fn claim(text: impl Into<String>, holds: bool) -> Claim {
    Claim {
        text: text.into(),
        holds,
    }
}

/// Enough of a secret to recognise it, and not enough to use it.
pub(crate) fn mask(secret: &str) -> String {
    let characters: Vec<char> = secret.chars().collect();
    if characters.len() < 24 {
        return "****".to_owned();
    }
    let head: String = characters[..12].iter().collect();
    let tail: String = characters[characters.len() - 4..].iter().collect();
    format!("{head}****{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::script::{FOLLOW_UP, QUESTION};
    use serde_json::json;

    const KEY: &str = "sk-ant-fake-CANARY-0123456789";

    fn observed() -> Observed {
        let messages = json!([
            {"role": "user", "content": QUESTION},
            {"role": "user", "content": [{"type": "tool_result", "content": "x"}]},
            {"role": "user", "content": FOLLOW_UP},
        ]);
        Observed {
            key: KEY.into(),
            inspection: Some(Inspection {
                variables: vec![(ANTHROPIC_API_KEY.into(), "dbs_token".into())],
                interfaces: "lo".into(),
                routes: "0".into(),
            }),
            received: vec![Received {
                line: "POST /v1/messages".into(),
                credentials: vec![("x-api-key".into(), KEY.into())],
                body: json!({ "messages": messages }),
            }],
            answers: vec!["one".into(), "two".into()],
            is_sealed: true,
        }
    }

    fn broken(observed: &Observed) -> Vec<String> {
        let claims = observed.claims().into_iter();
        claims
            .filter(|claim| !claim.holds)
            .map(|claim| claim.text)
            .collect()
    }

    #[test]
    fn all_claims_hold_when_all_went_well() {
        assert_eq!(broken(&observed()), Vec::<String>::new());
    }

    #[test]
    fn each_claim_fails_when_its_fact_does_not_hold() {
        let mut key_inside = observed();
        let seen = key_inside.inspection.as_mut().unwrap();
        seen.variables.push(("OTHER".into(), format!("x{KEY}")));
        assert!(broken(&key_inside)[0].contains("held a session token"));

        let mut token_outside = observed();
        let credentials = &mut token_outside.received[0].credentials;
        credentials.push(("authorization".into(), "Bearer dbs_token".into()));
        assert!(broken(&token_outside)[0].contains("no other credential"));

        let mut silent = observed();
        silent.answers.pop();
        assert!(broken(&silent)[0].contains("follow-up"));

        let mut open = observed();
        open.inspection.as_mut().unwrap().routes = "1".into();
        assert!(broken(&open)[0].contains("only way out"));

        let mut nothing = observed();
        nothing.received.clear();
        nothing.inspection = None;
        assert_eq!(broken(&nothing).len(), 5);
    }

    #[test]
    fn a_masked_secret_cannot_be_used() {
        assert_eq!(mask(KEY), "sk-ant-fake-****6789");
        assert_eq!(mask("short"), "****");
    }
}
