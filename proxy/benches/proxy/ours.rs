//! The proxy under test, in a process of its own.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use drawbridge_proxy::ProxyHandle;
use drawbridge_proxy::config::ProxyConfig;
use drawbridge_proxy::session::SessionSpec;
use drawbridge_settings::Environment;

/// First argument of this program when it is to be the proxy.
pub(crate) const FLAG: &str = "--be-the-proxy";

/// Runs the proxy until standard input ends. The upstream's URL and the key
/// come in the environment, as for `credential-proxy`; `arguments` are the
/// files of extra roots.
#[expect(
    clippy::disallowed_methods,
    reason = "the bench reads its address from there"
)]
pub(crate) fn serve(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let environment = Environment::observe()?;
    let mut config = ProxyConfig::resolve(None, &environment)?;
    config.workers = NonZeroUsize::MIN;
    config.extra_roots = arguments.map(PathBuf::from).collect();
    let proxy = ProxyHandle::start(config)?;
    let guard = proxy.listen_tcp(([127, 0, 0, 1], 0).into())?;
    let address = guard.local_addr().context("the listener has no address")?;
    let run = "bench-12345678".parse()?;
    let session = proxy
        .sessions()
        .issue(SessionSpec::new(run, Duration::from_secs(24 * 3600)))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{address} {}", session.token())?;
    stdout.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
