//! Hints for a person about a failure of the agent, by its kind.

use drawbridge_shared::protocol::{AgentKind, ErrorKind, RecordDetails};

/// The hint below a failure; `None` where its own words are all there is to say.
pub(super) fn hint_for(details: &RecordDetails) -> Option<String> {
    let agent = details.agent;
    let hint = match details.error_kind? {
        ErrorKind::Auth => {
            let agent =
                agent.map_or_else(String::new, |agent| format!(" --agent {}", agent.name()));
            return Some(format!(
                "`drawbridge doctor --check-credential{agent}` asks the upstream whether it \
                 accepts the credential"
            ));
        }
        ErrorKind::RateLimit | ErrorKind::Overload => {
            "run it again later, or hand such work to \
             `drawbridge serve --retry-agent-failures`, which repeats it automatically"
        }
        ErrorKind::Budget => "ask for less at a time, or go on in a next run of the same --group",
        ErrorKind::Context => "begin a new conversation: with another --group, or without one",
        // It is a part of the runner, and its own words say what is missing.
        ErrorKind::StartUp if agent == Some(AgentKind::Builtin) => return None,
        ErrorKind::StartUp => {
            "see that the agent is installed, on this machine for --runtime host and else in \
             the --image, or name what to start behind two dashes: -- PROGRAM"
        }
        ErrorKind::Crash => {
            "DRAWBRIDGE_LOG=debug shows more of the agent's log; an agent that was killed may \
             need more --memory"
        }
        ErrorKind::Timeout => {
            "see whether the network and the model API are well, and run it again"
        }
        ErrorKind::Api => {
            "if the reason is not the request itself: does the upstream know the --model, and \
             is its address right?"
        }
        ErrorKind::Input | ErrorKind::Stopped => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(agent: AgentKind, kind: ErrorKind) -> Option<String> {
        hint_for(&RecordDetails {
            agent: Some(agent),
            error_kind: Some(kind),
            ..RecordDetails::default()
        })
    }

    #[test]
    fn the_credential_that_is_checked_is_that_of_the_agent() {
        let hint = hint(AgentKind::Codex, ErrorKind::Auth).unwrap();
        assert!(
            hint.contains("doctor --check-credential --agent codex`"),
            "{hint}"
        );
    }

    /// It has no program that could be missing.
    #[test]
    fn nobody_is_told_to_install_the_builtin_agent() {
        assert_eq!(hint(AgentKind::Builtin, ErrorKind::StartUp), None);
        let hint = hint(AgentKind::Gemini, ErrorKind::StartUp).unwrap();
        assert!(hint.contains("-- PROGRAM"), "{hint}");
    }

    #[test]
    fn an_unknown_kind_of_failure_has_no_way_out() {
        assert_eq!(hint_for(&RecordDetails::default()), None);
    }
}
