//! Read/write locks that are held here, for whoever looks at the program: see [`Inspect`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::Inspect;
use redkit_core::coordination::Lease;
use redkit_core::inspection::{Action, Fact, InspectError, Snapshot};
use tokio::time::Instant;

use super::Inner;
use super::scripts::{self, Keys};
use crate::error::Error;
use crate::fence::Fence;
use crate::inspection::key_and_fence;

/// The guards that are held now.
#[derive(Default)]
pub(super) struct Registry {
    held: Mutex<HashMap<u64, Shown>>,
    last_id: AtomicU64,
}

/// What is shown of a guard.
#[derive(Clone)]
struct Shown {
    user: Bytes,
    /// A writer's.
    fence: Option<Fence>,
    since: Instant,
    lease: Weak<Lease>,
}

/// What stands for a guard in the [`Registry`].
pub(super) struct Registered {
    inner: Weak<Inner>,
    id: u64,
}

impl Registry {
    pub(super) fn count(&self) -> usize {
        self.held.lock().len()
    }

    fn some(&self, limit: usize) -> Vec<Shown> {
        self.held.lock().values().take(limit).cloned().collect()
    }
}

impl Registered {
    pub(super) fn new(
        inner: &Arc<Inner>,
        keys: &Keys,
        fence: Option<Fence>,
        lease: &Arc<Lease>,
        since: Instant,
    ) -> Self {
        let id = inner.registry.last_id.fetch_add(1, Ordering::Relaxed);
        let shown = Shown {
            user: keys.user.clone(),
            fence,
            since,
            lease: Arc::downgrade(lease),
        };
        inner.registry.held.lock().insert(id, shown);
        Self {
            inner: Arc::downgrade(inner),
            id,
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.registry.held.lock().remove(&self.id);
        }
    }
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
        let stats = self.metrics.read(self.registry.count());
        let mut snapshot = Snapshot::default()
            .fact("held", stats.held)
            .fact("waiting", stats.waiting)
            .fact("acquired", stats.acquired)
            .fact("taken", stats.taken)
            .fact("failed", stats.failed)
            .fact("renewed", stats.renewed)
            .fact("lost", stats.lost)
            .fact("ttl", self.settings.ttl);
        let shown = self.registry.some(Snapshot::MOST_ITEMS);
        snapshot.omitted += stats.held.saturating_sub(shown.len());
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
            "force_release_readers" => (None, crate::inspection::key(argument)?),
            _ => {
                return Err(InspectError::UnknownAction {
                    kind: self.kind(),
                    action: action.into(),
                });
            }
        };
        let keys = Keys::new(&self.keyspace, &key);
        match scripts::force_release(&self.client, &keys, fence, &self.channel).await {
            Ok(0) => Ok("nobody of that kind has the lock; nothing was done".to_owned()),
            Ok(count) => Ok(format!("the lock was taken away from {count}")),
            Err(Error::Core(error)) => Err(error.into()),
            Err(other) => Err(InspectError::Failed(other.to_string().into())),
        }
    }
}
