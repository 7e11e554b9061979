//! Held bytes that go out before it is clear what they are.

use super::*;

#[test]
fn a_short_beginning_is_released_to_who_waits_for_it_and_a_longer_one_is_not() {
    let mut scrubber = Scrubber::new(patterns(&[SECRET]));
    assert_eq!(scrubber.push("see sk-a".into()), "see ");
    assert_eq!(scrubber.release(), "sk-a");
    assert_eq!(scrubber.held(), 0);
    assert_eq!(scrubber.push("n".into()), "");
    assert_eq!(scrubber.release(), "");
    assert_eq!(scrubber.push("d so on".into()), "nd so on");
    assert_eq!(scrubber.push(SECRET[..2].into()), "");
    assert_eq!(scrubber.release(), "sk");
    let mask = "*".repeat(SECRET.len() - 2);
    assert_eq!(scrubber.push(SECRET[2..].into()), mask);
    // A quarter of a short secret is less.
    let mut scrubber = Scrubber::new(patterns(&[b"hunter2!"]));
    assert_eq!(scrubber.push("hun".into()), "");
    assert_eq!(scrubber.release(), "");
    assert_eq!(scrubber.push("g".into()), "hung");
    assert_eq!(scrubber.push("hu".into()), "");
    assert_eq!(scrubber.release(), "hu");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever a reader waits for held bytes, of each secret no more than the
    /// first four can come out.
    #[test]
    fn class_18_what_is_released_early_tells_four_bytes_at_most(
        input in pieces(),
        lengths in vec(1_usize..9, 1..5),
        waits in vec(any::<bool>(), 1..9),
    ) {
        let mut scrubber = Scrubber::new(Patterns::of_secrets([SECRET]).unwrap());
        let mut output = Vec::new();
        for (chunk, waits) in split(&input, &lengths).into_iter().zip(waits.iter().cycle()) {
            output.extend_from_slice(&scrubber.push(chunk.into()));
            if *waits {
                output.extend_from_slice(&scrubber.release());
                prop_assert!(scrubber.release().is_empty(), "nothing comes out twice");
            }
        }
        output.extend_from_slice(&scrubber.finish());
        let mut expected = mask_plainly(&[SECRET], &input);
        prop_assert_eq!(output.len(), expected.len());
        for (start, _) in input.windows(SECRET.len()).enumerate().filter(|(_, w)| *w == SECRET) {
            let first = start..start + 4;
            expected[first.clone()].copy_from_slice(&output[first]);
        }
        prop_assert_eq!(output, expected);
    }
}
