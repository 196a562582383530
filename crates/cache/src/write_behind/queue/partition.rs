//! [`Partition`]: a part of the queue that shares a slot and a lease, and the names of its keys.

use redkit_core::{Client, Key, Keyspace};

use super::Signals;

pub(in super::super) struct Partition {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(in super::super) index: u16,
    /// How many partitions the queue has.
    pub(super) of: u16,
    pub(in super::super) signals: Signals,
}

/// `docs/keyspace.md` says what they hold.
pub(super) struct Keys {
    pub(super) state: Key,
    pub(super) changes: Key,
    pub(super) age: Key,
    pub(super) ready: Key,
    pub(super) flight: Key,
    pub(super) tries: Key,
    pub(super) later: Key,
    pub(super) ids: Key,
    pub(super) dead: Key,
    pub(super) letters: Key,
}

impl Partition {
    pub(super) fn new(client: &Client, keys: &Keyspace, name: &str, index: u16, of: u16) -> Self {
        // With the queue's name, so that the partitions of two queues do not share their slots.
        let tag = format!("{name}.{index}");
        let key = |role| keys.role_key(&tag, role);
        Self {
            client: client.clone(),
            keys: Keys {
                state: key("state"),
                changes: key("changes"),
                age: key("age"),
                ready: key("ready"),
                flight: key("flight"),
                tries: key("tries"),
                later: key("later"),
                ids: key("ids"),
                dead: key("dead"),
                letters: key("letters"),
            },
            index,
            of,
            signals: Signals::default(),
        }
    }
}
