use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use http::header::{CONTENT_ENCODING, LOCATION, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use proptest::collection::vec;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

mod release;

const SECRET: &[u8] = b"sk-ant-fake-CANARY-0123456789";

fn patterns(texts: &[&[u8]]) -> Patterns {
    Patterns::new(texts.iter().map(|text| Zeroizing::new(text.to_vec()))).unwrap()
}

/// What the scrubber promises, in the plainest words.
fn mask_plainly(texts: &[&[u8]], input: &[u8]) -> Vec<u8> {
    let mut output = input.to_vec();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        for (start, window) in input.windows(text.len()).enumerate() {
            if window == *text {
                output[start..start + text.len()].fill(MASK);
            }
        }
    }
    output
}

fn scrub(patterns: &Patterns, chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut scrubber = Scrubber::new(patterns.clone());
    let mut output = Vec::new();
    for chunk in chunks {
        output.extend_from_slice(&scrubber.push(chunk.into()));
    }
    output.extend_from_slice(&scrubber.finish());
    output
}

fn split(mut bytes: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    for length in lengths.iter().cycle().take(bytes.len()) {
        let (chunk, rest) = bytes.split_at((*length).min(bytes.len()));
        chunks.push(chunk.to_vec());
        bytes = rest;
    }
    chunks.push(bytes.to_vec());
    chunks
}

/// Every way in which this file's tests write a secret.
fn encodings(secret: &[u8], before: &[u8], after: &[u8]) -> Vec<Vec<u8>> {
    let around = [before, secret, after].concat();
    let each = |write: &dyn Fn(u8) -> String| secret.iter().map(|b| write(*b)).collect::<String>();
    let json = serde_json::to_string(&String::from_utf8_lossy(secret)).unwrap();
    let json = &json[1..json.len() - 1];
    let texts = [
        STANDARD.encode(&around),
        URL_SAFE.encode(&around),
        each(&|b| format!("%{b:02X}")),
        each(&|b| format!("%{b:02x}")),
        each(&|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        }),
        each(&|b| format!("\\u{b:04x}")),
        each(&|b| format!("\\u{b:04X}")),
        each(&|b| format!("{b:02x}")),
        each(&|b| format!("{b:02X}")),
        json.to_owned(),
        json.replace('/', "\\/"),
        json.replace('+', "\\u002B").replace("\\\"", "\\u0022"),
    ];
    let mut all: Vec<_> = texts.into_iter().map(String::into_bytes).collect();
    all.push(secret.to_vec());
    all
}

/// Whether `shown` still tells the secret to someone who looks for the raw text
/// or decodes any base64 in it.
fn tells(shown: &[u8], written: &[u8]) -> bool {
    // Base64 shares up to four characters at either end with its neighbours.
    let core = &written[written.len().min(8)..written.len().saturating_sub(8).max(8)];
    // A secret may hold the mask's own character.
    let is_telling = core.iter().any(|byte| *byte != MASK);
    is_telling && shown.windows(core.len()).any(|window| window == core)
}

#[test]
fn attack_18_a_secret_in_a_streamed_answer_is_masked_in_every_form() {
    let set = Patterns::of_secrets([SECRET]).unwrap();
    for before in [&b""[..], b"x", b"xy", b"x-access-token:"] {
        for after in [&b""[..], b"z", b"zz"] {
            for written in encodings(SECRET, before, after) {
                let input = [b"{\"echo\":\"", &written[..], b"\"}"].concat();
                for length in 1..input.len() {
                    let output = scrub(&set, split(&input, &[length]));
                    assert_eq!(output.len(), input.len());
                    assert!(output.starts_with(b"{\"echo\":\"") && output.ends_with(b"\"}"));
                    let text = String::from_utf8_lossy(&output);
                    assert!(!tells(&output, &written), "in pieces of {length}: {text}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_part_of_a_match_is_not_delayed() {
    let set = Patterns::of_secrets([SECRET]).unwrap();
    let mut scrubber = Scrubber::new(set);
    let event = Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n");
    let shown = scrubber.push(event.clone());
    assert_eq!(shown, event);
    assert_eq!(shown.as_ptr(), event.as_ptr(), "it is not copied either");
    assert_eq!(
        scrubber.push("what follows: sk-ant-f".into()),
        "what follows: "
    );
    assert_eq!(scrubber.push("ine\n".into()), "sk-ant-fine\n");
    assert_eq!(scrubber.push("sk-a".into()), "");
    assert_eq!(scrubber.finish(), "sk-a");
}

#[test]
fn overlapping_occurrences_are_masked_together() {
    for (texts, input, expected) in [
        (&[&b"abcab"[..]][..], &b"xabcabcaby"[..], &b"x********y"[..]),
        (&[b"bca", b"xabcabzz"], b"xabcabzy", b"xa***bzy"),
        (&[b"bca", b"xabcabzz"], b"xabcabzz", b"********"),
        (
            &[b"abcd", b"abcdefgh"],
            b"abcdefg abcdefgh",
            b"****efg ********",
        ),
    ] {
        for length in 1..=input.len() {
            let output = scrub(&patterns(texts), split(input, &[length]));
            assert_eq!(output, expected, "in pieces of {length}");
        }
    }
}

#[test]
fn a_beginning_is_held_although_a_shorter_pattern_begins_behind_it() {
    let set = patterns(&[b"b", b"ba", b"cbb"]);
    assert_eq!(scrub(&set, split(b"cbb", &[1])), b"***");
}

#[test]
fn no_patterns_mean_no_change() {
    let set = Patterns::none().unwrap();
    assert!(set.is_empty());
    assert_eq!(scrub(&set, [SECRET.to_vec()]), SECRET);
}

#[test]
fn secrets_are_not_printed() {
    let scrubber = Scrubber::new(Patterns::of_secrets([SECRET]).unwrap());
    assert!(!format!("{scrubber:?}").contains("CANARY"));
}

#[test]
fn attack_18_a_secret_in_an_answers_head_is_masked() {
    let set = Patterns::of_secrets([SECRET]).unwrap();
    let mut response = http::Response::new(());
    let text = format!("/x?key={}&n=1", String::from_utf8_lossy(SECRET));
    let value = HeaderValue::from_str(&text).unwrap();
    response.headers_mut().insert(LOCATION, value);
    response
        .extensions_mut()
        .insert(hyper::ext::ReasonPhrase::from_static(b"OK sk-ant-fake"));
    let (mut head, ()) = response.into_parts();
    scrub_head(&mut head, &set);
    let masks = "*".repeat(SECRET.len());
    assert_eq!(
        head.headers[LOCATION],
        format!("/x?key={masks}&n=1").as_str()
    );
    assert!(head.extensions.get::<hyper::ext::ReasonPhrase>().is_none());
}

#[test]
fn attack_18_a_compressed_answer_is_refused() {
    let mut headers = HeaderMap::new();
    request_identity(&mut headers);
    assert_eq!(headers["accept-encoding"], "identity");
    assert!(require_identity(&headers).is_ok());
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("Identity"));
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    assert!(require_identity(&headers).is_ok());
    for coding in ["gzip", "identity, br", "x-unknown", "\u{fc}"] {
        let mut headers = headers.clone();
        headers.append(CONTENT_ENCODING, HeaderValue::from_str(coding).unwrap());
        assert!(require_identity(&headers).is_err(), "{coding}");
    }
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("gzip, chunked"));
    let error = require_identity(&headers).unwrap_err();
    insta::assert_snapshot!(error, @r#"the upstream's answer has transfer-encoding: "gzip, chunked", so secrets in it could not be hidden"#);
}

/// A body that is played from a list.
struct Script(VecDeque<Event>);

#[derive(Clone, Debug)]
enum Event {
    Wait,
    Data(Vec<u8>),
    Trailer(Vec<u8>),
    Fail,
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match self.0.pop_front() {
            Some(Event::Wait) => Poll::Pending,
            Some(Event::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data.into())))),
            Some(Event::Trailer(value)) => {
                let value = HeaderValue::from_bytes(&value).unwrap();
                let trailers = [(LOCATION, value)].into_iter().collect();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Some(Event::Fail) => Poll::Ready(Some(Err("reset"))),
            None => Poll::Ready(None),
        }
    }
}

/// All that a consumer gets who does not stop at an error.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    data: Vec<u8>,
    trailer: Option<Vec<u8>>,
    has_failed: bool,
}

fn play(script: Vec<Event>, set: &Patterns) -> Outcome {
    let mut body = ScrubbedBody::new(Script(script.into()), set.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let mut outcome = Outcome::default();
    let mut ends = 0;
    while ends < 3 {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Pending => {}
            Poll::Ready(None) => ends += 1,
            Poll::Ready(Some(Err(_))) => outcome.has_failed = true,
            Poll::Ready(Some(Ok(frame))) => {
                assert!(!outcome.has_failed, "nothing comes after an error");
                match frame.into_data() {
                    Ok(data) => outcome.data.extend_from_slice(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap();
                        outcome.trailer = Some(trailers[LOCATION].as_bytes().to_vec());
                    }
                }
            }
        }
    }
    outcome
}

#[test]
fn a_body_keeps_its_exact_length() {
    struct Fixed;
    impl Body for Fixed {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"see sk-a")))))
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(100)
        }
    }
    let mut body = ScrubbedBody::new(Fixed, patterns(&[SECRET]));
    assert_eq!(body.size_hint().exact(), Some(100));
    let _ = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
    assert_eq!(body.size_hint().exact(), Some(104), "four bytes are held");
    assert!(!body.is_end_stream());
}

/// What keys and passwords are made of.
const KEY_CHARACTERS: &[u8] = b"abcXYZ0189-_.~+/=:@#$%!*()[]{}|\\\"^?,; ";

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    // Pieces of the secret in a small alphabet, so that near misses are common.
    let piece = prop_oneof![
        Just(SECRET.to_vec()),
        (0..SECRET.len()).prop_map(|end| SECRET[..end].to_vec()),
        (0..SECRET.len()).prop_map(|start| SECRET[start..].to_vec()),
        vec(prop::sample::select(&b"sk-ant \xff"[..]), 0..6),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        1 => Just(Event::Wait),
        8 => pieces().prop_map(Event::Data),
        1 => Just(Event::Trailer([b"/", SECRET].concat())),
        1 => Just(Event::Fail),
    ];
    vec(event, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_any_input_gives_the_plain_result(
        texts in vec(vec(prop::sample::select(&b"abc"[..]), 1..7), 0..5),
        input in vec(prop::sample::select(&b"abcd"[..]), 0..60),
        lengths in vec(1_usize..9, 1..5),
    ) {
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let expected = mask_plainly(&texts, &input);
        prop_assert_eq!(scrub(&patterns(&texts), split(&input, &lengths)), expected);
    }

    #[test]
    fn any_secret_in_any_encoding_is_masked(
        secret in vec(prop::sample::select(KEY_CHARACTERS), 12..60),
        before in vec(any::<u8>(), 0..5),
        after in vec(any::<u8>(), 0..5),
        lengths in vec(1_usize..40, 1..5),
    ) {
        let set = Patterns::of_secrets([&secret[..]]).unwrap();
        for written in encodings(&secret, &before, &after) {
            let output = scrub(&set, split(&written, &lengths));
            prop_assert_eq!(output.len(), written.len());
            prop_assert!(!tells(&output, &written), "{}", String::from_utf8_lossy(&written));
        }
    }

    /// The held bytes are never more than the beginning of a pattern.
    #[test]
    fn only_the_beginning_of_a_pattern_is_held(input in pieces(), length in 1_usize..20) {
        let mut scrubber = Scrubber::new(patterns(&[SECRET]));
        for chunk in split(&input, &[length]) {
            let _ = scrubber.push(chunk.into());
            let held = scrubber.held();
            prop_assert_eq!(&scrubber.held.seen, &SECRET[..held]);
            prop_assert!(held < SECRET.len());
        }
    }

    #[test]
    fn attack_19_no_interleaving_of_data_and_errors_shows_the_secret(script in events()) {
        let outcome = play(script.clone(), &patterns(&[SECRET]));
        let mut data = Vec::new();
        let mut expected = Outcome::default();
        for event in script {
            match event {
                Event::Wait => {}
                Event::Data(bytes) => data.extend_from_slice(&bytes),
                Event::Fail => {
                    expected.has_failed = true;
                    break;
                }
                Event::Trailer(_) => {
                    expected.trailer = Some([b"/", "*".repeat(SECRET.len()).as_bytes()].concat());
                    break;
                }
            }
        }
        expected.data = mask_plainly(&[SECRET], &data);
        // An error takes what was held with it, and nothing else.
        if expected.has_failed {
            prop_assert!(outcome.data.len() <= expected.data.len());
            prop_assert!(expected.data.len() - outcome.data.len() < SECRET.len());
            expected.data.truncate(outcome.data.len());
        }
        prop_assert_eq!(outcome, expected);
    }
}
