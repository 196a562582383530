//! [`ReadWriteLocks`]: many readers or one writer.

mod guard;
mod inspection;
mod scripts;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::{Backoff, Release, Token, WAITER_ALIVE, Wake};
use redkit_core::{Inspect, ToArg, Value};
use tokio::time::{Instant, sleep, timeout_at};

use self::guard::Held;
pub use self::guard::{ReadGuard, WriteGuard};
use self::inspection::Shown;
pub use self::scripts::ReadWriteState;
use self::scripts::{Attempt, Caller, Keys};
use crate::error::Error;
use crate::fence::Fence;
use crate::keys::user_key;
use crate::manager::Purpose;
use crate::metrics::LockStats;
use crate::registry::Registry;
use crate::time::deadline_after;

/// Locks that many readers have at the same time, or one writer, from
/// [`LockManagerBuilder::build_read_write`](crate::LockManagerBuilder::build_read_write). It is cheap to clone;
/// clones share everything. They are not the locks that a [`LockManager`](crate::LockManager) of the same name has.
///
/// A writer goes before new readers: from when it waits no reader is let in, so that readers who come and go
/// cannot keep it waiting for ever. Writers who come and go can keep readers waiting. Each reader has a lease of its
/// own: one that died keeps writers waiting for no longer than the [TTL](crate::LockManagerBuilder::ttl).
///
/// ```
/// use std::time::Duration;
/// use redkit_lock::LockManager;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
/// # let client = redkit_core::Client::from_backend(backend, &Default::default())?;
/// let documents = LockManager::builder(&client, "documents").build_read_write()?;
/// let wait = Duration::from_secs(5);
///
/// let (one, two) = (documents.read("7", wait).await?, documents.read("7", wait).await?);
/// assert!(documents.write("7", Duration::ZERO).await.is_err());
/// one.release().await?;
/// two.release().await?;
///
/// let writer = documents.write("7", wait).await?;
/// // … write under `writer.fence()`, and go on reading what was written:
/// let reader = writer.downgrade().await?;
/// # drop(reader);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ReadWriteLocks {
    inner: Arc<Inner>,
    /// Process, host and label.
    owner: Arc<str>,
}

/// What the clones and their guards share.
pub(super) struct Inner {
    purpose: Purpose,
    registry: Registry<Shown>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
}

/// How often a waiter looks at least: a writer that waits has to be believed to be alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

impl ReadWriteLocks {
    pub(crate) fn new(purpose: Purpose, owner: Box<str>) -> Self {
        let inner = Arc::new(Inner {
            purpose,
            registry: Registry::default(),
        });
        let object: Arc<dyn Inspect> = Arc::clone(&inner) as _;
        inner.client.register(Arc::downgrade(&object));
        Self {
            inner,
            owner: owner.into(),
        }
    }

    /// Takes a lock for reading if no writer has it or waits for it. One round trip.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn try_read(&self, key: impl ToArg) -> Result<ReadGuard, Error> {
        self.read(key, Duration::ZERO).await
    }

    /// Takes a lock for writing if nobody has it. One round trip.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn try_write(&self, key: impl ToArg) -> Result<WriteGuard, Error> {
        self.write(key, Duration::ZERO).await
    }

    /// Takes a lock for reading, and waits for it for `timeout` at most, while a writer has it or waits for it. The
    /// reader is woken, and looks once in three seconds besides, so that no writer that died keeps it out.
    ///
    /// # Errors
    /// [`Error::Taken`] says which writer has it; [`Error::EmptyKey`]; [`Error::Lost`] when the reply came later than
    /// the lease was over: what was taken is given back, and asking again makes sense; [`Error::Core`] when the server
    /// could not be asked.
    pub async fn read(&self, key: impl ToArg, timeout: Duration) -> Result<ReadGuard, Error> {
        let (held, _) = self.acquire(key, Mode::Read, timeout).await?;
        Ok(ReadGuard::new(held))
    }

    /// Takes a lock for writing, and waits for it for `timeout` at most. The writer is woken, and looks once a second
    /// besides.
    ///
    /// # Errors
    /// As [`read`](Self::read); readers who have it are not named.
    pub async fn write(&self, key: impl ToArg, timeout: Duration) -> Result<WriteGuard, Error> {
        let (held, fence) = self.acquire(key, Mode::Write, timeout).await?;
        Ok(WriteGuard::new(held, fence))
    }

    /// Takes a lock for reading as [`read`](Self::read) does, begins work, drops the work when the lock is lost, and
    /// gives the lock back after it.
    ///
    /// # Errors
    /// As [`read`](Self::read), and as [`ReadGuard::run`].
    pub async fn run_reading<F, W>(
        &self,
        key: impl ToArg,
        timeout: Duration,
        work: F,
    ) -> Result<W::Output, Error>
    where
        F: FnOnce() -> W,
        W: Future,
    {
        let guard = self.read(key, timeout).await?;
        guard.run(work()).await
    }

    /// Takes a lock for writing as [`write`](Self::write) does, begins work with its fence, drops the work when the
    /// lock is lost, and gives the lock back after it.
    ///
    /// # Errors
    /// As [`write`](Self::write), and as [`WriteGuard::run`].
    pub async fn run_writing<F, W>(
        &self,
        key: impl ToArg,
        timeout: Duration,
        work: F,
    ) -> Result<W::Output, Error>
    where
        F: FnOnce(Fence) -> W,
        W: Future,
    {
        let guard = self.write(key, timeout).await?;
        let work = work(guard.fence());
        guard.run(work).await
    }

    /// How a lock stands. One round trip.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked.
    pub async fn inspect(&self, key: impl ToArg) -> Result<ReadWriteState, Error> {
        let keys = Keys::new(&self.inner.keyspace, &user_key(key)?);
        scripts::inspect(&self.inner.client, &keys).await
    }

    /// Takes a lock away from the writer with this fence, and wakes what waits for it. The writer's process learns of
    /// it with its next renewal; until then both may work, and only fences tell them apart. Gives whether the lock
    /// was taken away.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be asked.
    pub async fn force_release(&self, key: impl ToArg, fence: Fence) -> Result<bool, Error> {
        Ok(self.take_away(key, Some(fence)).await? == 1)
    }

    /// Takes a lock away from all readers that have it, in all processes, and wakes what waits for it. They learn of
    /// it with their next renewals; until then a writer may work beside them. Gives from how many it was taken away.
    ///
    /// # Errors
    /// As [`force_release`](Self::force_release).
    pub async fn force_release_readers(&self, key: impl ToArg) -> Result<u64, Error> {
        self.take_away(key, None).await
    }

    async fn take_away(&self, key: impl ToArg, writer: Option<Fence>) -> Result<u64, Error> {
        let inner = &*self.inner;
        let keys = Keys::new(&inner.keyspace, &user_key(key)?);
        scripts::force_release(&inner.client, &keys, writer, &inner.channel).await
    }

    /// What these locks and their clones have done in this process; readers and writers are counted alike.
    pub fn stats(&self) -> LockStats {
        self.inner.metrics.read(self.inner.registry.count())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    async fn acquire(
        &self,
        key: impl ToArg,
        mode: Mode,
        timeout: Duration,
    ) -> Result<(Held, Fence), Error> {
        let inner = &self.inner;
        inner.client.prepare_releases();
        let call = Call {
            inner,
            keys: Keys::new(&inner.keyspace, &user_key(key)?),
            caller: Caller {
                token: Token::random(),
                owner: (*self.owner).into(),
            },
            mode,
        };
        let start = Instant::now();
        let acquired = call.acquire(deadline_after(timeout)).await;
        match &acquired {
            Ok(_) => {
                inner.metrics.acquired.add_one();
                inner.metrics.waited(start.elapsed());
            }
            Err(Error::Taken { .. }) => inner.metrics.taken.add_one(),
            Err(_) => inner.metrics.failed.add_one(),
        }
        acquired
    }
}

impl Deref for Inner {
    type Target = Purpose;

    fn deref(&self) -> &Purpose {
        &self.purpose
    }
}

/// One call of a user.
struct Call<'a> {
    inner: &'a Arc<Inner>,
    keys: Keys,
    caller: Caller,
    mode: Mode,
}

impl Call<'_> {
    async fn acquire(&self, deadline: Instant) -> Result<(Held, Fence), Error> {
        let (inner, mode) = (self.inner, self.mode);
        let mut left_behind = LeftBehind {
            call: self,
            is_something: false,
            was_unknown: false,
        };
        let mut after_a_fault = Backoff::new(Duration::from_millis(50), HEARTBEAT);
        let mut waiter = None;
        let mut counted = None;
        loop {
            let sent = Instant::now();
            let left = deadline.saturating_duration_since(sent);
            left_behind.is_something = true;
            let reply = inner.client.eval::<Vec<Value>>(self.attempt(left)).await;
            left_behind.was_unknown |= reply.as_ref().is_err_and(redkit_core::Error::is_maybe);
            match reply.and_then(scripts::read_attempt) {
                Ok(Attempt::Taken { holder, .. }) if left.is_zero() => {
                    left_behind.is_something = counted.is_some() && mode == Mode::Write;
                    return Err(Error::Taken {
                        holder: holder.map(Box::new),
                    });
                }
                Ok(Attempt::Taken { expires_in, .. }) => {
                    after_a_fault.reset();
                    left_behind.is_something = mode == Mode::Write;
                    counted.get_or_insert_with(|| inner.metrics.waiting());
                    let Some(waiter) = &mut waiter else {
                        // What happened before this was not told: try again.
                        waiter = timeout_at(deadline, self.waiter()).await.ok();
                        continue;
                    };
                    let expiry = expires_in.unwrap_or(HEARTBEAT) + Duration::from_millis(1);
                    let longest = match mode {
                        // A message may have gone to writers that wait, who may all be dead.
                        Mode::Read => left.min(WAITER_ALIVE),
                        Mode::Write => left.min(HEARTBEAT),
                    };
                    waiter.wait(expiry.min(longest)).await;
                }
                Ok(acquired) => {
                    let fence = match acquired {
                        Attempt::AcquiredAs(fence) => Some(fence),
                        _ => None,
                    };
                    left_behind.is_nothing();
                    if let Some(waiter) = waiter {
                        waiter.done();
                    }
                    let keys = self.keys.clone();
                    let held = Held::new(inner, keys, self.caller.clone(), fence, sent);
                    return match held.is_lost() {
                        true => Err(Error::Lost),
                        false => Ok((held, fence.unwrap_or(Fence::new(0)))),
                    };
                }
                Err(error) if left.is_zero() || !error.is_retryable() => return Err(error.into()),
                Err(_) => sleep(after_a_fault.next_pause().min(left)).await,
            }
        }
    }

    fn attempt(&self, left: Duration) -> redkit_core::Invocation {
        let settings = &self.inner.settings;
        let ttl = settings.local_ttl();
        let alive = match left.is_zero() {
            true => Duration::ZERO,
            false => WAITER_ALIVE,
        };
        match self.mode {
            Mode::Read => scripts::read(&self.keys, &self.caller, ttl),
            Mode::Write => scripts::write(&self.keys, &self.caller, ttl, settings.fence_ttl, alive),
        }
    }

    async fn waiter(&self) -> redkit_core::coordination::Waiter {
        let (name, wake) = match self.mode {
            Mode::Read => (&self.keys.lock, Wake::All),
            Mode::Write => (&self.keys.writers, Wake::One),
        };
        let inner = self.inner;
        let channel = inner.channel.clone();
        inner.client.waiter(channel, name.to_bytes(), wake).await
    }
}

/// What a caller leaves that was dropped, or gave up: a place among the waiting writers, and what an attempt may
/// have taken that was not answered.
struct LeftBehind<'a> {
    call: &'a Call<'a>,
    is_something: bool,
    was_unknown: bool,
}

impl LeftBehind<'_> {
    /// The lock is held: a guard gives it back.
    fn is_nothing(&mut self) {
        (self.is_something, self.was_unknown) = (false, false);
    }
}

impl Drop for LeftBehind<'_> {
    fn drop(&mut self) {
        if !self.is_something && !self.was_unknown {
            return;
        }
        let Call {
            inner,
            keys,
            caller,
            ..
        } = self.call;
        let call = scripts::release(keys, caller, &inner.channel);
        let release = Release::new([call.idempotent(true)])
            .patiently_until(Instant::now() + inner.settings.ttl)
            .counted_by(Arc::clone(&inner.metrics.unreleased));
        inner.client.release_later(release);
    }
}

/// Without keys.
impl fmt::Debug for ReadWriteLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadWriteLocks")
            .field("name", &self.inner.name)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}
