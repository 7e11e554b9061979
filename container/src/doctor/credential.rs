//! Whether the upstream accepts the credential. This is the doctor's only
//! request that leaves the machine, so it is made only when asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use drawbridge_proxy::ProxyHandle;
use drawbridge_proxy::config::ProxyConfig;
use drawbridge_proxy::session::{SessionSpec, Transport};
use drawbridge_shared::ids::RunId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::check::Check;
use crate::error::{Context, Error, Result};

const NAME: &str = "upstream";
/// A slow network, a slow TLS handshake and a slow answer together.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks the upstream for its models, through a proxy like that of a run.
pub(super) async fn try_out(config: ProxyConfig) -> Check {
    let refused = |message: String, hint: &str| {
        Check::fail(NAME, &Error::not_started(message).hint(hint.to_owned()))
    };
    let asked = timeout(DEADLINE, ask(config)).await;
    match asked {
        Ok(Ok(200..300)) => Check::pass(NAME, "accepts the credential"),
        Ok(Ok(401 | 403)) => refused(
            "refuses the credential".to_owned(),
            "it may be revoked, expired or for another upstream; renew it",
        ),
        Ok(Ok(status)) => refused(
            format!("answers {status}"),
            "ANTHROPIC_BASE_URL may be wrong, or the upstream is in trouble",
        ),
        Ok(Err(error)) => Check::fail(NAME, &error),
        Err(_) => refused(
            format!("does not answer within {} s", DEADLINE.as_secs()),
            "look at the network and at ANTHROPIC_BASE_URL",
        ),
    }
}

async fn ask(config: ProxyConfig) -> Result<u16> {
    let failed = || Error::infrastructure("the proxy cannot be asked");
    let proxy = ProxyHandle::start(config).context(failed)?;
    let listener = proxy
        .listen_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .context(failed)?;
    let mut spec = SessionSpec::new(RunId::random().context(failed)?, DEADLINE);
    spec.transport = Transport::Listener(listener.id());
    let session = proxy.sessions().issue(spec).context(failed)?;
    let address = listener.local_addr().ok_or_else(failed)?;
    let mut stream = TcpStream::connect(address).await.context(failed)?;
    let request = format!(
        "GET /v1/models?limit=1 HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         anthropic-version: 2023-06-01\r\nx-api-key: {}\r\n\r\n",
        session.token()
    );
    stream.write_all(request.as_bytes()).await.context(failed)?;
    // "HTTP/1.1 200"
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.context(failed)?;
    let status = std::str::from_utf8(&head[9..]).ok();
    status.and_then(|s| s.parse().ok()).ok_or_else(failed)
}
