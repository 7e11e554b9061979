//! The pinned versions, from `container/image/versions.toml`.

use serde::Deserialize;

use crate::error::{Context, Error, Result};

/// Versions of the parts of the images.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Versions {
    /// Claude Code.
    pub(crate) claude_code: String,
    /// Codex.
    pub(crate) codex: String,
    /// opencode.
    pub(crate) opencode: String,
    /// Gemini CLI.
    pub(crate) gemini: String,
    /// The oldest Claude Code that is tested.
    #[expect(dead_code, reason = "for tests/run.sh, which reads the same file")]
    claude_code_oldest: String,
    /// Base of the agents' images.
    pub(crate) base: String,
    /// Image that compiles the runner where the host cannot.
    pub(crate) rust: String,
}

impl Versions {
    /// The versions that this program was built with.
    pub(crate) fn pinned() -> Result<Self> {
        toml::from_str(include_str!("../../image/versions.toml"))
            .context(|| Error::infrastructure("the pinned versions cannot be read"))
    }

    /// The version of an agent that is not our own.
    pub(crate) fn of(self, agent: &str) -> Option<String> {
        match agent {
            "claude" => Some(self.claude_code),
            "codex" => Some(self.codex),
            "opencode" => Some(self.opencode),
            "gemini" => Some(self.gemini),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_versions_are_exact() {
        let versions = Versions::pinned().unwrap();
        assert_eq!(versions.claude_code.split('.').count(), 3);
        assert!(versions.base.contains(':'));
        assert!(versions.rust.contains(':'));
    }
}
