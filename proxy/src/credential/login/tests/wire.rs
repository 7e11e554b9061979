//! The connection to a token endpoint: encrypted, or on loopback.

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::EndpointUrl;
use super::*;
use crate::upstream::InvalidUpstream;
use crate::upstream::connect::Connector;

#[test]
fn class_26_clear_text_is_accepted_on_loopback_only() {
    let parse = |url: &str| EndpointUrl::parse(url).map(|url| url.to_string());
    let refused = |url: &str| parse(url).unwrap_err();
    assert_eq!(
        parse("https://issuer.example/token?a=b").unwrap(),
        "issuer.example"
    );
    assert_eq!(parse("http://127.0.0.1:81/token").unwrap(), "127.0.0.1:81");
    assert!(parse("http://[::1]/token").is_ok());
    let clear = [
        "http://issuer.example/",
        "http://127.0.0.1.issuer.example/",
        "http://0x7f.1/",
    ];
    for url in clear {
        assert!(EndpointUrl::parse(url).is_err(), "{url}");
    }
    assert!(matches!(
        refused("http://issuer.example/"),
        InvalidUpstream::ClearText(_)
    ));
    assert!(matches!(
        refused("https://me@issuer.example/"),
        InvalidUpstream::NotAUrl(_)
    ));
    assert!(matches!(
        refused("ftp://issuer.example/"),
        InvalidUpstream::NotAUrl(_)
    ));
    assert!(matches!(refused("/token"), InvalidUpstream::NotAUrl(_)));
}

#[tokio::test]
async fn tokens_are_renewed_over_tls_and_a_stranger_certificate_gets_none() {
    let pair = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let certificate = pair.cert.der().clone();
    let received = tokio::spawn(serve(listener, pair));

    let source = CredentialSource::ClaudeLogin {
        path: None,
        token_endpoint: Some(format!("https://localhost:{port}/v1/oauth/token")),
    };
    let login = Login::ending_in(-2_000_000_000 + 300, Issuer::new());
    let environment = Environment::new([("HOME", login.folder.path().to_str().unwrap())], "/");
    let open = async |roots| {
        let keepers = tokio::runtime::Handle::current();
        let credentials = Credentials::new(environment.clone(), keepers).reaching(Connector::new(
            &Arc::new(trusting(roots)),
            Duration::from_secs(10),
        ));
        opened(&credentials, &source).await
    };
    let stranger = open(RootCertStore::empty()).await;
    assert!(matches!(
        stranger.problem().unwrap().reason(),
        Reason::Outage { .. }
    ));
    drop(stranger);

    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let credential = open(roots).await;
    assert_eq!(credential.current().await.unwrap(), access(1));
    let request = received.await.unwrap();
    assert!(
        request.starts_with("POST /v1/oauth/token HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains(&format!("host: localhost:{port}\r\n")),
        "{request}"
    );
    // The issuer gave no new refresh token, so the old one stays.
    assert_eq!(
        login.saved()["claudeAiOauth"]["refreshToken"],
        "CANARY-refresh-0"
    );
}

/// Answers one request, after one client that does not trust the certificate
/// and so sends nothing. Returns the request.
async fn serve(listener: TcpListener, pair: CertifiedKey<KeyPair>) -> String {
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let stranger = acceptor.accept(listener.accept().await.unwrap().0).await;
    assert!(stranger.is_err());
    let mut stream = acceptor
        .accept(listener.accept().await.unwrap().0)
        .await
        .unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        stream.read_buf(&mut request).await.unwrap();
    }
    let answer = r#"{"access_token":"CANARY-access-1","expires_in":3600}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    stream.write_all((head + answer).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(request).unwrap()
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
