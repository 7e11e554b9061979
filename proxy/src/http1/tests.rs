use super::*;
use proptest::prelude::*;

/// The verdict on a whole conversation, and whether it ends between messages.
fn verdict(bytes: &[u8]) -> Result<bool, Violation> {
    let mut guard = WireGuard::new();
    guard.inspect(bytes).map_err(|refused| refused.violation)?;
    Ok(guard.place == Place::RequestLine && guard.line.is_empty())
}

fn refused(head: &str) -> Violation {
    verdict(head.as_bytes()).expect_err(head)
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

#[test]
fn whole_messages_pass_one_after_the_other() {
    let conversation = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x?y=1 HTTP/1.1\r\nhost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHOST:a\r\nTransfer-Encoding: Chunked\r\n\r\n",
        "3\r\nabc\r\n19\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n0\r\nx-sum: 1\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\n\r\n",
    ];
    let conversation = conversation.concat();
    assert_eq!(verdict(conversation.as_bytes()), Ok(true));
}

#[test]
fn class_09_two_lengths_are_refused() {
    let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(&format!("{POST}{both}")), Violation::TwoLengths);
    let swapped = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(refused(&format!("{POST}{swapped}")), Violation::TwoLengths);
}

#[test]
fn class_09_repeated_and_odd_lengths_are_refused() {
    for value in [
        "3\r\nContent-Length: 3",
        "3\r\nContent-Length: 4",
        "3, 3",
        "+3",
        "-3",
        "0x3",
        "3 3",
        "",
        "3;",
        "18446744073709551616",
        "\t3",
        "\u{663}",
    ] {
        let head = format!("{POST}Content-Length: {value}\r\n\r\n");
        assert_eq!(refused(&head), Violation::ContentLength, "{value}");
    }
}

#[test]
fn class_09_odd_transfer_encodings_are_refused() {
    for value in [
        "gzip",
        "chunked, chunked",
        "gzip, chunked",
        "identity",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "\tchunked",
        "chunked\t",
        "",
    ] {
        let head = format!("{POST}Transfer-Encoding: {value}\r\n\r\n");
        assert_eq!(refused(&head), Violation::TransferEncoding, "{value}");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        refused(&format!("{POST}{twice}")),
        Violation::TransferEncoding
    );
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(old), Violation::TransferEncoding);
}

#[test]
fn class_09_bare_line_ends_and_folded_lines_are_refused() {
    for head in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let violation = refused(head);
        let expected = [Violation::LineEnd, Violation::RequestLine];
        assert!(expected.contains(&violation), "{head:?}: {violation:?}");
    }
    for line in [
        " folded",
        "\tfolded",
        "Name : x",
        "Na me: x",
        ": x",
        "no colon",
        "N\0me: x",
        "N\u{e4}me: x",
    ] {
        assert_eq!(
            refused(&format!("{POST}{line}\r\n\r\n")),
            Violation::HeaderName,
            "{line}"
        );
    }
    for value in ["a\0b", "a\u{1}b", "a\u{7f}b", "\u{c}a", "a\u{b}"] {
        let head = format!("{POST}X: {value}\r\n\r\n");
        assert_eq!(refused(&head), Violation::ControlCharacter);
    }
}

#[test]
fn class_09_odd_request_lines_are_refused() {
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "G@T / HTTP/1.1",
        "",
    ] {
        let head = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(&head), Violation::RequestLine, "{line:?}");
    }
}

#[test]
fn class_06_one_host_header() {
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), Violation::Host);
    assert_eq!(
        refused("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"),
        Violation::Host
    );
}

#[test]
fn class_09_odd_chunks_are_refused() {
    for chunks in [
        "3;ext=1\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "1000000000000000\r\nabc",
        "g\r\n",
        "00000000000000000003\r\nabc\r\n0\r\n\r\n",
    ] {
        let message = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunks}");
        let violation = refused(&message);
        assert!(
            matches!(violation, Violation::Chunk | Violation::LineEnd),
            "{chunks:?}"
        );
    }
    for trailer in [
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Host: b",
        "Upgrade: x",
    ] {
        let message = format!("{POST}Transfer-Encoding: chunked\r\n\r\n0\r\n{trailer}\r\n\r\n");
        verdict(message.as_bytes()).expect_err(trailer);
    }
}

#[test]
fn class_25_heads_without_end_are_refused() {
    let long = format!("{POST}X: {}", "a".repeat(MAX_HEAD_BYTES));
    assert_eq!(refused(&long), Violation::TooLarge);
    let many = format!("{POST}{}\r\n", "X: a\r\n".repeat(MAX_HEADERS));
    assert_eq!(refused(&many), Violation::TooLarge);
}

#[test]
fn class_09_nothing_may_follow_a_request_for_an_upgrade() {
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let early = format!("{upgrade}GET /admin HTTP/1.1\r\n");
    assert_eq!(refused(&early), Violation::EarlyUpgradeBytes);
    let body = upgrade.replace("Host: a", "Host: a\r\nContent-Length: 1");
    assert_eq!(refused(&body), Violation::Upgrade);
    let post = upgrade.replace("GET", "POST");
    assert_eq!(refused(&post), Violation::Upgrade);

    let mut guard = WireGuard::new();
    guard.inspect(upgrade.as_bytes()).unwrap();
    guard.deny_upgrade();
    guard.inspect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    guard.inspect(upgrade.as_bytes()).unwrap();
    guard.grant_upgrade();
    guard.inspect(b"\x81\x00 anything \n").unwrap();
}

#[test]
fn class_09_nothing_of_a_head_passes_before_all_of_it_is_accepted() {
    let first = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let mut guard = WireGuard::new();
    assert_eq!(guard.inspect(first.as_bytes()), Ok(first.len()));
    let begun = format!("{first}POST / HTTP/1.1\r\nHo");
    assert_eq!(guard.inspect(begun.as_bytes()), Ok(first.len()));
    let rest = "st: a\r\nContent-Length: x\r\n\r\n";
    let refused = guard.inspect(rest.as_bytes()).unwrap_err();
    assert_eq!((refused.accepted, refused.is_head), (0, true));

    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    let refused = WireGuard::new().inspect(format!("{chunked}3;").as_bytes());
    assert_eq!(refused, Ok(chunked.len() + 2));
    let wrong = format!("{chunked}3\r\nabcd");
    let refused = WireGuard::new().inspect(wrong.as_bytes()).unwrap_err();
    assert_eq!(
        (refused.accepted, refused.is_head),
        (wrong.len() - 1, false)
    );
}

/// Fragments of conversations, right and wrong.
fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.0\r\n",
        "Host: a\r\n",
        "Content-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
        "abcd",
        "4\r\n",
        "0\r\n",
        "\n",
        "\r",
        " ",
        ":",
        "X: y\r\n",
        "Upgrade: x\r\n",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn class_09_the_verdict_does_not_depend_on_how_bytes_are_split(
        bytes in conversation(), cuts in prop::collection::vec(1usize..7, 1..12)
    ) {
        let mut guard = WireGuard::new();
        let mut rest = &bytes[..];
        let mut cuts = cuts.iter().cycle();
        let split = loop {
            let Some(cut) = cuts.next().filter(|_| !rest.is_empty()) else { break Ok(()) };
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            if let Err(refused) = guard.inspect(piece) {
                break Err(refused.violation);
            }
        };
        let mut whole = WireGuard::new();
        let at_once = whole.inspect(&bytes).map_err(|refused| refused.violation);
        prop_assert_eq!(split.is_ok(), at_once.is_ok());
        if at_once.is_ok() {
            prop_assert_eq!(guard.place, whole.place);
        }
    }
}
