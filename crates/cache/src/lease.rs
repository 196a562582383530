//! [`Lease`]: the right to load a key, among all processes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Key, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::entry::millis;
use crate::error::Error;
use crate::id::Id;
use crate::names::EntryKeys;
use crate::scripts::{self, Need};
use crate::store::Store;

/// A lease that this process holds. A task renews it until it is given back or dropped; then it
/// ends by itself.
pub(crate) struct Lease<V> {
    store: Arc<Store<V>>,
    pub(crate) keys: EntryKeys,
    pub(crate) token: Id,
    /// Whether there is a value that is to be loaded anew.
    pub(crate) replaces: bool,
    /// One for all that were taken together.
    _renewal: Arc<AbortOnDropHandle<()>>,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Lease<V> {
    pub(crate) fn new(store: &Arc<Store<V>>, keys: &EntryKeys, token: Id, need: Need) -> Self {
        let renewal = Renewal::start(store, vec![keys.lease.clone()], token);
        Self::renewed_by(renewal, store, keys, token, need)
    }

    /// One of several leases with the same token.
    pub(crate) fn renewed_by(
        renewal: Renewal,
        store: &Arc<Store<V>>,
        keys: &EntryKeys,
        token: Id,
        need: Need,
    ) -> Self {
        Self {
            replaces: need != Need::All,
            store: Arc::clone(store),
            keys: keys.clone(),
            token,
            _renewal: renewal.0,
        }
    }

    /// Gives the lease back; the next one may load.
    pub(crate) async fn release(self) {
        self.end(Duration::ZERO, &[]).await;
    }

    /// Gives it back after the source had no value, and that is not kept: then what there is must
    /// not stay either.
    pub(crate) async fn release_without_value(self) {
        if !self.replaces {
            return self.release().await;
        }
        if let Err(error) = self.store.invalidate(&self.keys).await {
            self.store.cannot_keep(&error);
        }
    }

    /// Gives it back after a load that failed: those who have a stale value leave the source alone
    /// for a while, and those who wait are told of the error.
    pub(crate) async fn fail(self, error: &Error, need: Need) {
        let rest = match need {
            Need::All => Duration::ZERO,
            Need::Better | Need::Refresh => self.store.settings.retry_after,
        };
        let raw = match (error, &self.store.errors) {
            (Error::Load(error), Some(codec)) => {
                let key = self.keys.entry.as_bytes();
                codec.encode(error, self.store.client.codec(), key)
            }
            _ => Bytes::new(),
        };
        self.end(rest, &raw).await;
    }

    async fn end(self, rest: Duration, error: &[u8]) {
        let released = self.store.release(&self.keys, self.token, rest, error);
        if let Err(error) = released.await {
            // It ends by itself.
            tracing::debug!(target: "redkit::cache", cache = %self.store.name, %error, "lease not released");
        }
    }
}

/// The task that renews leases until all of them are given back, dropped or lost.
#[derive(Clone)]
pub(crate) struct Renewal(Arc<AbortOnDropHandle<()>>);

impl Renewal {
    pub(crate) fn start<V: Send + Sync + 'static>(
        store: &Arc<Store<V>>,
        leases: Vec<Key>,
        token: Id,
    ) -> Self {
        let task = renew(Arc::clone(store), leases, token);
        Self(Arc::new(AbortOnDropHandle::new(tokio::spawn(task))))
    }
}

async fn renew<V>(store: Arc<Store<V>>, mut leases: Vec<Key>, token: Id) {
    let ttl = store.settings.lease;
    while !leases.is_empty() {
        sleep(ttl / 3).await;
        let renewals = leases
            .iter()
            .map(|lease| scripts::renew(lease, token, millis(ttl)).into())
            .collect();
        if let Ok(replies) = store.run_all(renewals).await {
            let mut replies = replies.into_iter();
            // What was lost or given back is not asked for again; what was not answered is.
            leases.retain(|_| !matches!(replies.next(), Some(Ok(Value::Int(0)))));
        }
    }
}
