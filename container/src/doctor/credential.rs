//! The check that the upstream accepts the credential. This is the doctor's only
//! request that leaves the machine, so it is made only when asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use drawbridge_io::http::Client;
use drawbridge_proxy::ProxyHandle;
use drawbridge_proxy::config::ProxyConfig;
use drawbridge_proxy::session::{SessionSpec, Transport};
use drawbridge_shared::ids::RunId;
use http_body_util::Full;
use hyper::Request;
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
    let stream = TcpStream::connect(address).await.context(failed)?;
    let request = Request::get("/v1/models?limit=1")
        .header("host", address.to_string())
        .header("connection", "close")
        .header("anthropic-version", "2023-06-01")
        .header("x-api-key", session.token())
        .body(Full::default())
        .context(failed)?;
    // The head says it all; the list of models is not read.
    let mut client = Client::new(stream).await.context(failed)?;
    let response = client.send(request).await.context(failed)?;
    Ok(response.status().as_u16())
}
