//! Other protocols than HTTP/1.1 in clear text: HTTP/2 and TLS.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{KEY, Proxy, Upstream, block_on, config, config_from};

/// One POST with prior knowledge of HTTP/2.
async fn post_http2(
    address: SocketAddr,
    token: &str,
    count: usize,
) -> Vec<(u16, Collected<Bytes>)> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for number in 0..count {
        let request = Request::post(format!("http://proxy/v1/messages?n={number}"))
            .header("x-api-key", token)
            .body(Full::new(Bytes::from_static(b"{}")))
            .unwrap();
        let mut sender = sender.clone();
        answers.push(tokio::spawn(async move {
            let answer = sender.send_request(request).await.unwrap();
            let status = answer.status().as_u16();
            (status, whole(answer.into_body()).await)
        }));
    }
    let mut whole = Vec::new();
    for answer in answers {
        whole.push(answer.await.unwrap());
    }
    whole
}

#[expect(clippy::disallowed_methods, reason = "a small answer of a test")]
async fn whole(body: hyper::body::Incoming) -> Collected<Bytes> {
    body.collect().await.unwrap()
}

#[test]
fn clients_may_speak_http2_with_prior_knowledge() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let answers = block_on(post_http2(proxy.address(), proxy.session.token(), 10));
    for (status, body) in answers {
        assert_eq!((status, &body.to_bytes()[..]), (200, &b"{\"ok\":true}"[..]));
        assert_eq!(upstream.next().all("x-api-key"), [KEY]);
    }
}

/// HTTP/1 knows no such trailer, so the library that writes it would drop it.
#[test]
fn class_20_a_cookie_in_a_trailer_does_not_reach_the_agent() {
    let upstream = Upstream::start(|_, stream| {
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            1\r\nx\r\n0\r\nx-sum: 7\r\nset-cookie: a=b\r\n\r\n";
        stream.write_all(answer).unwrap();
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let answers = block_on(post_http2(proxy.address(), proxy.session.token(), 1));
    let trailers = answers[0].1.trailers().unwrap();
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    assert_eq!(trailers["x-sum"], "7");
}

#[test]
fn class_01_http2_authenticates_too() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let answers = block_on(post_http2(proxy.address(), "placeholder", 1));
    assert_eq!(answers[0].0, 401);
    upstream.assert_unused();
}

/// A TLS upstream that tells which protocol it was spoken to in, and the file
/// with the root that it is trusted by.
pub(crate) async fn tls_upstream(
    protocols: &[&str],
    folder: &std::path::Path,
) -> (u16, std::path::PathBuf) {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let root = folder.join("root.pem");
    std::fs::write(&root, identity.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
    let certificate = CertificateDer::from(identity.cert.der().to_vec());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tls.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut builder =
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                builder.http2().max_concurrent_streams(TLS_STREAMS);
                let service = service_fn(tell);
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (port, root)
}

/// How many requests at once the TLS upstream takes on one connection.
pub(crate) const TLS_STREAMS: u32 = 16;

/// Asks the TLS upstream to answer at once, and to go on waiting for the body.
pub(crate) const HASTY: &str = "x-hasty";

/// Bytes of the answer to a request with a large body: more than any window.
const LARGE: usize = 16 * 1024 * 1024;

async fn tell(
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let version = request.version();
    let key = request
        .headers()
        .get("x-api-key")
        .is_some_and(|key| key == KEY);
    let host = request.uri().authority().map(ToString::to_string);
    let hosts = request.headers().get_all("host").iter().count();
    if request.headers().contains_key(HASTY) {
        tokio::spawn(async move {
            let _body = request.into_body();
            std::future::pending::<()>().await;
        });
        return Ok(Response::new(Full::default()));
    }
    let length = whole(request.into_body()).await.to_bytes().len();
    if length > 1000 {
        return Ok(Response::new(Full::new(Bytes::from(vec![b'x'; LARGE]))));
    }
    let told = format!(
        "{version:?} key={key} authority={} hosts={hosts} body={length}",
        host.is_some()
    );
    Ok(Response::new(Full::new(Bytes::from(told))))
}

fn ask_over_tls(protocols: &[&str], host: &str) -> (u16, String) {
    ask_with(protocols, host, &[])
}

/// The last of three answers of a TLS upstream, with more in the environment.
fn ask_with(protocols: &[&str], host: &str, more: &[(&str, &str)]) -> (u16, String) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (port, root) = runtime.block_on(tls_upstream(protocols, folder.path()));
    let url = format!("https://{host}:{port}");
    let own = [("ANTHROPIC_API_KEY", KEY), ("ANTHROPIC_BASE_URL", &url)];
    let mut config = config_from(&[&own, more].concat());
    config.extra_roots = vec![root];
    let proxy = Proxy::start(config);
    let mut client = proxy.connect();
    let mut last = (0, String::new());
    for _ in 0..3 {
        let answer = client.send(proxy.post("{}")).answer();
        last = (answer.status, answer.text());
    }
    last
}

/// A proxy for `CONNECT`, as networks have it; it answers with `status`.
fn outgoing_proxy(status: &'static str) -> Upstream {
    Upstream::start(move |request, stream| {
        let target = request.line.split(' ').nth(1).unwrap().to_owned();
        write!(stream, "HTTP/1.1 {status}\r\nx: y\r\n\r\n").unwrap();
        if !status.starts_with("200") {
            return;
        }
        let mut inner = std::net::TcpStream::connect(target).unwrap();
        let (mut back, mut from) = (stream.try_clone().unwrap(), inner.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut back));
        let _ = std::io::copy(stream, &mut inner);
    })
}

#[test]
fn the_networks_own_proxy_is_used_where_it_applies() {
    let network = outgoing_proxy("200 Connection established");
    let url = format!("http://me:secret@{}", network.address);
    let (status, _) = ask_with(&["h2"], "localhost", &[("HTTPS_PROXY", &url)]);
    assert_eq!(status, 200);
    let seen = network.next();
    assert!(seen.line.starts_with("CONNECT localhost:"), "{}", seen.line);
    assert_eq!(seen.get("proxy-authorization"), Some("Basic bWU6c2VjcmV0"));
    assert!(!format!("{seen:?}").contains(KEY));
    network.assert_unused();

    let exempt = [("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "localhost")];
    assert_eq!(ask_with(&["h2"], "localhost", &exempt).0, 200);
    network.assert_unused();

    let all = [("all_proxy", url.as_str())];
    assert_eq!(ask_with(&["h2"], "localhost", &all).0, 200);
    network.next();
}

#[test]
fn a_network_proxy_that_refuses_is_a_502() {
    let network = outgoing_proxy("407 Proxy Authentication Required");
    let url = format!("http://{}", network.address);
    let (status, text) = ask_with(&["h2"], "localhost", &[("HTTPS_PROXY", &url)]);
    assert_eq!(status, 502, "{text}");
}

#[test]
fn a_tls_upstream_is_spoken_to_in_the_protocol_it_prefers() {
    let two = format!(
        "{:?} key=true authority=true hosts=0 body=2",
        Version::HTTP_2
    );
    assert_eq!(ask_over_tls(&["h2", "http/1.1"], "localhost"), (200, two));
    let one = format!(
        "{:?} key=true authority=false hosts=1 body=2",
        Version::HTTP_11
    );
    assert_eq!(ask_over_tls(&["http/1.1"], "localhost"), (200, one));
}

#[test]
fn a_certificate_for_another_name_is_not_accepted() {
    let (status, text) = ask_over_tls(&["http/1.1"], "127.0.0.1");
    assert_eq!(status, 502, "{text}");
}

#[test]
fn class_06_another_routes_host_is_refused() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    let own = upstream.address;
    for (target, host, status) in [
        ("/v1/models".to_owned(), "proxy:3001".to_owned(), 200),
        ("/v1/models".to_owned(), own.to_string(), 200),
        (format!("http://{own}/v1/models"), own.to_string(), 200),
        (
            format!("http://{own}/v1/models"),
            "evil.example".to_owned(),
            421,
        ),
        (
            "http://evil.example/v1/models".to_owned(),
            "evil.example".to_owned(),
            421,
        ),
        (
            "http://evil.example/v1/models".to_owned(),
            own.to_string(),
            421,
        ),
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nx-api-key: {token}\r\n\r\n");
        let answer = proxy.connect().send(request).answer();
        assert_eq!(answer.status, status, "{target} {host}");
    }
}

#[test]
fn class_14_connect_is_refused() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    let request = format!(
        "CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: api.anthropic.com:443\r\n\
         proxy-authorization: Bearer {token}\r\nx-api-key: {token}\r\n\r\n"
    );
    assert_eq!(proxy.connect().send(request).answer().status, 400);
    upstream.assert_unused();
}

#[test]
fn class_21_redirects_are_passed_back_and_not_followed() {
    let other = Upstream::answering();
    let location = format!("{}/elsewhere", other.url());
    let sent = location.clone();
    let upstream = Upstream::start(move |_, stream| {
        write!(
            stream,
            "HTTP/1.1 307 X\r\nlocation: {sent}\r\ncontent-length: 0\r\n\r\n"
        )
        .unwrap();
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let answer = proxy.connect().send(proxy.post("{}")).answer();
    assert_eq!(
        (answer.status, answer.head.get("location")),
        (307, Some(&*location))
    );
    other.assert_unused();
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::start(|_, stream| {
        let answer = b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
            1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n";
        stream.write_all(answer).unwrap();
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let request = proxy
        .post("{}")
        .replace("host: proxy", "host: proxy\r\nte: trailers");
    let mut client = proxy.connect();
    client.send(request).head();
    let mut rest = vec![0; 6 + 3 + 10 + 2];
    client.reader.read_exact(&mut rest).unwrap();
    assert_eq!(
        String::from_utf8(rest).unwrap(),
        "1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n"
    );
}

#[test]
fn class_11_streams_that_are_reset_at_once_end_the_connection() {
    let upstream = Upstream::start(|_, _| ());
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for number in 0..2000_u32 {
        let stream = (number * 2 + 1).to_be_bytes();
        // GET, http, / by their static numbers; then a reset.
        bytes.extend([0, 0, 3, 1, 5]);
        bytes.extend(stream);
        bytes.extend([0x82, 0x86, 0x84]);
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(stream);
        bytes.extend([0, 0, 0, 8]);
    }
    let _ = client.reader.get_mut().write_all(&bytes);
    let rest = client.rest();
    assert!(is_told_to_go_away(&rest), "{} bytes", rest.len());
    // Others are served as before.
    let answers = block_on(post_http2(proxy.address(), "placeholder", 1));
    assert_eq!(answers[0].0, 401);
}

#[test]
fn class_11_header_lists_are_bounded() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // One header block that never ends.
    bytes.extend([0, 0, 3, 1, 1, 0, 0, 0, 1, 0x82, 0x86, 0x84]);
    let field = [&[0, 1, b'a', 100][..], &[b'b'; 100]].concat();
    for _ in 0..2000 {
        bytes.extend([0, 0, 104, 9, 0, 0, 0, 0, 1]);
        bytes.extend(&field);
    }
    let _ = client.reader.get_mut().write_all(&bytes);
    let rest = client.rest();
    assert!(is_told_to_go_away(&rest), "{} bytes", rest.len());
    upstream.assert_unused();
}

/// Whether frames of HTTP/2 have a GOAWAY among them, or the connection was
/// reset before it could be read.
fn is_told_to_go_away(mut frames: &[u8]) -> bool {
    if frames.is_empty() {
        return true;
    }
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        if *kind == 7 {
            return true;
        }
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        frames = rest.get(length..).unwrap_or_default();
    }
    false
}
