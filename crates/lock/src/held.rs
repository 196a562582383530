//! [`Held`]: locks that this process holds, behind the handles to them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::select_all;
use redkit_core::coordination::{Lease, LeaseConfig, LeaseRenewal, Release, Token};
use redkit_core::{Error as CoreError, Invocation, Key, Tally, Value};
use tokio::time::Instant;

use crate::error::Error;
use crate::fence::Fence;
use crate::keys::LockKeys;
use crate::manager::Inner;
use crate::scripts;

/// Locks that were taken by one call and are given back together. What is not given back when it is dropped
/// is given back in the background.
pub(crate) struct Held {
    inner: Arc<Inner>,
    token: Token,
    since: Instant,
    /// Work may have begun under them.
    is_in_use: bool,
    parts: Vec<Part>,
    /// Nothing is left to be given back.
    is_done: AtomicBool,
}

/// The locks of one slot, with one lease for all of them.
struct Part {
    lease: Lease,
    locks: Vec<LockKeys>,
    fences: Vec<Fence>,
}

impl Held {
    /// Nothing yet.
    pub(crate) fn new(inner: &Arc<Inner>, token: Token) -> Self {
        Self {
            inner: Arc::clone(inner),
            token,
            since: Instant::now(),
            is_in_use: false,
            parts: Vec::with_capacity(1),
            is_done: AtomicBool::new(false),
        }
    }

    /// Adds locks that were taken by a call that was sent at `sent`.
    pub(crate) fn add(&mut self, locks: Vec<LockKeys>, fences: Vec<Fence>, sent: Instant) {
        if self.parts.is_empty() {
            self.since = sent;
        }
        let settings = &self.inner.settings;
        let renewal = Renewal {
            keys: locks.iter().map(|lock| lock.lock.clone()).collect(),
            token: self.token,
            never_shorter: !settings.hold_at_least.is_zero(),
            renewed: Arc::clone(&self.inner.metrics.renewed),
        };
        let mut config =
            LeaseConfig::new(settings.ttl).counted_by(Arc::clone(&self.inner.metrics.lost));
        if let Some(limit) = settings.hold_at_most {
            config = config.hold_at_most(limit);
        }
        self.parts.push(Part {
            lease: self.inner.client.lease(renewal, config, sent),
            locks,
            fences,
        });
    }

    /// They are handed to the caller.
    pub(crate) fn put_to_use(&mut self) {
        self.is_in_use = true;
    }

    /// When the call that took the first of them was sent.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// The user's keys and their fences.
    pub(crate) fn fences(&self) -> impl Iterator<Item = (&[u8], Fence)> {
        self.parts.iter().flat_map(|part| {
            let users = part.locks.iter().map(|lock| &*lock.user);
            users.zip(part.fences.iter().copied())
        })
    }

    pub(crate) fn remaining(&self) -> Duration {
        let remaining = self.parts.iter().map(|part| part.lease.remaining());
        remaining.min().unwrap_or_default()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.parts.iter().any(|part| part.lease.is_lost())
    }

    /// Resolves when one of the locks is lost, and never once they were given back in time.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let losses = self
            .parts
            .iter()
            .map(|part| Box::pin(part.lease.watch_loss()));
        let first = (!self.parts.is_empty()).then(|| select_all(losses));
        async move {
            match first {
                Some(first) => {
                    first.await;
                }
                None => std::future::pending().await,
            }
        }
    }

    pub(crate) async fn extend(&self) -> Result<(), Error> {
        for part in &self.parts {
            if !part.lease.renew().await? {
                return Err(Error::Lost);
            }
        }
        Ok(())
    }

    /// Gives the locks back. Gives whether all of them were still held; `false` when it was done before.
    pub(crate) async fn release(&self) -> Result<bool, Error> {
        if self.is_done.load(Ordering::Acquire) {
            return Ok(false);
        }
        let ended = self.parts.iter().map(|part| part.lease.end());
        let was_held = ended.fold(true, |all, one| all & one);
        let locks: usize = self.parts.iter().map(|part| part.locks.len()).sum();
        let (released, is_repeat) = match self.send_release(false).await {
            Ok(released) => (released, false),
            // The first attempt may have released them, so that the second finds nothing.
            Err(error) if error.is_maybe() => (self.send_release(true).await?, true),
            Err(error) => return Err(error.into()),
        };
        self.is_done.store(true, Ordering::Release);
        let was_held = released == locks || (is_repeat && was_held);
        let metrics = &self.inner.metrics;
        match was_held {
            true => metrics.released.add_one(),
            false => metrics.late.add_one(),
        }
        Ok(was_held)
    }

    async fn send_release(&self, is_repeat: bool) -> Result<usize, CoreError> {
        let calls = self.releases().map(|call| call.idempotent(is_repeat));
        let mut calls: Vec<_> = calls.collect();
        if calls.len() == 1
            && let Some(call) = calls.pop()
        {
            return self.inner.client.eval(call).await;
        }
        let replies = self.inner.client.eval_all(calls).await?;
        let mut released = 0;
        for reply in replies {
            let reply = reply.map_err(|error| CoreError::Call {
                command: "EVALSHA".into(),
                error,
            })?;
            released += match reply {
                Value::Int(count) => usize::try_from(count).unwrap_or_default(),
                _ => 0,
            };
        }
        Ok(released)
    }

    fn releases(&self) -> impl Iterator<Item = Invocation> {
        let parts = self.parts.iter();
        parts.map(|part| match self.is_in_use {
            true => self.inner.release(&part.locks, self.token),
            false => self.inner.undo(&part.locks, self.token),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if *self.is_done.get_mut() || self.parts.is_empty() {
            return;
        }
        let ends = self.parts.iter().map(|part| part.lease.valid_until());
        let ends = ends.max().unwrap_or(self.since);
        for part in &self.parts {
            part.lease.end();
        }
        let calls: Vec<_> = self.releases().map(|call| call.idempotent(true)).collect();
        let release = Release::new(calls)
            .patiently_until(ends)
            .counted_by(Arc::clone(&self.inner.metrics.unreleased));
        self.inner.client.release_later(release);
    }
}

/// Without keys and token.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fences: Vec<_> = self.fences().map(|(_, fence)| fence).collect();
        f.debug_struct("Held")
            .field("fences", &fences)
            .field("is_lost", &self.is_lost())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

/// How locks are renewed.
struct Renewal {
    keys: Vec<Key>,
    token: Token,
    never_shorter: bool,
    renewed: Arc<Tally>,
}

impl LeaseRenewal for Renewal {
    fn renew(&self, ttl: Duration) -> Invocation {
        scripts::renew(&self.keys, self.token, ttl, self.never_shorter)
    }

    fn is_held(&self, reply: &Value) -> bool {
        let is_held = matches!(reply, Value::Int(1));
        if is_held {
            self.renewed.add_one();
        }
        is_held
    }
}
