//! The state of one connection: its name, its transaction, the keys that it watches.

use bytes::Bytes;

use crate::keyspace::Keyspace;
use crate::state::Protocol;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: i64,
    /// The shapes in which this connection wants replies.
    pub(crate) protocol: Protocol,
    /// A connection over a socket, which may change its protocol.
    pub(crate) is_from_outside: bool,
    pub(crate) name: Bytes,
    pub(crate) transaction: Option<Transaction>,
    watched: Vec<(Bytes, u64)>,
}

/// Commands between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) queued: Vec<Vec<Bytes>>,
    /// A command could not be queued; `EXEC` will refuse.
    pub(crate) broken: bool,
}

impl Session {
    pub(crate) fn new(id: i64) -> Self {
        Self {
            id,
            protocol: Protocol::Resp3,
            is_from_outside: false,
            name: Bytes::new(),
            transaction: None,
            watched: Vec::new(),
        }
    }

    pub(crate) fn watch(&mut self, db: &mut Keyspace, key: &[u8]) {
        if self.watched.iter().all(|(watched, _)| watched != key) {
            let version = db.watch(key);
            self.watched.push((Bytes::copy_from_slice(key), version));
        }
    }

    pub(crate) fn unwatch(&mut self, db: &mut Keyspace) {
        for (key, _) in self.watched.drain(..) {
            db.observers.unwatch(&key);
        }
    }

    /// Whether a watched key changed since it was watched.
    pub(crate) fn watched_changed(&self, db: &mut Keyspace) -> bool {
        self.watched
            .iter()
            .any(|(key, version)| db.version(key) != *version)
    }
}
