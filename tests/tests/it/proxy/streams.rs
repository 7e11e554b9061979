//! Event streams: passed on as they come, and ended when either side ends.

use drawbridge_testkit::client::{Client, request};
use drawbridge_testkit::{Gate, Upstream};
use rustix::process::Signal;
use serde_json::json;

use super::{PLACEHOLDER, Proxy};

#[test]
fn an_event_stream_is_passed_event_by_event() {
    let gates = [Gate::new(), Gate::new()];
    let held = gates.clone();
    let upstream = Upstream::start(move |_, exchange| {
        exchange.begin(200, &[("content-type", "text/event-stream")])?;
        for (number, gate) in held.iter().enumerate() {
            exchange.event(&json!({ "type": "ping", "n": number }))?;
            gate.pass();
        }
        exchange.end()
    });
    let proxy = Proxy::with_key(&upstream);
    let mut client = Client::connect(proxy.address);
    client.send(&request(
        proxy.address,
        "POST",
        "/v1/messages",
        PLACEHOLDER,
        "{}",
    ));
    for (number, gate) in gates.iter().enumerate() {
        client.read_until(&format!(r#""n":{number}"#)).unwrap();
        gate.open();
    }
    client.read_until("\r\n0\r\n\r\n").unwrap();
}

#[test]
fn a_client_that_leaves_ends_the_request_to_the_upstream() {
    let gone = Gate::new();
    let noticed = gone.clone();
    let upstream = Upstream::start(move |_, exchange| {
        exchange.begin(200, &[("content-type", "text/event-stream")])?;
        exchange.event(&json!({ "type": "ping" }))?;
        exchange.wait_until_client_leaves();
        noticed.open();
        Ok(())
    });
    let proxy = Proxy::with_key(&upstream);
    let mut client = Client::connect(proxy.address);
    client.send(&request(
        proxy.address,
        "POST",
        "/v1/messages",
        PLACEHOLDER,
        "{}",
    ));
    client.read_until("ping").unwrap();
    drop(client);
    gone.pass();
}

/// Half an answer must never look like a whole one.
#[test]
fn an_upstream_that_breaks_a_stream_breaks_it_for_the_client_too() {
    let upstream = Upstream::start(|_, exchange| {
        exchange.begin(200, &[("content-type", "text/event-stream")])?;
        exchange.event(&json!({ "type": "ping" }))?;
        exchange.raw("ff\r\nhalf a chunk")?;
        exchange.close();
        Ok(())
    });
    let proxy = Proxy::with_key(&upstream);
    let mut client = Client::connect(proxy.address);
    client.send(&request(
        proxy.address,
        "POST",
        "/v1/messages",
        PLACEHOLDER,
        "{}",
    ));
    client.read_until("ping").unwrap();
    client.read_until("\r\n0\r\n\r\n").unwrap_err();
}

#[test]
fn a_stream_in_flight_is_finished_before_the_proxy_ends() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, exchange| {
        exchange.begin(200, &[("content-type", "text/event-stream")])?;
        exchange.event(&json!({ "type": "ping" }))?;
        held.pass();
        exchange.event(&json!({ "type": "pong" }))?;
        exchange.end()
    });
    let mut proxy = Proxy::with_key(&upstream);
    let mut client = Client::connect(proxy.address);
    client.send(&request(
        proxy.address,
        "POST",
        "/v1/messages",
        PLACEHOLDER,
        "{}",
    ));
    client.read_until("ping").unwrap();
    proxy.program.signal(Signal::TERM);
    drawbridge_testkit::eventually("the port to be closed", || {
        std::net::TcpStream::connect(proxy.address)
            .is_err()
            .then_some(())
    });
    gate.open();
    client.read_until("pong").unwrap();
    client.read_until("\r\n0\r\n\r\n").unwrap();
    assert_eq!(proxy.program.wait().code, 0);
}
