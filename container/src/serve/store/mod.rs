//! The durable queue and event log, in SQLite.
//!
//! One thread owns the database. What is asked of it at the same time is done
//! in one transaction, so that many callers share one wait for the disk; an
//! answer comes after the commit. What was answered survives a loss of power.

mod columns;
mod dead_letters;
mod events;
mod follow_ups;
mod schema;
mod submissions;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};

pub(crate) use dead_letters::DeadLetter;
pub(crate) use events::LoggedEvent;
pub(crate) use follow_ups::WaitingFollowUp;
use schema::explain;
pub(crate) use schema::now_ms;
pub(crate) use submissions::{Ending, Filter, Interrupted, Summary, Waiting};

/// Requests that may wait for the thread; later callers wait to ask.
const WAITING_JOBS: usize = 256;
/// Most requests of one transaction.
const BATCH: usize = 128;

/// Result for a caller; the callers of one transaction share its failure.
type Outcome<T> = std::result::Result<T, Arc<rusqlite::Error>>;

/// The open database; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    path: PathBuf,
    jobs: mpsc::Sender<Order>,
    commits: watch::Receiver<u64>,
}

impl Store {
    /// Opens the database, and makes it if it is not there.
    ///
    /// # Errors
    /// It cannot be read or written, it is of a later version, or it is damaged
    /// and was set aside.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = schema::open(path)?;
        let (jobs, waiting) = mpsc::channel(WAITING_JOBS);
        let (committed, commits) = watch::channel(0);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let waiting = work(&connection, waiting, &committed);
                // Closing it moves the journal into the file; the channel's end
                // says that this is done.
                drop(connection);
                drop(waiting);
            })
            .map_err(|cause| {
                Error::infrastructure("cannot start the queue's thread").caused_by(cause)
            })?;
        Ok(Self {
            path: path.to_owned(),
            jobs,
            commits,
        })
    }

    /// A receiver that changes with each commit that changes something.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Closes the file, after all that was asked before. Later requests fail.
    pub(crate) async fn close(&self) {
        if self.jobs.send(Order::Close).await.is_ok() {
            self.jobs.closed().await;
        }
    }

    /// Does `work` in a transaction, and answers when it is on disk.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let stopped = || Error::infrastructure("the queue's thread has ended");
        let request = Request {
            work: Some(work),
            outcome: None,
            answer,
        };
        let job: Box<dyn Job> = Box::new(request);
        self.jobs
            .send(Order::Do(job))
            .await
            .map_err(|_| stopped())?;
        let outcome = answered.await.map_err(|_| stopped())?;
        outcome.map_err(|cause| explain(&self.path, cause))
    }
}

/// A command to the thread.
enum Order {
    Do(Box<dyn Job>),
    Close,
}

/// Work on the database that somebody waits for.
trait Job: Send {
    /// Does it in a savepoint of its own; an error undoes it.
    fn run(&mut self, connection: &Connection) -> Option<Arc<rusqlite::Error>>;
    /// Tells the caller, once it is known whether the transaction is on disk.
    fn complete(self: Box<Self>, failed: Option<Arc<rusqlite::Error>>);
}

struct Request<T, W> {
    work: Option<W>,
    outcome: Option<Outcome<T>>,
    answer: oneshot::Sender<Outcome<T>>,
}

impl<T, W> Job for Request<T, W>
where
    T: Send,
    W: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> Option<Arc<rusqlite::Error>> {
        let outcome = self.work.take()?(connection).map_err(Arc::new);
        let failed = outcome.as_ref().err().cloned();
        self.outcome = Some(outcome);
        failed
    }

    fn complete(self: Box<Self>, failed: Option<Arc<rusqlite::Error>>) {
        let outcome = match (failed, self.outcome) {
            (_, Some(Err(error))) | (Some(error), _) => Err(error),
            (None, Some(done)) => done,
            // Without a failure every request of a batch was run.
            (None, None) => return,
        };
        // A caller that has gone away wants no answer.
        let _ = self.answer.send(outcome);
    }
}

/// The thread's work: batches of requests until it is told to close, or nobody
/// can ask any more.
fn work(
    connection: &Connection,
    mut orders: mpsc::Receiver<Order>,
    committed: &watch::Sender<u64>,
) -> mpsc::Receiver<Order> {
    let mut is_open = true;
    while is_open && let Some(Order::Do(first)) = orders.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(order) = orders.try_recv()
        {
            match order {
                Order::Do(job) => batch.push(job),
                Order::Close => {
                    is_open = false;
                    break;
                }
            }
        }
        let failed = transact(connection, &mut batch).err();
        if failed.is_some() && !connection.is_autocommit() {
            // Nothing of a transaction that failed may be left.
            let _ = connection.execute_batch("ROLLBACK");
        }
        for job in batch {
            job.complete(failed.clone());
        }
        // Reading changes nothing, and must not wake who waits for a change.
        let changes = connection.total_changes();
        committed.send_if_modified(|seen| std::mem::replace(seen, changes) != changes);
    }
    orders
}

fn transact(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Outcome<()> {
    let run = |sql| connection.execute_batch(sql).map_err(Arc::new);
    run("BEGIN IMMEDIATE")?;
    for job in batch {
        run("SAVEPOINT job")?;
        if let Some(error) = job.run(connection) {
            // A full disk or a broken file ends the whole transaction.
            if connection.is_autocommit() {
                return Err(error);
            }
            run("ROLLBACK TO job")?;
        }
        run("RELEASE job")?;
    }
    run("COMMIT")
}

#[cfg(test)]
mod tests;
