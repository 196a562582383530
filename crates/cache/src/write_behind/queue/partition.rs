//! [`Partition`]: a part of the queue that shares a slot and a lease, the names of its keys, and waiting for
//! what other processes do with it.

use bytes::Bytes;
use redkit_core::coordination::{Waiter, Wake};
use redkit_core::{Client, Key, Keyspace};

pub(in super::super) struct Partition {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(in super::super) index: u16,
    /// How many partitions the queue has.
    pub(super) of: u16,
    pub(super) wake_ups: WakeUps,
}

/// Where scripts wake, and under which names.
pub(super) struct WakeUps {
    pub(super) channel: Bytes,
    /// Workers: something may be due.
    pub(super) due: Bytes,
    /// Callers that wait for room, or for the end of a flush: a batch has ended.
    pub(super) done: Bytes,
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
            wake_ups: WakeUps {
                channel: client.key(format!("write-behind:{name}:wake")).to_bytes(),
                due: format!("{index}:due").into(),
                done: format!("{index}:done").into(),
            },
        }
    }

    /// Waits for what may be due.
    pub(in super::super) fn wait_for_work(&self) -> Waiter {
        self.waiter(&self.wake_ups.due)
    }

    /// Waits for the ends of batches. [`older`](Self::older) and [`has_room`](Self::has_room) ask to be woken.
    pub(in super::super) fn wait_for_batches(&self) -> Waiter {
        self.waiter(&self.wake_ups.done)
    }

    fn waiter(&self, name: &Bytes) -> Waiter {
        let channel = self.wake_ups.channel.clone();
        self.client.waiter_at_once(channel, name.clone(), Wake::All)
    }
}
