//! The upstream that all proxies share: a minimal HTTP/1.1 server, much faster
//! than any of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::http::{Head, Reader};

/// Body of a small answer: about what `count_tokens` or a short message has.
pub(crate) const SMALL_ANSWER: usize = 1024;
/// Body of a large answer, and of a large request.
pub(crate) const LARGE_BODY: usize = 32 * 1024 * 1024;
/// Time between two events of a stream: a fast model's pace.
pub(crate) const EVENT_INTERVAL: Duration = Duration::from_millis(50);

/// Addresses of a running upstream.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) clear: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// The certificate of `tls`, which is also its authority, in PEM.
    pub(crate) certificate: String,
}

/// Starts the upstream in a thread of its own, for as long as the bench runs.
pub(crate) fn start() -> anyhow::Result<Upstream> {
    let issued =
        rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let certificate = issued.cert.pem();
    let chain: Vec<CertificateDer<'static>> = vec![issued.cert.der().clone()];
    let key =
        PrivateKeyDer::try_from(issued.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let clear = std::net::TcpListener::bind("127.0.0.1:0")?;
    let tls = std::net::TcpListener::bind("127.0.0.1:0")?;
    clear.set_nonblocking(true)?;
    tls.set_nonblocking(true)?;
    let upstream = Upstream {
        clear: clear.local_addr()?,
        tls: tls.local_addr()?,
        certificate,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("upstream".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                tokio::join!(accept(clear, None), accept(tls, Some(acceptor)))
            })
        })?;
    Ok(upstream)
}

async fn accept(listener: std::net::TcpListener, tls: Option<TlsAcceptor>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let tls = tls.clone();
        tokio::spawn(async move {
            match tls {
                None => serve(stream).await,
                Some(tls) => serve(tls.accept(stream).await?).await,
            }
        });
    }
}

/// Serves one connection. What is asked for stands in the query, because all
/// proxies pass that on unchanged.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut reader = Reader::new(stream);
    while let Some(head) = reader.head().await? {
        let body = reader.skip_body(&head).await?;
        let stream = reader.stream();
        if head.first_line_contains(b"bench=events") {
            send_events(stream, &head).await?;
        } else if head.first_line_contains(b"bench=download") {
            send(stream, LARGE_BODY).await?;
        } else if body > 0 {
            send(stream, SMALL_ANSWER).await?;
        } else {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(())
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), length: usize) -> io::Result<()> {
    static TEXT: [u8; 64 * 1024] = {
        let mut text = [b' '; 64 * 1024];
        let words = b"lorem ipsum dolor sit amet, ";
        let mut at = 0;
        while at < text.len() {
            text[at] = words[at % words.len()];
            at += 1;
        }
        text
    };
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nrequest-id: req_bench\r\ncontent-length: {length}\r\n\r\n"
    )
    .into_bytes();
    let mut left = length;
    let first = left.min(SMALL_ANSWER);
    answer.extend_from_slice(&TEXT[..first]);
    left -= first;
    stream.write_all(&answer).await?;
    while left > 0 {
        let piece = left.min(TEXT.len());
        stream.write_all(&TEXT[..piece]).await?;
        left -= piece;
    }
    stream.flush().await
}

/// Sends events with the time of sending in them until the client goes away.
async fn send_events(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: &Head,
) -> io::Result<()> {
    let _ = head;
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await?;
    let mut ticks = tokio::time::interval(EVENT_INTERVAL);
    let mut gone = [0];
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stream.read(&mut gone) => return Err(io::ErrorKind::ConnectionReset.into()),
        }
        let event = format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\"so it goes\"}},\"sent\":{}}}\n\n",
            clock::now()
        );
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        stream.write_all(chunk.as_bytes()).await?;
        stream.flush().await?;
    }
}
