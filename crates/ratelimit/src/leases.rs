//! [`Leases`]: the leases that a limiter's permits hold, renewed by one task.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use parking_lot::Mutex;
use redkit_core::{Client, Key, Tally};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::release_queue::ReleaseQueue;
use crate::scripts::{self, Id, micros};

/// The leases that a limiter's permits hold in this process.
pub(crate) struct Leases {
    lease: Duration,
    held: Mutex<HashMap<Id, Lease>>,
    /// Renews all of them. It runs from the first lease on, for as long as this lives.
    task: Mutex<Option<AbortOnDropHandle<()>>>,
    pub(crate) releases: Arc<ReleaseQueue>,
    lost: Tally,
}

struct Lease {
    client: Client,
    key: Key,
    until: watch::Sender<Instant>,
}

/// Renewals that are under way at the same time, without those that make the others wait too long.
const AT_ONCE: usize = 32;
/// Leases that one call renews.
const PER_CALL: usize = 500;

impl Leases {
    pub(crate) fn new(limiter: &str, lease: Duration, releases: &Arc<ReleaseQueue>) -> Self {
        Self {
            lease,
            held: Mutex::default(),
            task: Mutex::default(),
            releases: Arc::clone(releases),
            lost: Tally::new(metrics::counter!(
                "redkit_ratelimit_permits_lost_total", "limiter" => limiter.to_owned()
            )),
        }
    }

    /// Renews a lease, asked for at `since`, from now on. Gives until when it is certainly held.
    pub(crate) fn keep(
        self: &Arc<Self>,
        client: &Client,
        key: &Key,
        id: Id,
        since: Instant,
    ) -> watch::Receiver<Instant> {
        let (until, receiver) = watch::channel(since + self.certain());
        let lease = Lease {
            client: client.clone(),
            key: key.clone(),
            until,
        };
        self.held.lock().insert(id, lease);
        let mut task = self.task.lock();
        if task.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let leases = Arc::downgrade(self);
            let renewing = renew_for_ever(leases, self.lease / 3);
            *task = Some(AbortOnDropHandle::new(tokio::spawn(renewing)));
        }
        receiver
    }

    /// Stops renewing a lease.
    pub(crate) fn let_go(&self, id: Id) {
        self.held.lock().remove(&id);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.held.lock().len()
    }

    pub(crate) fn lost_so_far(&self) -> u64 {
        self.lost.get()
    }

    /// Stops renewing the leases whose time is up.
    fn give_up(&self) {
        let now = Instant::now();
        self.held.lock().retain(|_, lease| {
            let is_lost = *lease.until.borrow() <= now;
            if is_lost {
                self.lost.add_one();
            }
            !is_lost
        });
    }

    /// For how long a lease is certainly held: less by what two clocks may differ in speed.
    fn certain(&self) -> Duration {
        self.lease - self.lease / 100
    }

    /// Renews all leases once, the leases of one key in one call.
    async fn renew(&self) {
        let mut by_key: HashMap<Key, (Client, Vec<Id>)> = HashMap::new();
        for (id, lease) in &*self.held.lock() {
            let entry = by_key.entry(lease.key.clone());
            let (_, ids) = entry.or_insert_with(|| (lease.client.clone(), Vec::new()));
            ids.push(*id);
        }
        let calls: Vec<_> = by_key
            .into_iter()
            .flat_map(|(key, (client, ids))| {
                let chunks: Vec<Vec<Id>> = ids.chunks(PER_CALL).map(<[Id]>::to_vec).collect();
                chunks
                    .into_iter()
                    .map(move |ids| (client.clone(), key.clone(), ids))
            })
            .collect();
        let turns = Semaphore::new(AT_ONCE);
        stream::iter(calls)
            .for_each_concurrent(None, |(client, key, ids)| {
                self.renew_some(&turns, client, key, ids)
            })
            .await;
    }

    async fn renew_some(&self, turns: &Semaphore, client: Client, key: Key, ids: Vec<Id>) {
        let turn = turns.acquire().await.ok();
        let since = Instant::now();
        let mut call = pin!(scripts::renew(&client, &key, micros(self.lease), &ids));
        // A shard that hangs must not hold up the leases of the others: a slow call loses its turn
        // but goes on, and ends early enough for further attempts.
        let in_turn = timeout(self.lease / 600, &mut call).await;
        drop(turn);
        let renewed = match in_turn {
            Ok(renewed) => Ok(renewed),
            Err(_) => timeout_at(since + self.lease / 6, call).await,
        };
        let renewed = match renewed {
            Ok(Ok(renewed)) => renewed,
            // They are lost when their time is up; until then there are further attempts.
            Ok(Err(error)) => {
                tracing::warn!(target: "redkit::ratelimit", %error, leases = ids.len(), "cannot renew");
                return;
            }
            Err(_) => {
                tracing::warn!(target: "redkit::ratelimit", leases = ids.len(), "cannot renew in time");
                return;
            }
        };
        let mut held = self.held.lock();
        for (id, renewed) in ids.iter().zip(renewed) {
            // Lost once is lost for ever, also when the server was late to say that it still stood.
            let stands = |lease: &Lease| renewed && *lease.until.borrow() > Instant::now();
            match held.get(id) {
                Some(lease) if stands(lease) => {
                    lease.until.send_replace(since + self.certain());
                }
                Some(lease) => {
                    lease.until.send_replace(since);
                    held.remove(id);
                    self.lost.add_one();
                }
                None => {}
            }
        }
    }
}

async fn renew_for_ever(leases: Weak<Leases>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(leases) = leases.upgrade() else {
            return;
        };
        leases.give_up();
        leases.renew().await;
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases")
            .field("held", &self.count())
            .finish_non_exhaustive()
    }
}
