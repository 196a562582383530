//! [`LockManager`]: the locks of one purpose.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::Token;
use redkit_core::{Client, Invocation, Key, Keyspace, Pattern, ToArg};

use crate::builder::{LockManagerBuilder, Settings};
use crate::confirmation::Connections;
use crate::error::Error;
use crate::fence::Fence;
use crate::guard::Guard;
use crate::held::Held;
use crate::holder::{Holder, owner_text};
use crate::inspection;
use crate::keys::{LockKeys, user_key};
use crate::line::Lines;
use crate::metrics::{LockStats, Metrics};
use crate::registry::Registry;
use crate::scripts;

/// The locks of one purpose, by key, in all processes together. It is cheap to clone; clones share everything.
///
/// ```
/// use std::time::Duration;
/// use redkit_lock::LockManager;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
/// # let client = redkit_core::Client::from_backend(backend, &Default::default())?;
/// let orders = LockManager::builder(&client, "orders").label("checkout").build()?;
///
/// let guard = orders.acquire("order-7", Duration::from_secs(5)).await?;
/// // … work, and send `guard.fence()` with what is written …
/// assert!(guard.release().await?, "it was held to the end");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LockManager {
    pub(crate) inner: Arc<Inner>,
    /// Process, host and label.
    pub(crate) owner: Arc<str>,
}

/// The locks of one purpose, of whatever kind: where they are, and how they are held.
pub(crate) struct Purpose {
    pub(crate) client: Client,
    pub(crate) name: Box<str>,
    pub(crate) keyspace: Keyspace,
    pub(crate) channel: Bytes,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
}

/// What the clones of a manager and their guards share.
pub(crate) struct Inner {
    purpose: Purpose,
    pub(crate) registry: Registry<Weak<Held>>,
    pub(crate) lines: Lines,
    pub(crate) connections: Connections,
}

impl LockManager {
    /// Starts a manager named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> LockManagerBuilder {
        LockManagerBuilder::new(client, name)
    }

    pub(crate) fn new(purpose: Purpose, owner: Box<str>) -> Self {
        let inner = Inner {
            purpose,
            registry: Registry::default(),
            lines: Lines::default(),
            connections: Connections::default(),
        };
        let inner = Arc::new(inner);
        inspection::register(&inner);
        Self {
            inner,
            owner: owner.into(),
        }
    }

    /// The same manager, whose holders have another label: see [`LockManagerBuilder::label`].
    ///
    /// # Errors
    /// [`Error::Core`] for a label that is empty, too long, or holds control characters.
    pub fn with_label(&self, label: &str) -> Result<Self, Error> {
        Ok(Self {
            inner: Arc::clone(&self.inner),
            owner: owner_text(Some(label))?.into(),
        })
    }

    /// Takes a lock if it is free. One round trip.
    ///
    /// # Errors
    /// [`Error::Taken`] says who has it; [`Error::EmptyKey`]; [`Error::Lost`] when the reply came later than the lease
    /// was over: what was taken is given back, and asking again makes sense; [`Error::NotConfirmed`] where the manager
    /// [asks for it](LockManagerBuilder::confirmed_by_replicas); [`Error::Core`] when the server could not be asked.
    pub async fn try_acquire(&self, key: impl ToArg) -> Result<Guard, Error> {
        self.acquire(key, Duration::ZERO).await
    }

    /// Takes a lock, and waits for it for `timeout` at most. The caller is woken when it is released; when its
    /// holder dies, the caller gets it within the [TTL](LockManagerBuilder::ttl). When the future is dropped the
    /// caller does not wait any longer, and what it may have taken is given back in the background.
    ///
    /// One round trip when it is free. Faults that pass are outlived while there is time. The last look at the lock
    /// is given as long as any command to be answered, also beyond `timeout`.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn acquire(&self, key: impl ToArg, timeout: Duration) -> Result<Guard, Error> {
        let users = vec![user_key(key)?];
        self.take(users, timeout).await
    }

    /// Takes several locks, all or none, and waits for them for `timeout` at most. They are sorted, so that
    /// callers who want the same ones do not wait for each other in a circle, and named twice is as good as once.
    ///
    /// On a cluster the locks of one slot are taken in one step, slot after slot (keys with a common tag share a
    /// slot); when one of the later ones is not to be had in time, those taken are given back. In the [fair
    /// mode](LockManagerBuilder::fair) they are taken one by one. Otherwise all are taken in one step.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire); [`Error::KeyCount`] for no key, or more than 1,000.
    pub async fn acquire_all<K: ToArg>(
        &self,
        keys: impl IntoIterator<Item = K>,
        timeout: Duration,
    ) -> Result<Guard, Error> {
        let users = keys.into_iter().map(user_key);
        let users = users.collect::<Result<Vec<_>, _>>()?;
        self.take(users, timeout).await
    }

    /// Takes a lock as [`acquire`](Self::acquire) does, begins work with its fence, drops the work when the lock
    /// is lost, and gives the lock back after it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redkit_lock::LockManager;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
    /// # let client = redkit_core::Client::from_backend(backend, &Default::default())?;
    /// # let locks = LockManager::builder(&client, "imports").build()?;
    /// let rows = locks
    ///     .run("nightly", Duration::from_secs(5), |fence| async move {
    ///         println!("importing under fence {fence}");
    ///         1234
    ///     })
    ///     .await?;
    /// # assert_eq!(rows, 1234);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`Error::Lost`].
    pub async fn run<F, W>(
        &self,
        key: impl ToArg,
        timeout: Duration,
        work: F,
    ) -> Result<W::Output, Error>
    where
        F: FnOnce(Fence) -> W,
        W: Future,
    {
        let guard = self.acquire(key, timeout).await?;
        let work = work(guard.fence());
        guard.run(work).await
    }

    /// Who has a lock; `None` when it is free. One round trip.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked.
    pub async fn inspect(&self, key: impl ToArg) -> Result<Option<Holder>, Error> {
        let keys = self.inner.keys(user_key(key)?);
        scripts::inspect(&self.inner.client, &keys.lock).await
    }

    /// Locks of this name that are taken, and who has them, at most so many. It goes through all keys of the
    /// servers ([`Client::scan`]): for people, not for programs.
    ///
    /// # Errors
    /// [`Error::Core`] when a server could not be asked.
    pub async fn list(&self, limit: usize) -> Result<Vec<(Bytes, Holder)>, Error> {
        let inner = &*self.inner;
        let prefix = format!("lock:{}:{{", inner.name);
        let locks = Pattern::starting(prefix).any().literal("}");
        let mut keys = inner.client.scan(locks).keys();
        let (mut seen, mut listed) = (HashSet::new(), Vec::new());
        while listed.len() < limit
            && let Some(key) = keys.next().await
        {
            let key = inner.client.key(key?);
            let Some((user, None)) = inner.keyspace.parse(key.as_bytes()) else {
                continue;
            };
            if seen.insert(user.clone())
                && let Some(holder) = scripts::inspect(&inner.client, &key).await?
            {
                listed.push((user.into(), holder));
            }
        }
        Ok(listed)
    }

    /// Takes a lock away from its holder, if that is still the one with this fence, and wakes the next. The
    /// holder learns of it at its next renewal; until then both may work, and only fences tell them apart. Gives
    /// whether the lock was taken away.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked.
    pub async fn force_release(&self, key: impl ToArg, fence: Fence) -> Result<bool, Error> {
        let inner = &*self.inner;
        let keys = inner.keys(user_key(key)?);
        scripts::force_release(&inner.client, &keys, fence, &inner.channel).await
    }

    /// A key in the place of this manager's.
    pub(crate) fn probe_key(&self) -> Key {
        self.inner.keyspace.key("probe")
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What this manager and its clones have done in this process.
    pub fn stats(&self) -> LockStats {
        self.inner.metrics.read(self.inner.registry.count())
    }
}

impl Deref for Inner {
    type Target = Purpose;

    fn deref(&self) -> &Purpose {
        &self.purpose
    }
}

impl Inner {
    pub(crate) fn keys(&self, user: Bytes) -> LockKeys {
        LockKeys::new(&self.keyspace, user)
    }

    /// The call that gives locks back after the work that they were for.
    pub(crate) fn release(&self, locks: &[LockKeys], token: Token) -> Invocation {
        scripts::release(locks, token, &self.channel, self.settings.hold_at_least)
    }

    /// The call that gives locks back under which no work was begun: they do not rest.
    pub(crate) fn undo(&self, locks: &[LockKeys], token: Token) -> Invocation {
        scripts::release(locks, token, &self.channel, Duration::ZERO)
    }
}

/// Without keys.
impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager")
            .field("name", &self.inner.name)
            .field("settings", &self.inner.settings)
            .field("held", &self.inner.registry.count())
            .finish_non_exhaustive()
    }
}
