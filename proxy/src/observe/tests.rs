use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Method, StatusCode, Uri};
use tracing_subscriber::fmt::MakeWriter;

use super::audit::{AuditLog, verify};
use super::metrics::Metrics;
use super::*;
use crate::policy::Fsync;
use crate::usage::Usage;

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

struct LogWriter<'a>(MutexGuard<'a, Vec<u8>>);

impl Write for LogWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = LogWriter<'a>;

    fn make_writer(&'a self) -> LogWriter<'a> {
        LogWriter(self.0.lock().unwrap())
    }
}

impl Log {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.0.lock().unwrap()).unwrap()
    }
}

fn logged(work: impl FnOnce(&Telemetry)) -> (serde_json::Value, String) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .without_time()
        .with_writer(log.clone())
        .finish();
    let telemetry = Telemetry::new(Arc::new(Metrics::default()), None);
    tracing::subscriber::with_default(subscriber, || work(&telemetry));
    (log.json(), telemetry.metrics().render())
}

const URI: &str = "/v1/messages?key=sk-ant-fake-CANARY-0123456789";

fn begin(telemetry: &Telemetry) -> Completion {
    telemetry
        .begin(&Method::POST, &Uri::from_static(URI))
        .unwrap()
}

#[test]
fn a_request_is_reported_once_with_all_there_is_to_say() {
    let (line, metrics) = logged(|telemetry| {
        let mut completion = begin(telemetry);
        completion.route(&telemetry.metrics().route("anthropic"));
        completion.session("0123456789abcdef".into());
        completion.bytes_in().clone().add(1000);
        completion.head(StatusCode::OK);
        completion.add_bytes_out(20);
        completion.add_bytes_out(3);
        completion.usage(Some(Usage {
            input: 5,
            output: 7,
            cache_read: 100,
            cache_write: 20,
            is_estimate: false,
        }));
        completion.done();
    });
    assert_eq!(line["route"], "anthropic");
    assert_eq!(line["session"], "0123456789abcdef");
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/v1/messages");
    assert_eq!(line["status"], 200);
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&1000.into(), &23.into())
    );
    assert_eq!(
        (&line["input_tokens"], &line["output_tokens"]),
        (&125.into(), &7.into())
    );
    assert_eq!(line["outcome"], "done");
    assert!(line["duration_ms"].as_f64() >= line["first_byte_ms"].as_f64());
    for expected in [
        r#"drawbridge_proxy_requests_total{route="anthropic",status="2xx",outcome="done"} 1"#,
        r#"drawbridge_proxy_requests_in_flight{route="anthropic"} 0"#,
        r#"drawbridge_proxy_requests_in_flight{route="-"} 0"#,
        r#"drawbridge_proxy_body_bytes_total{route="anthropic",direction="out"} 23"#,
        r#"drawbridge_proxy_tokens_total{route="anthropic",kind="cache_read"} 100"#,
        r#"drawbridge_proxy_duration_seconds_count{route="anthropic"} 1"#,
    ] {
        assert!(
            metrics.contains(expected),
            "{expected} is not in\n{metrics}"
        );
    }
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn a_request_that_is_dropped_was_cancelled() {
    let (line, metrics) = logged(|telemetry| drop(begin(telemetry)));
    assert_eq!(line["outcome"], "cancelled");
    assert_eq!(line["route"], "-");
    assert!(line.get("status").is_none());
    let expected = r#"requests_total{route="-",status="none",outcome="cancelled"} 1"#;
    assert!(metrics.contains(expected), "{metrics}");
}

#[test]
fn a_request_that_failed_says_why() {
    let (line, _) = logged(|telemetry| {
        let mut completion = begin(telemetry);
        completion.head(StatusCode::UNAUTHORIZED);
        completion.failed("unauthenticated");
    });
    assert_eq!(
        (&line["outcome"], &line["reason"]),
        (&"error".into(), &"unauthenticated".into())
    );
}

#[test]
fn attack_22_no_secret_of_a_query_is_in_any_record() {
    let (line, metrics) = logged(|telemetry| begin(telemetry).done());
    assert!(!line.to_string().contains("CANARY"));
    assert!(!metrics.contains("CANARY"));
}

#[test]
fn a_request_in_flight_is_counted() {
    let telemetry = Telemetry::new(Arc::new(Metrics::default()), None);
    let mut completion = begin(&telemetry);
    completion.route(&telemetry.metrics().route("openai"));
    let metrics = telemetry.metrics().render();
    assert!(
        metrics.contains(r#"requests_in_flight{route="openai"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"requests_in_flight{route="-"} 0"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_an_audit_record_there_is_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = AuditLog::open(path.clone(), Fsync::Always).unwrap();
    let telemetry = Telemetry::new(Arc::default(), Some(audit.clone()));
    begin(&telemetry).done();
    audit.close(Duration::from_secs(10)).await.unwrap();
    assert!(
        telemetry
            .begin(&Method::GET, &Uri::from_static("/"))
            .is_err()
    );
    assert_eq!(
        verify(std::slice::from_ref(&path), None).unwrap().records,
        3
    );
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(
        r#""event":{"kind":"request","route":"-","method":"POST","path":"/v1/messages","#
    ));
    assert!(!text.contains("CANARY"));
}
