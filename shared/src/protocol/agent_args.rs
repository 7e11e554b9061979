//! Arguments that a user adds to an agent's own command line.

use super::AgentKind;

/// Reason to refuse the arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentArgsError {
    /// The agent has no command line of its own.
    #[error("the agent {} takes no arguments", .0.name())]
    NoCommandLine(AgentKind),
    /// The first argument is not a flag.
    #[error("{0:?} is not a flag")]
    NotAFlag(String),
    /// Drawbridge sets the flag itself.
    #[error("{flag:?} is set by drawbridge for the agent {}", .agent.name())]
    Reserved {
        /// The agent.
        agent: AgentKind,
        /// The argument that was given.
        flag: String,
    },
}

/// Flags of an agent that the runner sets, and those that would undo them.
struct Reserved {
    long: &'static [&'static str],
    short: &'static [char],
    /// Keys of `-c KEY=VALUE`.
    config: &'static [&'static str],
}

const CLAUDE: Reserved = Reserved {
    long: &[
        "print",
        "output-format",
        "input-format",
        "verbose",
        "setting-sources",
        "permission-mode",
        "allow-dangerously-skip-permissions",
        "dangerously-skip-permissions",
        "mcp-config",
        "allowed-tools",
        "tools",
        "disallowed-tools",
        "add-dir",
        "effort",
        "resume",
        "continue",
        "session-id",
        "fork-session",
        "model",
    ],
    short: &['p', 'r', 'c'],
    config: &[],
};

const CODEX: Reserved = Reserved {
    long: &[
        "listen",
        "enable",
        "disable",
        "model",
        "sandbox",
        "ask-for-approval",
    ],
    short: &['m', 's', 'a'],
    config: &[
        "approval_policy",
        "sandbox_mode",
        "check_for_update_on_startup",
        "features.plugins",
        "analytics.enabled",
        "project_doc_fallback_filenames",
        "model",
        "model_reasoning_effort",
        "model_provider",
        "model_providers.drawbridge",
        "mcp_servers.nanoclaw",
    ],
};

const OPENCODE: Reserved = Reserved {
    long: &["cwd", "hostname", "port"],
    short: &[],
    config: &[],
};

const GEMINI: Reserved = Reserved {
    long: &[
        "acp",
        "experimental-acp",
        "skip-trust",
        "yolo",
        "approval-mode",
        "model",
    ],
    short: &['y', 'm'],
    config: &[],
};

/// Refuses arguments for an agent without a command line of its own, and flags
/// that the runner sets. Every argument that looks like a flag counts as one, so
/// a value that begins with a dash has to be given as `--flag=value`.
///
/// # Errors
/// The arguments are refused.
pub fn check_agent_args(agent: AgentKind, args: &[String]) -> Result<(), AgentArgsError> {
    let Some(first) = args.first() else {
        return Ok(());
    };
    let reserved = match agent {
        AgentKind::Claude => CLAUDE,
        AgentKind::Codex => CODEX,
        AgentKind::Opencode => OPENCODE,
        AgentKind::Gemini => GEMINI,
        AgentKind::Builtin | AgentKind::Acp | AgentKind::Command => {
            return Err(AgentArgsError::NoCommandLine(agent));
        }
    };
    // It would be a prompt, or a subcommand.
    if !first.starts_with('-') {
        return Err(AgentArgsError::NotAFlag(first.clone()));
    }
    let mut following = args.iter().skip(1).map(String::as_str).chain([""]);
    for arg in args {
        let next = following.next().unwrap_or_default();
        if reserved.has(arg, next) {
            let flag = arg.clone();
            return Err(AgentArgsError::Reserved { agent, flag });
        }
    }
    Ok(())
}

impl Reserved {
    fn has(&self, arg: &str, next: &str) -> bool {
        if let Some(name) = arg.strip_prefix("--") {
            let (name, value) = name.split_once('=').unwrap_or((name, next));
            // An empty name ends the flags.
            return name.is_empty()
                || self.has_long(name)
                || (!self.config.is_empty() && name == "config" && self.has_key(value));
        }
        let Some(letters) = arg.strip_prefix('-') else {
            return false;
        };
        if !self.config.is_empty()
            && let Some(value) = letters.strip_prefix('c')
        {
            let value = value.strip_prefix('=').unwrap_or(value);
            return self.has_key(if value.is_empty() { next } else { value });
        }
        letters.chars().any(|letter| self.short.contains(&letter))
    }

    /// Agents read `--allowedTools` like `--allowed-tools`, and `--no-yolo` and
    /// `--yolo.x` as a value of `--yolo`.
    fn has_long(&self, name: &str) -> bool {
        let plain = |name: &str| name.replace('-', "").to_lowercase();
        let name = name.split('.').next().unwrap_or_default();
        let name = plain(name.strip_prefix("no-").unwrap_or(name));
        self.long.iter().any(|reserved| plain(reserved) == name)
    }

    /// Whether `KEY=VALUE` sets a key of ours, a part of it, or a table around it.
    fn has_key(&self, setting: &str) -> bool {
        let key = setting.split('=').next().unwrap_or_default();
        let key = key.replace(['"', '\'', ' ', '\t'], "");
        let is_part = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mut ours = self.config.iter();
        ours.any(|ours| is_part(&key, ours) || is_part(ours, &key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(agent: AgentKind, args: &[&str]) -> Result<(), AgentArgsError> {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        check_agent_args(agent, &args)
    }

    #[test]
    fn a_flag_of_ours_is_refused_in_every_form() {
        for (agent, args) in [
            (AgentKind::Claude, &["--model", "x"][..]),
            (AgentKind::Claude, &["--model=x"]),
            (AgentKind::Claude, &["--allowedTools=Bash"]),
            (AgentKind::Claude, &["--allowed-tools", "Bash"]),
            (AgentKind::Claude, &["--debug", "--resume"]),
            (AgentKind::Claude, &["-dc"]),
            (AgentKind::Claude, &["--", "x"]),
            (AgentKind::Codex, &["-c", "model=\"x\""]),
            (AgentKind::Codex, &["-csandbox_mode=x"]),
            (AgentKind::Codex, &["-c=sandbox_mode=x"]),
            (AgentKind::Codex, &["--config=model_providers={}"]),
            (
                AgentKind::Codex,
                &["--config", "mcp_servers.\"nanoclaw\".command=x"],
            ),
            (AgentKind::Codex, &["--enable", "plugins"]),
            (AgentKind::Gemini, &["--approvalMode=plan"]),
            (AgentKind::Gemini, &["--no-yolo"]),
            (AgentKind::Gemini, &["-mx"]),
            (AgentKind::Opencode, &["--port", "1"]),
        ] {
            let refused = check(agent, args).unwrap_err();
            let is_reserved = matches!(refused, AgentArgsError::Reserved { .. });
            assert!(is_reserved, "{args:?}: {refused}");
        }
    }

    #[test]
    fn other_flags_are_accepted() {
        for (agent, args) in [
            (AgentKind::Claude, &["--append-system-prompt=--model"][..]),
            (AgentKind::Claude, &["--fallback-model", "x", "-d", "api"]),
            (AgentKind::Codex, &["-c", "model_verbosity=\"low\""]),
            (AgentKind::Codex, &["-c", "mcp_servers.other.command=x"]),
            (AgentKind::Gemini, &["--debug"]),
            (AgentKind::Opencode, &["--print-logs"]),
            (AgentKind::Builtin, &[]),
        ] {
            assert_eq!(check(agent, args), Ok(()), "{args:?}");
        }
    }

    #[test]
    fn an_agent_without_flags_and_a_prompt_are_refused() {
        for agent in [AgentKind::Builtin, AgentKind::Acp, AgentKind::Command] {
            let refused = Err(AgentArgsError::NoCommandLine(agent));
            assert_eq!(check(agent, &["--debug"]), refused);
        }
        check(AgentKind::Codex, &["exec"]).unwrap_err();
    }
}
