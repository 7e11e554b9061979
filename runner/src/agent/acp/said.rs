//! What an agent says in a turn, message by message. No IO.

/// What the agent has said since its last tool.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Each message's id, where the agent names it, and text; oldest first.
    messages: Vec<(Option<String>, String)>,
    /// Messages that are no answer; more of them may come.
    left_out: Vec<String>,
    /// What it said before that tool.
    earlier: Option<String>,
}

impl Said {
    /// Takes a piece of a message.
    pub(super) fn add(&mut self, message: Option<&str>, text: &str) {
        let is_left_out = |id: &str| self.left_out.iter().any(|out| out == id);
        if message.is_some_and(is_left_out) {
            return;
        }
        match self.messages.last_mut() {
            Some((last, said)) if last.as_deref() == message => said.push_str(text),
            _ => self
                .messages
                .push((message.map(ToOwned::to_owned), text.to_owned())),
        }
    }

    /// Forgets what was said of a message so far; it is said again.
    pub(super) fn take_back(&mut self, message: &str) {
        self.messages
            .retain(|(id, _)| id.as_deref() != Some(message));
    }

    /// Leaves a message out, also what comes of it later. False if it is left out
    /// already.
    pub(super) fn leave_out(&mut self, message: String) -> bool {
        self.take_back(&message);
        let is_new = !self.left_out.contains(&message);
        if is_new {
            self.left_out.push(message);
        }
        is_new
    }

    /// A tool begins: what was said before it, if anything.
    pub(super) fn begin_tool(&mut self) -> Option<String> {
        let said = self.join()?;
        *self = Self {
            earlier: Some(said.clone()),
            ..Self::default()
        };
        Some(said)
    }

    /// What the agent answers: all since its last tool, or what it said before.
    pub(super) fn into_answer(self) -> Option<String> {
        self.join().or(self.earlier)
    }

    fn join(&self) -> Option<String> {
        let texts = self.messages.iter().map(|(_, text)| text.as_str());
        let texts: Vec<_> = texts.filter(|text| !text.is_empty()).collect();
        (!texts.is_empty()).then(|| texts.join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_joined_and_those_left_out_are_not() {
        let mut said = Said::default();
        said.add(Some("a"), "the ");
        said.add(Some("a"), "answer");
        said.add(Some("b"), "a summ");
        said.leave_out("b".to_owned());
        said.add(Some("b"), "ary");
        said.add(Some("c"), "ha");
        said.take_back("c");
        said.add(Some("c"), "no more");
        assert_eq!(said.into_answer().as_deref(), Some("the answer\n\nno more"));
    }

    #[test]
    fn what_was_said_before_a_tool_answers_only_when_nothing_follows() {
        let mut said = Said::default();
        assert_eq!(said.begin_tool(), None);
        said.add(None, "on my ");
        said.add(None, "way");
        assert_eq!(said.begin_tool().as_deref(), Some("on my way"));
        assert_eq!(said.begin_tool(), None);
        said.add(None, "done");
        assert_eq!(said.into_answer().as_deref(), Some("done"));

        let mut said = Said::default();
        said.add(None, "all is said");
        said.begin_tool();
        assert_eq!(said.into_answer().as_deref(), Some("all is said"));
    }
}
