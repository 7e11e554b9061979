//! Reads token counts from answers while they stream past.
//!
//! Budgets and completion lines need to know how many tokens a request cost.
//! The vendors say so in the answer itself:
//!
//! | API | Where |
//! |---|---|
//! | Anthropic Messages | `usage`; streamed: `message.usage` of `message_start`, then `usage` of each `message_delta`, cumulative |
//! | `OpenAI` Chat Completions | `usage`; streamed: `usage` of the last chunk, when the client asked for it |
//! | `OpenAI` Responses | `usage`; streamed: `response.usage` of the last event |
//! | Gemini | `usageMetadata`, in each chunk when streamed |
//!
//! A [`UsageMeter`] looks at the bytes and never changes, delays or stores
//! them: its memory is a few hundred bytes whatever comes. Counts are taken at
//! exactly these places of the document, because what a model says, or is made
//! to say, also appears in it. Anything that is not JSON counts as nothing.

mod json;
mod sse;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use json::Scanner;
use sse::EventScanner;

/// The tokens of one request, all parts disjoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens that came from no cache and went to none.
    pub input: u64,
    /// Output tokens, thinking included.
    pub output: u64,
    /// Input tokens read from the vendor's prompt cache.
    pub cache_read: u64,
    /// Input tokens written to the vendor's prompt cache.
    pub cache_write: u64,
    /// Whether `output` is the number of events so far, because the answer
    /// ended (or was aborted) before it told. A stream has about one event per
    /// token, so an agent gains nothing by hanging up before the last one.
    pub is_estimate: bool,
}

impl Usage {
    /// All input tokens, which is what budgets count.
    #[must_use]
    pub const fn total_input(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
    }
}

/// Counts as they stand in the answer. Repeated counts are cumulative, so the
/// largest one holds.
#[derive(Clone, Copy, Debug, Default)]
struct Reported {
    input: u64,
    output: u64,
    /// Thinking that `output` does not include.
    thoughts: u64,
    cache_read: u64,
    cache_write: u64,
    /// The part of `input` that was read from a cache.
    cached: u64,
    is_any: bool,
    /// `output` is more than the beginning of a stream.
    is_output_final: bool,
}

/// Reads the usage from one answer, however its bytes are split.
#[derive(Debug)]
pub struct UsageMeter {
    reader: Reader,
    reported: Reported,
}

#[derive(Debug)]
enum Reader {
    Document(Scanner),
    Events(EventScanner),
}

impl UsageMeter {
    /// A meter for an answer with these headers; none when its media type is
    /// neither JSON nor an event stream.
    #[must_use]
    pub fn for_answer(headers: &HeaderMap) -> Option<Self> {
        let media_type = headers
            .get(CONTENT_TYPE)?
            .to_str()
            .ok()?
            .split(';')
            .next()?;
        let (kind, subtype) = media_type.trim().split_once('/')?;
        if kind.eq_ignore_ascii_case("text") && subtype.eq_ignore_ascii_case("event-stream") {
            Some(Self::event_stream())
        } else if kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("json") {
            Some(Self::document())
        } else {
            None
        }
    }

    /// A meter for one JSON document.
    #[must_use]
    pub fn document() -> Self {
        Self::new(Reader::Document(Scanner::default()))
    }

    /// A meter for a stream of server-sent events.
    #[must_use]
    pub fn event_stream() -> Self {
        Self::new(Reader::Events(EventScanner::default()))
    }

    fn new(reader: Reader) -> Self {
        let reported = Reported::default();
        Self { reader, reported }
    }

    /// Looks at the next bytes.
    pub fn observe(&mut self, bytes: &[u8]) {
        match &mut self.reader {
            Reader::Document(scanner) => scanner.scan(bytes, &mut self.reported),
            Reader::Events(scanner) => scanner.scan(bytes, &mut self.reported),
        }
    }

    /// The cost of the answer as far as it is reported; none when it has reported
    /// nothing.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let Reported {
            input,
            output,
            thoughts,
            cache_read,
            cache_write,
            cached,
            ..
        } = self.reported;
        let events = match &self.reader {
            Reader::Document(_) => 0,
            Reader::Events(scanner) => scanner.events(),
        };
        let is_estimate = !self.reported.is_output_final && events > 0;
        (self.reported.is_any || is_estimate).then(|| Usage {
            input: input.saturating_sub(cached),
            output: if is_estimate {
                output.max(events)
            } else {
                output.saturating_add(thoughts)
            },
            cache_read: cache_read.saturating_add(cached),
            cache_write,
            is_estimate,
        })
    }
}

#[cfg(test)]
mod tests;
