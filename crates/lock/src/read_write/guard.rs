//! [`ReadGuard`] and [`WriteGuard`]: the handles to read/write locks that are held.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redkit_core::coordination::{Lease, LeaseConfig, LeaseRenewal, Release};
use redkit_core::{Invocation, Tally, Value};
use tokio::time::Instant;

use super::Inner;
use super::inspection::Shown;
use super::scripts::{self, Caller, Keys};
use crate::error::Error;
use crate::fence::Fence;
use crate::registry::Registered;
use crate::run::run;

/// A read/write lock that is held for reading, with a lease of its own. Dropping it gives the lock back in the
/// background.
#[derive(Debug)]
#[must_use = "the lock is given back when the guard is dropped"]
pub struct ReadGuard(Held);

/// A read/write lock that is held for writing. Dropping it gives the lock back in the background.
#[derive(Debug)]
#[must_use = "the lock is given back when the guard is dropped"]
pub struct WriteGuard {
    held: Held,
    fence: Fence,
}

/// A lock that is held. What is not given back when it is dropped is given back in the background.
pub(super) struct Held {
    inner: Arc<Inner>,
    keys: Keys,
    caller: Caller,
    lease: Arc<Lease>,
    _registered: Registered<Shown>,
    /// Nothing is left to be given back.
    is_done: AtomicBool,
}

/// How a lock is renewed.
struct Renewal {
    keys: Keys,
    caller: Caller,
    is_reader: bool,
    renewed: Arc<Tally>,
}

macro_rules! delegate {
    ($self:ident => $held:expr) => {
        /// For how long the lock is certainly held from now on, if it is not renewed.
        pub fn remaining(&$self) -> Duration {
            $held.lease.remaining()
        }

        /// Whether the lock is lost.
        pub fn is_lost(&$self) -> bool {
            $held.lease.is_lost()
        }

        /// A future that resolves when the lock is lost. It can outlive the guard, and never resolves once the
        /// lock was given back in time.
        pub fn lost(&$self) -> impl Future<Output = ()> + Send + use<> {
            $held.lease.watch_loss()
        }

        /// Renews the lock now, and waits for it. It is renewed in the background anyway.
        ///
        /// # Errors
        /// [`Error::Lost`]; [`Error::Core`] when the server could not be asked, by which nothing is lost yet.
        pub async fn extend(&$self) -> Result<(), Error> {
            match $held.lease.renew().await? {
                true => Ok(()),
                false => Err(Error::Lost),
            }
        }

        /// Does work that is dropped when the lock is lost, and gives the lock back after it. Work that blocks its
        /// thread cannot be dropped meanwhile.
        ///
        /// # Errors
        /// [`Error::Lost`], also for work that came to its end and whose lock is found to be lost only then. That the
        /// lock could not be given back is none: it is repeated in the background.
        pub async fn run<T>($self, work: impl Future<Output = T>) -> Result<T, Error> {
            let lost = $self.lost();
            run($self.release(), lost, work).await
        }

        /// Gives the lock back. Gives whether it was still held.
        ///
        /// # Errors
        /// [`Error::Core`] when the server could not be told: that is repeated in the background, until the lock
        /// has run out by itself.
        pub async fn release($self) -> Result<bool, Error> {
            $held.release().await
        }
    };
}

impl ReadGuard {
    pub(super) fn new(held: Held) -> Self {
        Self(held)
    }

    delegate!(self => self.0);
}

impl WriteGuard {
    pub(super) fn new(held: Held, fence: Fence) -> Self {
        Self { held, fence }
    }

    delegate!(self => self.held);

    /// The fence: a number that is greater than that of every earlier writer.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Makes a reader of the writer, in one step, and wakes the readers that wait (unless writers wait, too).
    ///
    /// # Errors
    /// [`Error::Lost`]; [`Error::Core`] when the server could not be asked: the lock is given back then.
    pub async fn downgrade(self) -> Result<ReadGuard, Error> {
        let Held {
            inner,
            keys,
            caller,
            lease,
            ..
        } = &self.held;
        let sent = Instant::now();
        if !lease.end() {
            return Err(Error::Lost);
        }
        let ttl = inner.settings.local_ttl();
        if !scripts::downgrade(&inner.client, keys, caller, ttl, &inner.channel).await? {
            return Err(Error::Lost);
        }
        let reader = Held::new(inner, keys.clone(), caller.clone(), None, sent);
        self.held.is_done.store(true, Ordering::Release);
        // The reply may have taken longer than the lease.
        match reader.is_lost() {
            true => Err(Error::Lost),
            false => Ok(ReadGuard(reader)),
        }
    }
}

impl Held {
    /// A lock that was taken by a call that was sent at `sent`; a writer has a fence.
    pub(super) fn new(
        inner: &Arc<Inner>,
        keys: Keys,
        caller: Caller,
        fence: Option<Fence>,
        sent: Instant,
    ) -> Self {
        let renewal = Renewal {
            keys: keys.clone(),
            caller: caller.clone(),
            is_reader: fence.is_none(),
            renewed: Arc::clone(&inner.metrics.renewed),
        };
        let settings = &inner.settings;
        let mut config = LeaseConfig::new(settings.ttl).counted_by(Arc::clone(&inner.metrics.lost));
        if let Some(limit) = settings.hold_at_most {
            config = config.hold_at_most(limit);
        }
        let lease = Arc::new(inner.client.lease(renewal, config, sent));
        let registered = inner.registry.add(Shown {
            user: keys.user.clone(),
            fence,
            since: sent,
            lease: Arc::downgrade(&lease),
        });
        Self {
            lease,
            _registered: registered,
            inner: Arc::clone(inner),
            keys,
            caller,
            is_done: AtomicBool::new(false),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    async fn release(&self) -> Result<bool, Error> {
        let was_held = self.lease.end();
        let call = || scripts::release(&self.keys, &self.caller, &self.inner.channel);
        let client = &self.inner.client;
        let (released, is_repeat) = match client.eval::<bool>(call()).await {
            Ok(released) => (released, false),
            // The first attempt may have released it, so that the second finds nothing.
            Err(error) if error.is_maybe() => (client.eval(call().idempotent(true)).await?, true),
            Err(error) => return Err(error.into()),
        };
        self.is_done.store(true, Ordering::Release);
        let was_held = released || (is_repeat && was_held);
        match was_held {
            true => self.inner.metrics.released.add_one(),
            false => self.inner.metrics.late.add_one(),
        }
        Ok(was_held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if *self.is_done.get_mut() {
            return;
        }
        let ends = self.lease.valid_until();
        self.lease.end();
        let call = scripts::release(&self.keys, &self.caller, &self.inner.channel);
        let release = Release::new([call.idempotent(true)])
            .patiently_until(ends)
            .counted_by(Arc::clone(&self.inner.metrics.unreleased));
        self.inner.client.release_later(release);
    }
}

impl LeaseRenewal for Renewal {
    fn renew(&self, ttl: Duration) -> Invocation {
        match self.is_reader {
            true => scripts::renew_read(&self.keys, &self.caller, ttl),
            false => {
                let lock = std::slice::from_ref(&self.keys.lock);
                crate::scripts::renew(lock, self.caller.token, ttl, false)
            }
        }
    }

    fn is_held(&self, reply: &Value) -> bool {
        let is_held = matches!(reply, Value::Int(1));
        if is_held {
            self.renewed.add_one();
        }
        is_held
    }
}

/// Without keys and token.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
