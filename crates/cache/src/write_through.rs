//! Write-through: the source first, then the cache, and never the cache alone.

use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use redkit_core::ToArg;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cache::{Cache, begin, some};
use crate::error::{Error, LoadError};
use crate::fetched::{Fetched, Loaded, Source};
use crate::fill::FillOutcome;
use crate::id::{Id, LeaseToken};
use crate::lease::Lease;
use crate::local_cache::with_bytes;
use crate::names::EntryKeys;
use crate::scripts::Have;
use crate::store::Store;

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// Writes the source by `write`, which gives the value as the source has it now, and then keeps
    /// that. Two round trips besides the write, on a cluster four; two more for tags.
    ///
    /// The entry is removed before the write begins, and loads in progress in any process are not
    /// kept: a reader that comes meanwhile waits for the write, and is given the written value. When two
    /// writes of one key overlap, nobody can tell which of them the source carried out last: neither
    /// value is kept, and the next reader loads once both have ended. An [`invalidate`](Self::invalidate) meanwhile
    /// does the same to a single write. Readers of a key that is written without a pause wait for
    /// [`wait_timeout`](crate::CacheBuilder::wait_timeout), and are given what they load then. When the write fails nothing is kept either, since
    /// such an error does not always mean that nothing was written.
    ///
    /// `write` runs in a task of its own: a caller that goes away does not leave the source written and
    /// the cache not, and neither does one that drops the last handle of the cache. There is no timeout
    /// but the writer's own, for the same reason. A caller that goes away before `write` was called, while Redis is
    /// asked, writes nothing; the entry may be gone. When it takes longer than
    /// [`load_timeout`](crate::CacheBuilder::load_timeout), readers do not wait for it any more: they
    /// load what the source has, and what is written later is not kept, and removes what they have
    /// loaded. When the process dies half-way, readers load once its
    /// [`lease`](crate::CacheBuilder::lease) has ended.
    ///
    /// When Redis cannot be asked the source is written all the same. The old entry is still there
    /// then, and is removed after the write.
    ///
    /// # Errors
    /// [`Error::Write`] with the writer's own error; [`Error::LoaderPanicked`]. [`Error::Core`]
    /// when the source *is* written and the entry may be an older one, until its time is up:
    /// [`invalidate`](Self::invalidate) it when Redis answers again.
    pub async fn write_through<W, F, T, E>(
        &self,
        key: impl ToArg,
        write: W,
    ) -> Result<Fetched<V>, Error>
    where
        W: FnOnce() -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let store = Arc::clone(&self.inner.store);
        let keys = store.names.of_entry(&key)?;
        let token = LeaseToken::random(None);
        let sent = Instant::now();
        let beginning = Beginning(Some((&store, &keys, token)));
        let begun = store.begin_write(&keys, token).await;
        beginning.has_ended();
        self.overtake(&key, &keys);
        let writing = begin(write);
        let writing = async move {
            match AssertUnwindSafe(writing?).catch_unwind().await {
                Ok(Ok(written)) => Ok(written.into()),
                Ok(Err(error)) => Err(Error::Write(LoadError::new(error.into()))),
                Err(_) => Err(Error::LoaderPanicked),
            }
        };
        let (done, outcome) = oneshot::channel();
        // Dropping the last handle ends loads. A write that has begun is to reach the cache.
        let cache = self.clone();
        let key: Box<[u8]> = with_bytes(&key, |key| key.into());
        self.inner.tasks.spawn(async move {
            let hold = || Lease::hold(&store, &keys, Have::Nothing, token, sent);
            let (lease, contested) = match begun {
                Ok(Some(snapshot)) => (Some((hold(), snapshot)), None),
                // Another write is in progress: readers wait for both.
                Ok(None) => (None, Some(hold())),
                // Redis could not be asked.
                Err(_) => (None, None),
            };
            let began = Instant::now();
            let written = writing.await;
            let result = match (written, lease) {
                (Ok(written), Some((lease, snapshot))) => {
                    let (broadcast, cost) = (store.broadcast(), began.elapsed());
                    let fill = store.fill_one(lease, &snapshot, some(written), cost, broadcast);
                    settle(&store, &keys, token, fill.await).await
                }
                (Ok(written), None) => match store.end_write(&keys, token).await {
                    Ok(()) => Ok((Arc::new(written.value), None)),
                    Err(error) => Err(error.into()),
                },
                (Err(error), _) => {
                    // Best effort: the error that matters is the writer's.
                    let _ = store.end_write(&keys, token).await;
                    Err(error)
                }
            };
            drop(contested);
            cache.inner.loads.detach(&keys.entry);
            if let Some(local) = &store.local {
                local.remove(&key);
            }
            let _ = done.send(result);
            // The last: with it the task's own owner may go.
            drop(cache);
        });
        let (value, entry) = outcome.await.unwrap_or(Err(Error::LoaderPanicked))?;
        Ok(Fetched::new(value, Source::Written, entry))
    }
}

/// A write while Redis is asked to begin it: a caller that goes away meanwhile writes nothing, and readers are not to
/// wait for that.
struct Beginning<'w, V>(Option<(&'w Store<V>, &'w EntryKeys, LeaseToken)>);

impl<V> Beginning<'_, V> {
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl<V> Drop for Beginning<'_, V> {
    fn drop(&mut self) {
        if let Some((store, keys, token)) = self.0 {
            store.end_unwritten(keys, token);
        }
    }
}

/// The value, and its entry when it was kept. One that was not kept must not leave the old entry behind.
async fn settle<V: Serialize + DeserializeOwned + Send + Sync + 'static>(
    store: &Store<V>,
    keys: &EntryKeys,
    token: LeaseToken,
    outcome: Result<FillOutcome<V>, Error>,
) -> Result<(Arc<V>, Option<Id>), Error> {
    let value = match outcome {
        Ok(FillOutcome::Written(hit)) => {
            let value = hit.value.ok_or(Error::NotLoaded)?;
            return Ok((value, Some(hit.id)));
        }
        // The entry that is there is newer than this.
        Ok(FillOutcome::Newer(value)) => value,
        Ok(FillOutcome::NotKept(value)) => {
            store.end_write(keys, token).await?;
            value
        }
        Err(error) => {
            store.end_write(keys, token).await?;
            return Err(error);
        }
    };
    Ok((value.ok_or(Error::NotLoaded)?, None))
}
