use http::HeaderValue;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn read(mut meter: UsageMeter, text: &str) -> Option<Usage> {
    meter.observe(text.as_bytes());
    meter.usage()
}

fn document(text: &str) -> Option<Usage> {
    read(UsageMeter::document(), text)
}

fn events(text: &str) -> Option<Usage> {
    read(UsageMeter::event_stream(), text)
}

/// Input, output, cache read, cache write.
const fn usage(input: u64, output: u64, cache_read: u64, cache_write: u64) -> Usage {
    let is_estimate = false;
    Usage {
        input,
        output,
        cache_read,
        cache_write,
        is_estimate,
    }
}

const ANTHROPIC_STREAM: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"m","role":"assistant","content":[],"usage":{"input_tokens":12,"cache_creation_input_tokens":300,"cache_read_input_tokens":4000,"cache_creation":{"ephemeral_5m_input_tokens":300,"output_tokens":9},"output_tokens":1,"service_tier":"standard"}}}"#,
    "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"{\"usage\":{\"output_tokens\":99}} \\"}}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":57}}"#,
    "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[test]
fn anthropic_stream() {
    assert_eq!(events(ANTHROPIC_STREAM), Some(usage(12, 57, 4000, 300)));
    let crlf = ANTHROPIC_STREAM.replace('\n', "\r\n");
    assert_eq!(events(&crlf), Some(usage(12, 57, 4000, 300)));
    let cr = ANTHROPIC_STREAM.replace('\n', "\r");
    assert_eq!(events(&cr), Some(usage(12, 57, 4000, 300)));
}

#[test]
fn anthropic_document() {
    let text = r#"{"id":"m","content":[{"type":"tool_use","input":{"usage":{"input_tokens":1000000}}}],
        "usage" : { "input_tokens" : 25 , "output_tokens":13.0, "cache_read_input_tokens":null } }"#;
    assert_eq!(document(text), Some(usage(25, 13, 0, 0)));
}

#[test]
fn openai_chat() {
    let text = r#"{"choices":[{"message":{"content":"hi","usage":{"prompt_tokens":7777}}}],"usage":{"prompt_tokens":100,
        "completion_tokens":20,"total_tokens":120,"prompt_tokens_details":{"cached_tokens":64,"audio_tokens":0},
        "completion_tokens_details":{"reasoning_tokens":5,"cached_tokens":99}}}"#;
    assert_eq!(document(text), Some(usage(36, 20, 64, 0)));
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    assert_eq!(events(stream), Some(usage(9, 2, 0, 0)));
}

#[test]
fn openai_responses() {
    let body = r#"{"id":"r","output":[],"usage":{"input_tokens":81,"input_tokens_details":{"cached_tokens":80},"output_tokens":1035}}"#;
    assert_eq!(document(body), Some(usage(1, 1035, 80, 0)));
    let stream = format!(
        "event: response.created\ndata: {{\"response\":{{\"usage\":null}}}}\n\n\
         event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{body}}}\n\n"
    );
    assert_eq!(events(&stream), Some(usage(1, 1035, 80, 0)));
}

#[test]
fn gemini() {
    let chunk = |count: u64| {
        format!(
            r#"{{"candidates":[],"usageMetadata":{{"promptTokenCount":10,"candidatesTokenCount":{count},
            "thoughtsTokenCount":30,"cachedContentTokenCount":4}}}}"#
        )
    };
    let expected = Some(usage(6, 35, 4, 0));
    assert_eq!(document(&chunk(5)), expected);
    assert_eq!(
        document(&format!("[{},\n{}]", chunk(2), chunk(5))),
        expected
    );
}

#[test]
fn a_stream_that_is_aborted_counts_its_events() {
    let cut = ANTHROPIC_STREAM.find("event: message_delta").unwrap();
    let expected = Usage {
        is_estimate: true,
        ..usage(12, 3, 4000, 300)
    };
    assert_eq!(events(&ANTHROPIC_STREAM[..cut]), Some(expected));
}

#[test]
fn numbers_that_are_no_counts_count_nothing() {
    for number in [
        "-5",
        "1e9",
        "1E2",
        "\"7\"",
        "true",
        "[5]",
        "{\"input_tokens\":5}",
    ] {
        let text = format!(r#"{{"usage":{{"input_tokens":{number},"output_tokens":3}}}}"#);
        assert_eq!(document(&text), Some(usage(0, 3, 0, 0)), "{number}");
    }
    let text = r#"{"usage":{"input_tokens":99999999999999999999999}}"#;
    assert_eq!(document(text), Some(usage(u64::MAX, 0, 0, 0)));
}

#[test]
fn depth_hides_nothing_that_follows() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(r#"{{"content":{deep},"usage":{{"output_tokens":3}}}}"#);
    assert_eq!(document(&text), Some(usage(0, 3, 0, 0)));
}

#[test]
fn the_media_type_decides() {
    let meter = |media_type| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        UsageMeter::for_answer(&headers).map(|meter| matches!(meter.reader, Reader::Events(_)))
    };
    assert_eq!(meter("text/event-stream; charset=utf-8"), Some(true));
    assert_eq!(meter("Application/JSON"), Some(false));
    assert_eq!(meter("application/octet-stream"), None);
    assert!(UsageMeter::for_answer(&HeaderMap::new()).is_none());
}

/// Pieces of answers, whole and broken.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(ANTHROPIC_STREAM.as_bytes().to_vec()),
        (0..ANTHROPIC_STREAM.len()).prop_map(|end| ANTHROPIC_STREAM.as_bytes()[..end].to_vec()),
        Just(br#"data: {"usage":{"output_tokens":5"#.to_vec()),
        Just(br#"{"response":{"usage":{"input_tokens":70,"#.to_vec()),
        vec(
            prop::sample::select(&b"\r\n\"\\{}[],:da-1.e\xff"[..]),
            0..12
        ),
        vec(any::<u8>(), 0..20),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_anything_gives_the_same_counts(
        input in pieces(),
        lengths in vec(1_usize..50, 1..6),
    ) {
        for new in [UsageMeter::document, UsageMeter::event_stream] {
            let mut whole = new();
            whole.observe(&input);
            let mut split = new();
            let mut rest = &input[..];
            for length in lengths.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, next) = rest.split_at((*length).min(rest.len()));
                split.observe(piece);
                rest = next;
            }
            prop_assert_eq!(split.usage(), whole.usage());
        }
    }

    /// Against a parser that reads the whole document.
    #[test]
    fn any_document_gives_what_a_full_parser_finds(
        input in 0_u64..1_000_000,
        output in 0_u64..1_000_000,
        text in any::<String>(),
        key in any::<String>(),
        pretty in any::<bool>(),
    ) {
        let value = serde_json::json!({
            key.clone(): [text, {"usage": {"input_tokens": 1_u64 << 40, key: "]}"}}],
            "usage": {"input_tokens": input, "output_tokens": output},
        });
        let text = if pretty {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        let expected = |name: &str| value["usage"][name].as_u64().unwrap_or_default();
        let expected = usage(expected("input_tokens"), expected("output_tokens"), 0, 0);
        prop_assert_eq!(document(&text), Some(expected));
    }
}
