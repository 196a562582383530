//! [`Election`]: one leader among the processes that stand for it.

mod observer;
mod term;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use redkit_core::coordination::{Backoff, Release, lua};
use redkit_core::inspection::{Inspect, Snapshot};
use redkit_core::{Key, Script, ToArg};
use tokio::sync::watch;
use tokio::time::sleep;

pub use self::observer::LeaderObserver;
pub use self::term::Term;
use crate::error::Error;
use crate::fence::Fence;
use crate::guard::Guard;
use crate::keys::{keyspace, user_key};
use crate::manager::LockManager;

static ANNOUNCE: Script = Script::of_parts(&[
    lua::WAKE_UP,
    include_str!("../scripts/election_announce.lua"),
]);

/// One leader among the processes that stand for it, by a lock of a [`LockManager`]. It is cheap to clone;
/// clones are the same candidate.
///
/// ```
/// use redkit_lock::{Election, LockManager};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
/// # let client = redkit_core::Client::from_backend(backend, &Default::default())?;
/// let locks = LockManager::builder(&client, "schedulers").label("web-3").build()?;
/// let election = Election::new(&locks, "outbox-relay")?;
///
/// // Waits until this process is the leader, and works until the work ends or leadership does.
/// let done = election
///     .run(|term| async move {
///         println!("leading; write with the fence {}", term.fence());
///         42
///     })
///     .await?;
/// assert_eq!(done, 42);
/// # Ok(()) }
/// ```
///
/// The work is a loop that ends with the program. When it ends by itself, the next candidate leads and begins its own: for
/// what is to be done once in a while, take a lock with [`hold_at_least`](crate::LockManagerBuilder::hold_at_least).
///
/// # The order at the end of a term
/// Whether the work ended, [resigned](Term::resign), or lost the lock: **the work is stopped first** (its
/// future is dropped), then [`role`](Self::role) says [`Role::Follower`], and then the lock is given
/// back. So no two leaders work at once, as far as a lock can tell: a process that is held up for longer than
/// the lock's TTL works on for a moment when it wakes, and only the [fence](Term::fence) keeps its
/// writes out. Tasks that the work has spawned are the work's own: let them end with it.
///
/// # What it costs
/// The leader renews its lock once in a third of the manager's [`ttl`](crate::LockManagerBuilder::ttl), together with
/// all other leases of the client: at the default of 10 s about 0.3 commands a second. A longer TTL costs less,
/// and a leader that dies is followed later, within the TTL. Followers wait for the release; a
/// resignation is followed within one wake-up.
#[derive(Clone)]
pub struct Election {
    shared: Arc<Shared>,
}

struct Shared {
    locks: LockManager,
    key: Bytes,
    lock: Key,
    channel: Bytes,
    rest: Duration,
    role: watch::Sender<Role>,
    /// The last term of this process.
    term: Mutex<Option<Term>>,
    is_standing: AtomicBool,
    metrics: Metrics,
}

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Not the leader, whether it stands for it or not.
    Follower,
    /// The leader, with this fence.
    Leader(Fence),
}

struct Metrics {
    finished: Counter,
    resigned: Counter,
    lost: Counter,
    is_leader: Gauge,
}

/// How a term has ended.
enum End<T> {
    Finished(T),
    Resigned,
    Lost,
}

/// A candidate begins to wait anew after this time.
const STAND: Duration = Duration::from_secs(3_600);

/// How long a candidate that resigned lets others go first.
const REST: Duration = Duration::from_secs(1);

impl Election {
    /// A candidate for what `key` names: all processes that stand for the same key of managers with
    /// the same name elect one leader. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::EmptyKey`].
    pub fn new(locks: &LockManager, key: impl ToArg) -> Result<Self, Error> {
        let key = user_key(key)?;
        let client = &locks.inner.client;
        let name = locks.name();
        let terms = |end: &'static str| {
            metrics::counter!(
                "redkit_election_terms_total", "election" => name.to_owned(), "end" => end
            )
        };
        let (_, channel) = keyspace(client, "election", name)?;
        let shared = Arc::new(Shared {
            lock: locks.inner.keys(key.clone()).lock,
            channel,
            rest: REST,
            role: watch::Sender::new(Role::Follower),
            term: Mutex::default(),
            is_standing: AtomicBool::new(false),
            metrics: Metrics {
                finished: terms("finished"),
                resigned: terms("resigned"),
                lost: terms("lost"),
                is_leader: metrics::gauge!("redkit_election_leading", "election" => name.to_owned()),
            },
            locks: locks.clone(),
            key,
        });
        let inspected = Arc::downgrade(&shared);
        client.register(inspected as Weak<dyn Inspect>);
        Ok(Self { shared })
    }

    /// Stands for leadership until the work has ended, and gives what the work gives.
    ///
    /// `work` is begun anew for every term: when the lock is lost, or the leader
    /// [resigned](Self::resign), the work is dropped, and the candidate stands again (after a resignation
    /// a second later, so that another goes first). Faults of the server are outlived. To stop standing, drop
    /// this future: the work, the role and the lock end in that order.
    ///
    /// # Errors
    /// [`Error::Standing`] when this candidate stands already; [`Error::Core`] when the server refuses, such as
    /// a user without the right to the keys.
    pub async fn run<F, W>(&self, mut work: F) -> Result<W::Output, Error>
    where
        F: FnMut(Term) -> W,
        W: Future,
    {
        let _standing = Standing::begin(&self.shared)?;
        loop {
            let guard = self.stand().await?;
            // Dropped in the reverse order: first the work, then the role, then the lock.
            let leading = Leading::begin(&self.shared, guard);
            let mut work = Box::pin(work(leading.term.clone()));
            let end = leading.until_it_ends(work.as_mut()).await;
            drop(work);
            leading.end(&end).await;
            match end {
                End::Finished(value) => return Ok(value),
                End::Resigned => sleep(self.shared.rest).await,
                End::Lost => {}
            }
        }
    }

    /// Ends this process's term, if it leads: the work is stopped, and another candidate follows. Gives
    /// whether it led. To be called from outside the work; the work itself calls [`Term::resign`].
    pub fn resign(&self) -> bool {
        let term = self.shared.term_under_way();
        if let Some(term) = &term {
            term.resign();
        }
        term.is_some()
    }

    /// What this process is, and every change of it. It is a follower again when the work was stopped, which work that
    /// blocks its thread delays; [`is_leader`](Self::is_leader) looks at the clock as well.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.shared.role.subscribe()
    }

    /// Whether this process leads: its work is under way, and its lock is not lost by its own clock.
    pub fn is_leader(&self) -> bool {
        self.shared.term_under_way().is_some()
    }

    /// The leader, and every change of it, without standing.
    pub fn observe(&self) -> LeaderObserver {
        LeaderObserver::new(Arc::clone(&self.shared))
    }

    /// Waits for the lock, through faults.
    async fn stand(&self) -> Result<Guard, Error> {
        let shared = &self.shared;
        let mut pauses = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            match shared.locks.acquire(&shared.key, STAND).await {
                Ok(guard) => return Ok(guard),
                Err(Error::Taken { .. }) => pauses.reset(),
                Err(error) if error.is_retryable() => sleep(pauses.next_pause()).await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// A candidate that stands, once at a time.
struct Standing<'a>(&'a Shared);

impl<'a> Standing<'a> {
    fn begin(shared: &'a Shared) -> Result<Self, Error> {
        match shared.is_standing.swap(true, Ordering::AcqRel) {
            true => Err(Error::Standing),
            false => Ok(Self(shared)),
        }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.is_standing.store(false, Ordering::Release);
    }
}

/// A term under way. When it ends the role does first, then the lock, and then observers are told.
struct Leading<'a> {
    shared: &'a Arc<Shared>,
    term: Term,
    guard: Option<Guard>,
}

impl<'a> Leading<'a> {
    fn begin(shared: &'a Arc<Shared>, guard: Guard) -> Self {
        let fence = guard.fence();
        let term = Term::new(fence, guard.watch(), shared.role.subscribe());
        *shared.term.lock() = Some(term.clone());
        shared.role.send_replace(Role::Leader(fence));
        shared.metrics.is_leader.increment(1);
        shared.announce();
        Self {
            shared,
            term,
            guard: Some(guard),
        }
    }

    async fn until_it_ends<W: Future + Unpin>(&self, work: W) -> End<W::Output> {
        let lost = async {
            match &self.guard {
                Some(guard) => guard.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = lost => End::Lost,
            () = self.term.is_resigned() => End::Resigned,
            value = work => End::Finished(value),
        }
    }

    /// The work was dropped before.
    async fn end<T>(mut self, end: &End<T>) {
        let ended = match end {
            End::Finished(_) => &self.shared.metrics.finished,
            End::Resigned => &self.shared.metrics.resigned,
            End::Lost => &self.shared.metrics.lost,
        };
        ended.increment(1);
        self.follow();
        let Some(guard) = self.guard.take() else {
            return;
        };
        if let Err(error) = guard.release().await {
            tracing::debug!(target: "redkit::lock", %error, "the lock of a leader is given back in the background");
        }
    }

    fn follow(&self) {
        let leads = Role::Leader(self.term.fence());
        let was_leader = self.shared.role.send_if_modified(|role| {
            let was_leader = *role == leads;
            *role = Role::Follower;
            was_leader
        });
        if was_leader {
            self.shared.metrics.is_leader.decrement(1);
        }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.follow();
        drop(self.guard.take());
        // Behind the release, on the same way.
        self.shared.announce();
    }
}

impl Shared {
    fn term_under_way(&self) -> Option<Term> {
        let term = self.term.lock().clone();
        term.filter(|term| !term.is_over())
    }

    /// Lets observers look, in the background.
    fn announce(&self) {
        let call = ANNOUNCE
            .invoke([&self.lock])
            .arg(&self.channel)
            .arg(&self.key)
            .idempotent(true);
        self.locks.inner.client.release_later(Release::new([call]));
    }
}

impl Inspect for Shared {
    fn kind(&self) -> &'static str {
        "election"
    }

    fn name(&self) -> String {
        self.locks.name().to_owned()
    }

    fn snapshot(&self) -> Snapshot {
        let snapshot =
            Snapshot::default().fact("is_standing", self.is_standing.load(Ordering::Acquire));
        match self.term_under_way() {
            None => snapshot.fact("is_leader", false),
            Some(term) => {
                let fence = term.fence().get();
                snapshot.fact("is_leader", true).fact("fence", fence)
            }
        }
    }
}

/// Without the key.
impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election")
            .field("name", &self.shared.locks.name())
            .field("role", &*self.shared.role.borrow())
            .finish_non_exhaustive()
    }
}
