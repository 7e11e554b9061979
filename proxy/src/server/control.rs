//! The thread beside the workers, on which credentials are kept up to date.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::ProxyConfig;
use crate::metrics::Metrics;
use crate::table::RouteTable;

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    _alive: oneshot::Sender<()>,
}

/// Starts the thread and opens all credentials on it.
pub(crate) fn start(
    config: ProxyConfig,
    metrics: Arc<Metrics>,
) -> io::Result<(Control, RouteTable)> {
    let (alive, ended) = oneshot::channel();
    let (report, started) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("proxy-control".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(error))),
            };
            runtime.block_on(async move {
                let table = config.open(&metrics).await;
                let _ = report.send(Ok(table));
                let _ = ended.await;
            });
            runtime.shutdown_background();
        })?;
    let table = started.recv().map_err(io::Error::other)??;
    Ok((Control { _alive: alive }, table))
}
