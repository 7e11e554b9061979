use proptest::prelude::*;

use super::*;

const STREAM: &str = concat!(
    "event: message_start\r\n",
    "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":2,\"output_tokens\":1}}}\r\n\r\n",
    ": a comment\n",
    "data: {\"type\":\"ping\"}\n\n",
    "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"gr\\ud800ü\"}}\n\n",
    "data:{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"ße\"}}\n\n",
    "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"bash\",\"input\":{}}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"command\\\":\"}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\\\"ls\\\"}\"}}\n\n",
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":9}}\n\n",
    "data: {\"type\":\"message_stop\"}\n\n",
);

fn read(pieces: &[&[u8]]) -> Result<Reply, ReplyError> {
    let mut reader = ReplyReader::default();
    for piece in pieces {
        reader.feed(piece)?;
    }
    reader.finish()
}

#[test]
fn a_stream_becomes_a_reply() {
    let reply = read(&[STREAM.as_bytes()]).unwrap();
    assert_eq!(reply.text().as_deref(), Some("gr\u{fffd}üße"));
    let call = &reply.tool_calls()[0];
    assert_eq!((call.id.as_str(), call.name.as_str()), ("a", "bash"));
    assert_eq!(call.input, Some(json!({"command": "ls"})));
    assert_eq!(reply.stop_reason.as_deref(), Some("tool_use"));
    assert_eq!(
        (reply.usage.input_tokens, reply.usage.output_tokens),
        (3, 9)
    );
    assert_eq!(reply.usage.cache_read_tokens, 2);
}

#[test]
fn a_stream_that_stops_early_is_no_reply() {
    let cut = STREAM.len() - 5;
    assert!(matches!(
        read(&[&STREAM.as_bytes()[..cut]]),
        Err(ReplyError::Cut)
    ));
}

#[test]
fn an_error_event_is_an_error() {
    let stream = b"data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let Err(ReplyError::Api { kind, message }) = read(&[stream]) else {
        panic!("no error");
    };
    assert_eq!(
        (kind.as_str(), message.as_str()),
        ("overloaded_error", "busy")
    );
}

#[test]
fn a_call_whose_input_was_cut_is_marked() {
    let stream = STREAM.replace("\\\"ls\\\"}", "\\\"l");
    let reply = read(&[stream.as_bytes()]).unwrap();
    assert_eq!(reply.tool_calls()[0].input, None);
    assert_eq!(reply.content[1]["input"], json!({}));
}

#[test]
fn an_endless_reply_is_refused() {
    let mut reader = ReplyReader::default();
    let piece = vec![b'x'; 1024 * 1024];
    let refused = (0..64).find_map(|_| reader.feed(&piece).err());
    assert!(matches!(refused, Some(ReplyError::TooLarge)));
}

proptest! {
    #[test]
    fn the_pieces_do_not_matter(mut cuts in proptest::collection::vec(0..STREAM.len(), 0..20)) {
        cuts.extend([0, STREAM.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|w| &STREAM.as_bytes()[w[0]..w[1]]).collect();
        prop_assert_eq!(read(&pieces).unwrap(), read(&[STREAM.as_bytes()]).unwrap());
    }
}
