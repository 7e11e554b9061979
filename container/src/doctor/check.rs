//! The outcome of a check, and its display.

use serde::Serialize;

use crate::error::Error;
use crate::terminal::colour::Paint;

/// Outcome of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it has to be.
    Pass,
    /// A run would fail, or would be less isolated than it claims.
    Fail,
    /// Good to know; it breaks nothing.
    Note,
    /// Not looked at, as something before it failed.
    Skipped,
}

/// Where the check was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    /// On this machine.
    Outside,
    /// Inside, with the flags of a real run.
    Inside,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    pub(crate) place: Place,
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    /// The finding.
    pub(crate) detail: String,
    /// The way out of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Check {
    pub(crate) fn new(
        place: Place,
        name: &'static str,
        status: Status,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            place,
            name,
            status,
            detail: detail.into(),
            hint: None,
        }
    }

    /// A check outside that passed.
    pub(crate) fn pass(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(Place::Outside, name, Status::Pass, detail)
    }

    /// A check outside that failed, with the error's own hint.
    pub(crate) fn fail(name: &'static str, error: &Error) -> Self {
        Self {
            hint: error.hint_text().map(str::to_owned),
            ..Self::new(Place::Outside, name, Status::Fail, error.one_line())
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn is_failure(&self) -> bool {
        self.status == Status::Fail
    }

    fn lines(&self, paint: Paint) -> String {
        let mark = match self.status {
            Status::Pass => paint.green("ok  "),
            Status::Fail => paint.red("FAIL"),
            Status::Note => paint.yellow("note"),
            Status::Skipped => paint.dim("--  "),
        };
        let mut lines = format!("  {mark}  {:<18} {}", self.name, self.detail);
        if let Some(hint) = &self.hint {
            lines.push_str(&format!("\n        {:<18} hint: {hint}", ""));
        }
        lines
    }
}

/// The report for people.
pub(crate) fn show(checks: &[Check], paint: Paint) -> String {
    let mut text = String::new();
    for (place, heading) in [
        (Place::Outside, "on this machine"),
        (Place::Inside, "inside, with the flags of a real run"),
    ] {
        let mut here = checks
            .iter()
            .filter(|check| check.place == place)
            .peekable();
        if here.peek().is_some() {
            text.push_str(&paint.bold(heading));
        }
        for check in here {
            text.push('\n');
            text.push_str(&check.lines(paint));
        }
        text.push('\n');
    }
    let failures = checks.iter().filter(|check| check.is_failure()).count();
    let summary = match failures {
        0 => paint.green("all is well: a run can start"),
        1 => paint.red("1 check failed: a run would not work as promised"),
        many => paint.red(&format!(
            "{many} checks failed: a run would not work as promised"
        )),
    };
    text + &summary
}
