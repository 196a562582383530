//! Read/write locks that are held here, for programs that look at this one: see [`Inspect`].

use std::sync::Weak;

use async_trait::async_trait;
use bytes::Bytes;
use redkit_core::Inspect;
use redkit_core::coordination::Lease;
use redkit_core::inspection::{Action, Fact, InspectError, Snapshot};
use tokio::time::Instant;

use super::Inner;
use super::scripts::{self, Keys};
use crate::fence::Fence;
use crate::inspection::{facts, failed, key, key_and_fence, unknown};

/// What is shown of a guard.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) user: Bytes,
    /// A writer's.
    pub(super) fence: Option<Fence>,
    pub(super) since: Instant,
    pub(super) lease: Weak<Lease>,
}

const ACTIONS: &[Action] = &[
    Action {
        name: "force_release",
        argument: "the writer's fence, a space, and the key as it is shown",
        description: "Takes a lock away from its writer, if that is still the one with this fence, and wakes the next. \
                      Until the writer's next renewal both may work.",
        is_destructive: true,
    },
    Action {
        name: "force_release_readers",
        argument: "the key as it is shown",
        description: "Takes a lock away from all its readers, in all processes, and wakes a writer that waits. Until \
                      their next renewals both may work.",
        is_destructive: true,
    },
];

#[async_trait]
impl Inspect for Inner {
    fn kind(&self) -> &'static str {
        "read_write_locks"
    }

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn snapshot(&self) -> Snapshot {
        let held = self.registry.count();
        let mut snapshot = facts(self, held);
        let shown = self.registry.some(Snapshot::MOST_ITEMS);
        snapshot.omitted += held.saturating_sub(shown.len());
        for held in shown {
            let Some(lease) = held.lease.upgrade() else {
                continue;
            };
            let mut item = vec![
                ("key", Fact::from(held.user.escape_ascii().to_string())),
                ("is_writer", Fact::from(held.fence.is_some())),
                ("held_for", Fact::from(held.since.elapsed())),
                ("remaining", Fact::from(lease.remaining())),
                ("is_lost", Fact::from(lease.is_lost())),
            ];
            if let Some(fence) = held.fence {
                item.push(("fence", Fact::from(fence.get())));
            }
            snapshot.push(item);
        }
        snapshot
    }

    fn actions(&self) -> &'static [Action] {
        ACTIONS
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        let (fence, key) = match action {
            "force_release" => {
                let (fence, key) = key_and_fence(argument)?;
                (Some(fence), key)
            }
            "force_release_readers" => (None, key(argument)?),
            _ => return Err(unknown(self.kind(), action)),
        };
        let keys = Keys::new(&self.keyspace, &key);
        match scripts::force_release(&self.client, &keys, fence, &self.channel).await {
            Ok(0) => Ok("nobody of that kind has the lock; nothing was done".to_owned()),
            Ok(count) => Ok(format!("the lock was taken away from {count}")),
            Err(error) => Err(failed(error)),
        }
    }
}
