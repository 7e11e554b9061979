//! A bound on connections, in all and from one client, so that one
//! container cannot keep the others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::policy::Limits;
use crate::session::{ListenerId, Origin};

/// Whom connections are counted for: an address, or everybody on one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    Address(IpAddr),
    Socket(ListenerId),
}

/// The connections of all workers.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    limits: Limits,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_client: HashMap<Client, usize>,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    quota: Quota,
    client: Client,
}

impl Quota {
    pub(crate) fn new(limits: Limits) -> Self {
        let open = Arc::default();
        Self { limits, open }
    }

    /// Counts a connection; `None` when there are too many.
    pub(crate) fn count(&self, origin: Origin) -> Option<Counted> {
        let client = match origin.peer {
            Some(address) => Client::Address(address.to_canonical()),
            None => Client::Socket(origin.listener),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = open.by_client.get(&client).copied().unwrap_or(0);
        let is_over = open.total >= self.limits.connections
            || of_client >= self.limits.connections_per_client;
        if is_over {
            return None;
        }
        open.total += 1;
        open.by_client.insert(client, of_client + 1);
        let quota = self.clone();
        Some(Counted { quota, client })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let open = self.quota.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Origin {
        Origin {
            listener: ListenerId(1),
            peer: address.parse().ok(),
        }
    }

    #[test]
    fn class_25_one_client_cannot_take_all_connections() {
        let quota = Quota::new(Limits {
            connections: 3,
            connections_per_client: 2,
            ..Limits::default()
        });
        let first = quota.count(from("10.0.0.1")).unwrap();
        let _second = quota.count(from("::ffff:10.0.0.1")).unwrap();
        assert!(quota.count(from("10.0.0.1")).is_none());
        let _other = quota.count(from("socket")).unwrap();
        assert!(quota.count(from("10.0.0.2")).is_none());
        drop(first);
        assert!(quota.count(from("10.0.0.1")).is_some());
        assert_eq!(quota.open.lock().unwrap().total, 2);
    }
}
