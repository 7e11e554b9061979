//! A JSON scanner that knows where it is, and remembers nothing else.

use memchr::memchr2;

use super::Reported;

/// The depth of the counts: `[{"response":{"usage":{"input_tokens_details":{`.
const TRACKED_LEVELS: usize = 5;
/// Longer keys are none of ours.
const KEY_BYTES: usize = 32;

/// Finds the counts of one document that comes in pieces of any size.
///
/// Nesting deeper than the counts is only counted, so no depth is too deep.
/// Invalid JSON gives no error but, at worst, no counts.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    token: Token,
    depth: usize,
    levels: [Level; TRACKED_LEVELS],
    key: [u8; KEY_BYTES],
}

/// The part of the text that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default)]
enum Token {
    #[default]
    Between,
    Text,
    /// Behind a backslash in a text.
    Escape,
    /// With its length so far; more than [`KEY_BYTES`] when it is none of ours.
    Key(usize),
    KeyEscape,
    Count(Place, u64),
    /// A number that is no count, or the fraction of one.
    Number,
}

#[derive(Clone, Copy, Debug, Default)]
struct Level {
    is_object: bool,
    /// The key whose value is being read; none when a key comes next.
    key: Option<Key>,
}

/// The keys on the way to a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// `message` or `response`, which contain the final document's fields.
    Envelope {
        is_start: bool,
    },
    Usage,
    Details,
    Count(Field),
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Input,
    Output,
    Thoughts,
    CacheRead,
    CacheWrite,
    Cached,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    field: Field,
    is_start: bool,
}

impl Key {
    const fn of(name: &[u8]) -> Self {
        match name {
            b"message" => Self::Envelope { is_start: true },
            b"response" => Self::Envelope { is_start: false },
            b"usage" | b"usageMetadata" => Self::Usage,
            b"input_tokens_details" | b"prompt_tokens_details" => Self::Details,
            b"input_tokens" | b"prompt_tokens" | b"promptTokenCount" => Self::Count(Field::Input),
            b"output_tokens" | b"completion_tokens" | b"candidatesTokenCount" => {
                Self::Count(Field::Output)
            }
            b"thoughtsTokenCount" => Self::Count(Field::Thoughts),
            b"cache_read_input_tokens" => Self::Count(Field::CacheRead),
            b"cache_creation_input_tokens" => Self::Count(Field::CacheWrite),
            b"cached_tokens" | b"cachedContentTokenCount" => Self::Count(Field::Cached),
            _ => Self::Other,
        }
    }
}

impl Scanner {
    /// Takes the next bytes of the document.
    pub(super) fn scan(&mut self, mut bytes: &[u8], reported: &mut Reported) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            match self.token {
                Token::Between => self.structure(byte),
                Token::Text => match byte {
                    b'"' => self.token = Token::Between,
                    b'\\' => self.token = Token::Escape,
                    // The bulk of an answer is text, so this is the fast path.
                    _ => bytes = &bytes[memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len())..],
                },
                Token::Escape => self.token = Token::Text,
                Token::Key(length) => self.key(byte, length),
                Token::KeyEscape => self.token = Token::Key(KEY_BYTES + 1),
                Token::Count(place, count) => self.count(byte, place, count, reported),
                Token::Number => {
                    if !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') {
                        self.token = Token::Between;
                        self.structure(byte);
                    }
                }
            }
        }
    }

    fn structure(&mut self, byte: u8) {
        match byte {
            b'"' => {
                let is_key = self.level().is_some_and(|l| l.is_object && l.key.is_none());
                self.token = if is_key { Token::Key(0) } else { Token::Text };
            }
            b'{' | b'[' => {
                if let Some(level) = self.levels.get_mut(self.depth) {
                    let is_object = byte == b'{';
                    *level = Level {
                        is_object,
                        key: None,
                    };
                }
                self.depth = self.depth.saturating_add(1);
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' => {
                if let Some(level) = self.level() {
                    level.key = None;
                }
            }
            b'-' => self.token = Token::Number,
            b'0'..=b'9' => {
                self.token = self.place().map_or(Token::Number, |place| {
                    Token::Count(place, u64::from(byte - b'0'))
                });
            }
            _ => {}
        }
    }

    fn key(&mut self, byte: u8, length: usize) {
        match byte {
            b'"' => {
                let key = self.key.get(..length).map_or(Key::Other, Key::of);
                if let Some(level) = self.level() {
                    level.key = Some(key);
                }
                self.token = Token::Between;
            }
            // None of our keys needs an escape.
            b'\\' => self.token = Token::KeyEscape,
            _ => {
                if let Some(place) = self.key.get_mut(length) {
                    *place = byte;
                }
                self.token = Token::Key((length + 1).min(KEY_BYTES + 1));
            }
        }
    }

    fn count(&mut self, byte: u8, place: Place, count: u64, reported: &mut Reported) {
        if byte.is_ascii_digit() {
            let more = count
                .saturating_mul(10)
                .saturating_add(u64::from(byte - b'0'));
            self.token = Token::Count(place, more);
            return;
        }
        self.token = Token::Number;
        if matches!(byte, b'e' | b'E') {
            return;
        }
        reported.take(place, count);
        if byte != b'.' {
            self.token = Token::Between;
            self.structure(byte);
        }
    }

    /// The innermost container, when it is not too deep to matter.
    fn level(&mut self) -> Option<&mut Level> {
        self.levels.get_mut(self.depth.checked_sub(1)?)
    }

    /// Which count a number at this place is.
    fn place(&self) -> Option<Place> {
        let levels = self.levels.get(..self.depth)?;
        // Gemini streams an array of documents unless asked for events.
        let levels = match levels {
            [first, rest @ ..] if !first.is_object => rest,
            levels => levels,
        };
        let mut keys = [Key::Other; TRACKED_LEVELS];
        for (key, level) in keys.iter_mut().zip(levels) {
            *key = level.key.filter(|_| level.is_object)?;
        }
        let (is_start, path) = match &keys[..levels.len()] {
            [Key::Envelope { is_start }, rest @ ..] => (*is_start, rest),
            path => (false, path),
        };
        let field = match *path {
            [Key::Usage, Key::Count(field)] => field,
            [Key::Usage, Key::Details, Key::Count(Field::Cached)] => Field::Cached,
            _ => return None,
        };
        Some(Place { field, is_start })
    }
}

impl Reported {
    fn take(&mut self, place: Place, count: u64) {
        self.is_any = true;
        let total = match place.field {
            Field::Input => &mut self.input,
            Field::Output => {
                self.is_output_final |= !place.is_start;
                &mut self.output
            }
            Field::Thoughts => &mut self.thoughts,
            Field::CacheRead => &mut self.cache_read,
            Field::CacheWrite => &mut self.cache_write,
            Field::Cached => &mut self.cached,
        };
        *total = count.max(*total);
    }
}
