//! Patterns, a stream, and how it is split, against the plainest masking.
//!
//! The first line of the input is the patterns, separated by spaces; the
//! second one's bytes are the lengths of the pieces.

#![no_main]

use bytes::Bytes;
use drawbridge_proxy::testing::{MASK, Patterns, Scrubber};
use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let (Some(patterns), Some(lengths), Some(stream)) = (parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let texts: Vec<_> = patterns.split(|byte| *byte == b' ').take(20).collect();
    let set = Patterns::new(texts.iter().map(|text| Zeroizing::new(text.to_vec()))).unwrap();
    let mut scrubber = Scrubber::new(set);
    let mut lengths = lengths.iter().map(|byte| usize::from(*byte)).cycle();
    let mut shown = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(1).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(length);
        shown.extend_from_slice(&scrubber.push(Bytes::copy_from_slice(piece)));
        rest = behind;
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        assert!(scrubber.held() < longest.max(1), "too much is held");
    }
    shown.extend_from_slice(&scrubber.finish());
    assert_eq!(shown, mask(&texts, stream));

    // Every form of a whole line as a secret: never a panic, never another length.
    let secrets = Patterns::of_secrets([patterns]).unwrap();
    let mut scrubber = Scrubber::new(secrets);
    let mut length = scrubber.push(Bytes::copy_from_slice(input)).len();
    length += scrubber.finish().len();
    assert_eq!(length, input.len());
});

fn mask(texts: &[&[u8]], stream: &[u8]) -> Vec<u8> {
    let mut masked = stream.to_vec();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        for (start, window) in stream.windows(text.len()).enumerate() {
            if window == *text {
                masked[start..start + text.len()].fill(MASK);
            }
        }
    }
    masked
}
