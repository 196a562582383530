//! Deleting many keys.

use std::collections::BTreeMap;

use super::key::ToKey;
use super::reply::converted;
use crate::backend::Topology;
use crate::client::Client;
use crate::command::Command;
use crate::error::Error;
use crate::keys::{Key, slot};

/// What became of keys that were to be deleted.
#[derive(Debug, Clone, Default)]
#[must_use = "some keys may not have been deleted"]
#[non_exhaustive]
pub struct Deleted {
    /// Keys that were there, and are deleted.
    pub deleted: u64,
    /// Keys that were not there any more.
    pub missing: u64,
    /// Keys whose deletion got no answer, or that the server refused to delete.
    pub failed: u64,
    /// The first error behind `failed`.
    pub error: Option<Error>,
}

impl Deleted {
    pub(super) fn add(&mut self, other: Deleted) {
        self.deleted += other.deleted;
        self.missing += other.missing;
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }
}

/// Deleting keys by name.
impl Client {
    /// Deletes keys, wherever they are in a cluster: `UNLINK`s of up to
    /// [`batch_keys`](crate::ClientConfig::batch_keys), on a cluster one
    /// per slot, up to 10,000 keys in one round trip. Nothing is atomic; what failed is counted.
    /// A batch whose answer was lost is not sent again.
    pub async fn delete_many(&self, keys: impl IntoIterator<Item = impl ToKey>) -> Deleted {
        const AT_ONCE: usize = 10_000;
        let mut all = Deleted::default();
        let mut keys = keys.into_iter().peekable();
        while keys.peek().is_some() {
            let some: Vec<Key> = keys
                .by_ref()
                .take(AT_ONCE)
                .map(|key| key.to_key(self))
                .collect();
            all.add(
                self.unlink(some.iter().map(Key::as_bytes), self.batch_keys())
                    .await,
            );
        }
        all
    }

    /// Deletes keys of full names, in one pipeline.
    pub(super) async fn unlink<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        batch: usize,
    ) -> Deleted {
        let mut outcome = Deleted::default();
        let mut commands = match self.topology() {
            Topology::Cluster => by_slot(keys, batch),
            _ => in_order(keys, batch),
        };
        if commands.is_empty() {
            return outcome;
        }
        let replies = self.pipeline_ref(&mut commands).await;
        for (i, command) in commands.iter().enumerate() {
            let sent = command.arg_count() as u64;
            let reply = match &replies {
                Ok(replies) => match replies.get(i) {
                    Some(Ok(reply)) => converted::<u64>("UNLINK", reply.clone()),
                    Some(Err(error)) => Err(Error::call("UNLINK", error.clone())),
                    None => converted("UNLINK", crate::value::Value::Nil),
                },
                Err(error) => Err(error.clone()),
            };
            match reply {
                Ok(deleted) => {
                    outcome.deleted += deleted;
                    outcome.missing += sent.saturating_sub(deleted);
                }
                Err(error) => {
                    outcome.failed += sent;
                    outcome.error.get_or_insert(error);
                }
            }
        }
        outcome
    }
}

fn in_order<'k>(keys: impl Iterator<Item = &'k [u8]>, batch: usize) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for key in keys {
        push(&mut commands, key, batch);
    }
    commands
}

/// A command's keys must share a slot on a cluster.
fn by_slot<'k>(keys: impl Iterator<Item = &'k [u8]>, batch: usize) -> Vec<Command> {
    let mut by_slot: BTreeMap<u16, Vec<Command>> = BTreeMap::new();
    for key in keys {
        push(by_slot.entry(slot(key)).or_default(), key, batch);
    }
    by_slot.into_values().flatten().collect()
}

fn push(commands: &mut Vec<Command>, key: &[u8], batch: usize) {
    let command = match commands.pop() {
        Some(open) if open.arg_count() < batch => open,
        full => {
            commands.extend(full);
            Command::new("UNLINK")
        }
    };
    commands.push(command.key(key));
}
