//! The text of an agent's turn, message by message. No IO.

/// The messages since the agent's last tool.
#[derive(Debug, Default)]
pub(super) struct AnswerBuffer {
    /// Each message's id, where the agent names it, and text; oldest first.
    messages: Vec<(Option<String>, String)>,
    /// Messages that are no answer; more of them may come.
    excluded: Vec<String>,
    /// The text before that tool.
    earlier: Option<String>,
}

impl AnswerBuffer {
    /// Takes a piece of a message.
    pub(super) fn add(&mut self, message: Option<&str>, text: &str) {
        let is_excluded = |id: &str| self.excluded.iter().any(|out| out == id);
        if message.is_some_and(is_excluded) {
            return;
        }
        match self.messages.last_mut() {
            Some((last, joined)) if last.as_deref() == message => joined.push_str(text),
            _ => self
                .messages
                .push((message.map(ToOwned::to_owned), text.to_owned())),
        }
    }

    /// Drops the text of a message so far; it is sent again.
    pub(super) fn retract(&mut self, message: &str) {
        self.messages
            .retain(|(id, _)| id.as_deref() != Some(message));
    }

    /// Leaves a message out, also what comes of it later. False if it is left out
    /// already.
    pub(super) fn exclude(&mut self, message: String) -> bool {
        self.retract(&message);
        let is_new = !self.excluded.contains(&message);
        if is_new {
            self.excluded.push(message);
        }
        is_new
    }

    /// Marks the start of a tool; returns the text before it, if any.
    pub(super) fn begin_tool(&mut self) -> Option<String> {
        let text = self.join()?;
        *self = Self {
            earlier: Some(text.clone()),
            ..Self::default()
        };
        Some(text)
    }

    /// The answer: all text since the last tool, or the text before it.
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
        let mut buffer = AnswerBuffer::default();
        buffer.add(Some("a"), "the ");
        buffer.add(Some("a"), "answer");
        buffer.add(Some("b"), "a summ");
        buffer.exclude("b".to_owned());
        buffer.add(Some("b"), "ary");
        buffer.add(Some("c"), "ha");
        buffer.retract("c");
        buffer.add(Some("c"), "no more");
        assert_eq!(
            buffer.into_answer().as_deref(),
            Some("the answer\n\nno more")
        );
    }

    #[test]
    fn what_was_said_before_a_tool_answers_only_when_nothing_follows() {
        let mut buffer = AnswerBuffer::default();
        assert_eq!(buffer.begin_tool(), None);
        buffer.add(None, "on my ");
        buffer.add(None, "way");
        assert_eq!(buffer.begin_tool().as_deref(), Some("on my way"));
        assert_eq!(buffer.begin_tool(), None);
        buffer.add(None, "done");
        assert_eq!(buffer.into_answer().as_deref(), Some("done"));

        let mut buffer = AnswerBuffer::default();
        buffer.add(None, "all is said");
        buffer.begin_tool();
        assert_eq!(buffer.into_answer().as_deref(), Some("all is said"));
    }
}
