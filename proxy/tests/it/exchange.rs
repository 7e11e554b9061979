//! Whole exchanges through a running proxy.

use std::io::{Read, Write};

use crate::support::{Client, KEY, Proxy, Upstream, config, config_from, spec};
use drawbridge_proxy::config::ClientAuth;

#[test]
fn a_session_token_is_exchanged_for_the_key() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let more = "host: proxy\r\nauthorization: Bearer mine\r\ncookie: a=b\r\n\
        anthropic-beta: one,two\r\nconnection: x-hop\r\nx-hop: 1\r\n\
        proxy-authorization: Basic eDp5\r\n";
    let request = proxy.post(r#"{"a":1}"#).replace("host: proxy\r\n", more);
    let request = request.replace("/v1/messages", "/v1/messages?beta=true");
    let answer = proxy.connect().send(request).answer();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, r#"{"ok":true}"#)
    );
    let seen = upstream.next();
    assert_eq!(seen.line, "POST /v1/messages?beta=true HTTP/1.1");
    assert_eq!(seen.get("anthropic-beta"), Some("one,two"));
    for stripped in ["authorization", "x-hop", "proxy-authorization"] {
        assert_eq!(seen.get(stripped), None, "{stripped}");
    }
    assert_eq!(seen.all("x-api-key"), [KEY]);
    assert_eq!(
        seen.get("host"),
        Some(upstream.address.to_string().as_str())
    );
    assert_eq!(seen.body, br#"{"a":1}"#);
    assert!(!format!("{:?}{answer:?}", seen).contains(proxy.session.token()));
    assert!(!format!("{answer:?}").contains(KEY));
    assert_eq!(answer.head.get("set-cookie"), None);
}

#[test]
fn class_01_without_a_session_the_upstream_is_not_contacted() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    for header in [
        "x-api-key: placeholder",
        "x-api-key: sk-ant-attackers-own",
        "authorization: Bearer dbs_00000000000000000000",
        "x-api-key: dbs_0000",
        "accept: */*",
    ] {
        let request = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n");
        let answer = proxy.connect().send(request).answer();
        assert_eq!(answer.status, 401, "{header}");
        assert_eq!(answer.head.get("x-should-retry"), Some("false"));
        assert!(
            answer.text().contains("authentication_error"),
            "{}",
            answer.text()
        );
    }
    // Nor in the form for proxies, nor as a WebSocket.
    let absolute = format!("GET {}/v1/models HTTP/1.1\r\n", upstream.url());
    let upgrade = "GET /v1/models HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    for (head, host) in [
        (&*absolute, upstream.address.to_string()),
        (upgrade, "x".to_owned()),
    ] {
        let request = format!("{head}host: {host}\r\nx-api-key: placeholder\r\n\r\n");
        assert_eq!(proxy.connect().send(request).answer().status, 401, "{head}");
    }
    upstream.assert_unused();
}

#[test]
fn a_token_is_accepted_wherever_sdks_put_a_key() {
    use base64::Engine as _;
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("x:{token}"));
    for (query, header) in [
        ("", format!("x-api-key: {token}")),
        ("", format!("authorization: Bearer {token}")),
        ("", format!("authorization: basic {basic}")),
        ("", format!("x-goog-api-key: {token}")),
        (&*format!("?key={token}"), "accept: */*".to_owned()),
    ] {
        let request = format!("GET /v1/models{query} HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n");
        assert_eq!(
            proxy.connect().send(request).answer().status,
            200,
            "{header}"
        );
        let seen = upstream.next();
        assert_eq!(seen.line, "GET /v1/models HTTP/1.1");
        assert_eq!(seen.get("x-api-key"), Some(KEY));
        assert!(!format!("{seen:?}").contains("dbs_"), "{seen:?}");
    }
}

#[test]
fn class_05_the_attackers_own_key_never_arrives() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    let request = format!(
        "GET /v1/models?api_key=attacker&beta=true HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n\
         x-api-key: attacker\r\nauthorization: Bearer attacker\r\ncookie: k=attacker\r\n\r\n"
    );
    assert_eq!(proxy.connect().send(request).answer().status, 200);
    let seen = upstream.next();
    assert_eq!(seen.line, "GET /v1/models?beta=true HTTP/1.1");
    assert_eq!(seen.all("x-api-key"), [KEY]);
    assert!(!format!("{seen:?}").contains("attacker"));
}

#[test]
fn class_10_connection_cannot_name_the_injected_header() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n\
         connection: x-api-key, host, anthropic-version\r\nanthropic-version: 1\r\n\r\n"
    );
    assert_eq!(proxy.connect().send(request).answer().status, 200);
    let seen = upstream.next();
    assert_eq!(seen.all("x-api-key"), [KEY]);
    assert_eq!(seen.get("anthropic-version"), None);
}

#[test]
fn class_05_only_the_model_endpoints_are_open() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    for (line, status) in [
        ("POST /v1/files", 403),
        ("GET /v1/messages", 403),
        ("GET /v1/organizations/api_keys", 403),
        ("POST /v1/oauth/token", 403),
        ("GET /", 403),
        ("GET /v1/../v1/models", 400),
        ("GET /v1/files", 403),
        ("DELETE /v1/messages", 403),
        ("POST /v1/messages/../files", 400),
        ("POST /v1/%6dessages", 403),
        ("POST //v1/messages", 400),
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n\r\n");
        let answer = proxy.connect().send(request).answer();
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.head.get("x-should-retry"), Some("false"));
        assert!(answer.text().contains(r#""type":"error""#), "{line}");
    }
    upstream.assert_unused();
}

#[test]
fn connection_checks_are_answered_without_the_upstream() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    for path in ["/", "/api/hello", "/anthropic/"] {
        let mut client = proxy.connect();
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert_eq!(client.head().status, 200, "{path}");
    }
    upstream.assert_unused();
}

#[test]
fn oauth_replaces_the_bearer_and_adds_the_beta() {
    let upstream = Upstream::answering();
    let variables = [
        ("CLAUDE_CODE_OAUTH_TOKEN", KEY),
        ("ANTHROPIC_BASE_URL", &upstream.url()),
    ];
    let proxy = Proxy::start(config_from(&variables));
    let token = proxy.session.token();
    let request = format!(
        "POST /v1/messages?beta=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         anthropic-beta: a,b\r\ncontent-length: 0\r\n\r\n"
    );
    assert_eq!(proxy.connect().send(request).answer().status, 200);
    let seen = upstream.next();
    assert_eq!(seen.line, "POST /v1/messages?beta=true HTTP/1.1");
    assert_eq!(seen.all("authorization"), [format!("Bearer {KEY}")]);
    assert_eq!(seen.all("anthropic-beta"), ["a,b,oauth-2025-04-20"]);
    assert_eq!(seen.get("x-api-key"), None);
}

#[test]
fn the_base_path_is_kept_and_a_prefix_selects_the_route() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&format!("{}/team/api/", upstream.url())));
    for path in ["/v1/models?a=1", "/anthropic/v1/models?a=1"] {
        let token = proxy.session.token();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n\r\n");
        assert_eq!(proxy.connect().send(request).answer().status, 200);
        assert_eq!(upstream.next().line, "GET /team/api/v1/models?a=1 HTTP/1.1");
    }
}

#[test]
fn class_17_without_a_credential_nothing_is_forwarded() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config_from(&[("ANTHROPIC_BASE_URL", &upstream.url())]));
    let answer = proxy.connect().send(proxy.post("{}")).answer();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.head.get("x-should-retry"), Some("false"));
    upstream.assert_unused();
}

/// What is missing is no permission: an empty list is not "no limit".
#[test]
fn class_17_an_empty_list_allows_nothing() {
    let upstream = Upstream::answering();
    let mut config = config(&upstream.url());
    let mut rules = spec();
    rules.allow = Some(Vec::new());
    let mut routes = spec();
    routes.routes = Some(std::collections::BTreeSet::new());
    for of_route in [false, true] {
        if of_route {
            config.routes[0].allow = Vec::new();
        }
        let proxy = Proxy::start(config.clone());
        for spec in [rules.clone(), routes.clone(), spec()] {
            let narrowed = proxy.handle.sessions().issue(spec.clone()).unwrap();
            let request = proxy
                .post("{}")
                .replace(proxy.session.token(), narrowed.token());
            let is_open = !of_route && spec.allow.is_none() && spec.routes.is_none();
            let status = if is_open { 200 } else { 403 };
            assert_eq!(proxy.connect().send(request).answer().status, status);
        }
    }
    assert_eq!(upstream.seen.try_iter().count(), 1);
}

#[test]
fn placeholder_mode_takes_the_placeholder_and_nothing_else() {
    let upstream = Upstream::answering();
    let mut config = config(&upstream.url());
    config.client_auth = ClientAuth::Placeholder;
    let proxy = Proxy::start(config);
    for (key, status) in [
        ("placeholder", 200),
        ("other", 401),
        (proxy.session.token(), 200),
    ] {
        let request = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n");
        assert_eq!(
            proxy.connect().send(request).answer().status,
            status,
            "{key}"
        );
    }
}

#[test]
fn a_unix_socket_serves_and_its_file_goes_with_the_guard() {
    use std::os::unix::net::UnixStream;
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    // What a killed proxy leaves behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let guard = proxy.handle.listen_unix(&path).unwrap();
    let error = proxy.handle.listen_unix(&path).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    let mut stream = UnixStream::connect(&path).unwrap();
    let request = proxy
        .post("{}")
        .replace("host: proxy", "host: proxy\r\nconnection: close");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(guard);
    assert!(!path.exists());
}

#[test]
fn a_port_in_use_is_named_with_a_hint() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let error = proxy.handle.listen_tcp(proxy.address()).unwrap_err();
    let address = proxy.address().to_string();
    assert!(error.to_string().contains(&address), "{error}");
    assert!(error.hint().unwrap().contains("choose another"));
}

#[test]
fn class_18_an_echoed_key_does_not_reach_the_agent() {
    let upstream = Upstream::start(|request, stream| {
        let key = request.get("x-api-key").unwrap();
        let head =
            format!("HTTP/1.1 200 OK\r\nx-echo: {key}\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        for byte in format!("your key is {key}.").bytes() {
            write!(stream, "1\r\n{}\r\n", char::from(byte)).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let answer = proxy.connect().send(proxy.post("{}")).answer();
    let mask = "*".repeat(KEY.len());
    assert_eq!(answer.head.get("x-echo"), Some(mask.as_str()));
    assert_eq!(answer.text(), format!("your key is {mask}."));
}

#[test]
fn class_18_a_compressed_answer_is_refused() {
    let upstream = Upstream::start(|request, stream| {
        assert_eq!(request.all("accept-encoding"), ["identity"]);
        let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx";
        stream.write_all(head).unwrap();
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let request = proxy
        .post("{}")
        .replace("host: proxy", "host: proxy\r\naccept-encoding: gzip");
    assert_eq!(proxy.connect().send(request).answer().status, 502);
}

#[test]
fn a_body_over_the_sessions_cap_is_refused() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let mut narrow = spec();
    narrow.limits.body_bytes = Some(4);
    let session = proxy.handle.sessions().issue(narrow).unwrap();
    let post = |framing: &str| {
        let token = session.token();
        format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n{framing}")
    };
    let mut client: Client = proxy.connect();
    client.send(post("content-length: 4\r\n\r\nabcd"));
    assert_eq!(client.answer().status, 200);
    client.send(post("content-length: 5\r\n\r\nabcde"));
    assert_eq!(client.answer().status, 413);
    let mut client = proxy.connect();
    client.send(post(
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n",
    ));
    assert_eq!(client.answer().status, 413);
}
