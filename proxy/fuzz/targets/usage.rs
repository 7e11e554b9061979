//! Any bytes as an answer: the same counts however they are split.
//!
//! The first byte decides about the kind of answer, the second one about the
//! length of the pieces.

#![no_main]

use drawbridge_proxy::testing::UsageMeter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [kind, length, answer @ ..] = input else {
        return;
    };
    let new = if kind % 2 == 0 { UsageMeter::document } else { UsageMeter::event_stream };
    let mut whole = new();
    whole.observe(answer);
    let mut split = new();
    for piece in answer.chunks(usize::from(*length).max(1)) {
        split.observe(piece);
    }
    assert_eq!(whole.usage(), split.usage());
    if let Some(usage) = whole.usage() {
        assert!(usage.total_input() >= usage.input);
    }
});
