//! [`Guard`]: the handle to locks that are held.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redkit_core::ToArg;

use crate::error::Error;
use crate::fence::Fence;
use crate::held::Held;
use crate::manager::Inner;
use crate::registry::Registered;
use crate::run::run;

/// A lock that is held, or several of them, from a [`LockManager`](crate::LockManager). It is renewed in the
/// background until it is released or dropped.
///
/// **Dropping** it gives the lock back in the background, at once as far as the server can be reached, and never
/// blocks. [`release`](Self::release) waits for it and says whether the lock was still held.
///
/// **Losing** it: [`lost`](Self::lost) resolves when the lock could not be renewed in time (by this process's
/// own clock, whatever network and server do), was taken away, or reached its longest time. Work that goes on
/// after that is not protected, except where storage compares the [fence](Self::fence).
#[must_use = "the lock is given back when the guard is dropped"]
pub struct Guard {
    // Before the locks: what is being given back is not held any more.
    _registered: Registered<Weak<Held>>,
    held: Arc<Held>,
}

/// A [`Guard`] that can be cloned: re-entrancy, made explicit. From [`Guard::share`]. The locks are given back
/// when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct SharedGuard {
    guard: Arc<Guard>,
}

impl Guard {
    pub(crate) fn new(inner: &Arc<Inner>, mut held: Held) -> Self {
        held.put_to_use();
        let held = Arc::new(held);
        Self {
            _registered: inner.registry.add(Arc::downgrade(&held)),
            held,
        }
    }

    /// The fence: a number that is greater than that of every earlier holder. Send it with every write, to
    /// storage that rejects older ones ([`FencedRegister`](crate::FencedRegister)). With several keys it is that
    /// of the first in order; see [`fence_of`](Self::fence_of).
    pub fn fence(&self) -> Fence {
        let first = self.held.fences().next();
        first.map_or(Fence::new(0), |(_, fence)| fence)
    }

    /// The fence of one of several keys; `None` for a key that is not held.
    pub fn fence_of(&self, key: impl ToArg) -> Option<Fence> {
        let mut bytes = Vec::new();
        key.write_to(&mut bytes);
        let mut fences = self.held.fences();
        fences
            .find(|(user, _)| *user == bytes)
            .map(|(_, fence)| fence)
    }

    /// For how long the lock is certainly held from now on, if it is not renewed.
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Whether the lock is lost.
    pub fn is_lost(&self) -> bool {
        self.held.is_lost()
    }

    /// A future that resolves when the lock is lost. It can outlive the guard, and never resolves once the lock
    /// was given back in time.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        self.held.lost()
    }

    /// What is held, for those who look at it and do not hold it.
    pub(crate) fn watch(&self) -> Weak<Held> {
        Arc::downgrade(&self.held)
    }

    /// Renews the lock now, and waits for it: before a step that takes long, or that is not to be begun in
    /// vain. It is renewed in the background anyway.
    ///
    /// # Errors
    /// [`Error::Lost`]; [`Error::Core`] when the server could not be asked, by which nothing is lost yet.
    pub async fn extend(&self) -> Result<(), Error> {
        self.held.extend().await
    }

    /// Does work that is dropped when the lock is lost, and gives the lock back after it. Work that blocks its
    /// thread cannot be dropped meanwhile.
    ///
    /// # Errors
    /// [`Error::Lost`], also for work that came to its end and whose lock is found to be somebody else's only then: it
    /// may have met that of another holder. That the lock could not be given back is none: it is repeated in the
    /// background.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Result<T, Error> {
        let lost = self.lost();
        run(self.release(), lost, work).await
    }

    /// Gives the lock back, and wakes the next. Gives whether it was still held: `false` says that the work
    /// since [`remaining`](Self::remaining) was last above zero may have met that of another holder.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be told: that is repeated in the background, until the lock
    /// has run out by itself.
    pub async fn release(self) -> Result<bool, Error> {
        self.held.release().await
    }

    /// Makes a handle of it that can be cloned.
    pub fn share(self) -> SharedGuard {
        SharedGuard {
            guard: Arc::new(self),
        }
    }
}

impl SharedGuard {
    /// Gives this handle up, and the locks with it if it is the last. Gives whether they were given back and
    /// were still held.
    ///
    /// # Errors
    /// As [`Guard::release`].
    pub async fn release(self) -> Result<bool, Error> {
        match Arc::into_inner(self.guard) {
            Some(last) => last.release().await,
            None => Ok(false),
        }
    }
}

impl Deref for SharedGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.fmt(f)
    }
}
