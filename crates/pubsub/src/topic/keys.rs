//! The keys of a topic's partition, which share a slot.

use redkit_core::coordination::Token;
use redkit_core::{Key, Keyspace};

/// One partition: a stream, and what belongs to it. All its keys share a slot.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    pub(crate) number: u32,
    keyspace: Keyspace,
    tag: Box<str>,
    pub(crate) stream: Key,
    pub(crate) delayed: Key,
    pub(crate) bodies: Key,
    pub(crate) state: Key,
}

/// What a group has on a partition beside the stream's own group.
#[derive(Debug, Clone)]
pub(crate) struct GroupKeys {
    pub(crate) retries: Key,
    pub(crate) dead: Key,
    /// The token of the partition's owner, in ordered groups.
    pub(crate) owner: Key,
}

impl Partition {
    /// The topic's name is in the hash tag, so that the first partitions of all topics are not on one node of
    /// a cluster.
    pub(crate) fn new(keyspace: &Keyspace, topic: &str, number: u32) -> Self {
        let tag = format!("{topic}.{number}").into_boxed_str();
        Self {
            number,
            stream: keyspace.key(&*tag),
            delayed: keyspace.role_key(&*tag, "delayed"),
            bodies: keyspace.role_key(&*tag, "bodies"),
            state: keyspace.role_key(&*tag, "state"),
            keyspace: keyspace.clone(),
            tag,
        }
    }

    pub(crate) fn group(&self, group: &str) -> GroupKeys {
        let of = |role| self.keyspace.tagged_key(&*self.tag, role, group);
        GroupKeys {
            retries: of("retries"),
            dead: of("dead"),
            owner: of("owner"),
        }
    }

    /// The deduplication record of a message's id.
    pub(crate) fn record(&self, id: &[u8]) -> Key {
        self.keyspace.tagged_key(&*self.tag, "id", id)
    }

    /// That a call has cancelled a message.
    pub(crate) fn cancelled(&self, call: Token) -> Key {
        self.keyspace.tagged_key(&*self.tag, "cancelled", call)
    }

    /// The members of an ordered group; of the first partition only.
    pub(crate) fn members(&self, group: &str) -> Key {
        self.keyspace.tagged_key(&*self.tag, "members", group)
    }
}
