//! The stream of events: what was, and then what comes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::hub::{Hub, Phase};
use crate::error::{Error, Result};
use crate::serve::store::LoggedEvent;
use crate::serve::submission::SubmissionId;

/// Which events a reader wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Position of the last event that the reader has.
    pub(crate) since: i64,
    pub(crate) submission: Option<SubmissionId>,
    /// Whether to wait for more.
    pub(crate) follow: bool,
}

impl Wanted {
    /// Reads a query string.
    pub(crate) fn parse(query: &str) -> Result<Self> {
        let mut wanted = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let refused = || {
                Error::usage(format!("the query {pair:?} is not valid"))
                    .hint("accepted are since=NUMBER, submission=NUMBER and follow=true|false")
            };
            let (name, value) = pair.split_once('=').ok_or_else(refused)?;
            match name {
                "since" => wanted.since = value.parse().map_err(|_| refused())?,
                "submission" => wanted.submission = Some(value.parse().map_err(|_| refused())?),
                "follow" => wanted.follow = value.parse().map_err(|_| refused())?,
                _ => return Err(refused()),
            }
        }
        Ok(wanted)
    }

    /// The query string of this selection.
    pub(crate) fn to_query(self) -> String {
        let submission = self.submission.map(|id| format!("&submission={id}"));
        let (since, follow) = (self.since, self.follow);
        format!(
            "since={since}&follow={follow}{}",
            submission.unwrap_or_default()
        )
    }
}

/// Sends pages of events as lines of JSON, until there are no more, the reader
/// goes away, or `serve` ends.
pub(super) async fn send(hub: Arc<Hub>, wanted: Wanted, pages: mpsc::Sender<Bytes>) {
    let mut commits = hub.store.commits();
    let mut since = wanted.since;
    loop {
        commits.mark_unchanged();
        let found = match hub.store.events(since, wanted.submission).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("a reader of events is cut off: {}", error.one_line());
                return;
            }
        };
        if let Some(last) = found.last() {
            since = last.seq;
            if pages.send(lines(&found)).await.is_err() {
                return;
            }
            continue;
        }
        if !wanted.follow || hub.has_reached(Phase::Stopped) {
            return;
        }
        tokio::select! {
            changed = commits.changed() => if changed.is_err() {
                return;
            },
            () = pages.closed() => return,
            () = hub.reached(Phase::Stopped) => {}
        }
    }
}

fn lines(events: &[LoggedEvent]) -> Bytes {
    let mut page = Vec::new();
    for event in events {
        // Writing to memory does not fail, and a number or text is valid JSON.
        if serde_json::to_writer(&mut page, event).is_ok() {
            page.push(b'\n');
        }
    }
    page.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_and_nonsense_is_refused() {
        let wanted = Wanted {
            since: 7,
            submission: Some(SubmissionId(3)),
            follow: true,
        };
        assert_eq!(Wanted::parse(&wanted.to_query()).unwrap(), wanted);
        assert_eq!(Wanted::parse("").unwrap(), Wanted::default());
        for bad in ["since", "since=x", "unknown=1", "follow=yes"] {
            Wanted::parse(bad).unwrap_err();
        }
    }
}
