//! Ordered groups: each partition is one worker's, under a lease, and its messages are handled one after
//! the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::{Backoff, Lease, LeaseConfig, LeaseRenewal, Token, Wake};
use redkit_core::random::random_range;
use redkit_core::{Command, Error, Invocation, Key, Value};
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::handle::Permission;
use super::line::is_group_missing;
use super::making::{make_missing, remake};
use super::reader::{TRIM, trim};
use super::run::{HeldSeat, OwnedPartition, Shared};
use super::settle::cut;
use crate::error::is_shut_down;
use crate::page_size::PageSize;
use crate::topic::delivery::{BatchHandler, Outcome};
use crate::topic::entry::RawEntry;
use crate::topic::ordered_scripts;
use crate::topic::scripts::{Burial, Tick};

/// How often a worker looks whether it has its share of the partitions.
const BALANCE: Duration = Duration::from_millis(500);
/// How often an owner looks for messages of which nobody told it.
const TICK: Duration = Duration::from_millis(500);

/// How the lease on a partition is renewed.
struct Ownership {
    owner: Key,
    token: Token,
}

impl LeaseRenewal for Ownership {
    fn renew(&self, ttl: Duration) -> Invocation {
        ordered_scripts::own(&self.owner, self.token, ttl)
    }
}

/// A partition that this worker owns.
struct Owned {
    yielding: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// Takes this worker's share of the partitions, until it drains.
pub(super) async fn balance<T, H>(shared: Arc<Shared<T, H>>)
where
    T: DeserializeOwned + Send + 'static,
    H: BatchHandler<T>,
{
    let mut owned: BTreeMap<usize, Owned> = BTreeMap::new();
    while !shared.draining.is_cancelled() {
        owned.retain(|_, owned| !owned.task.is_finished());
        match share_of(&shared).await {
            Ok(share) => {
                // The others are given up after the message that is being handled.
                for owned in owned.values().skip(share) {
                    owned.yielding.cancel();
                }
                take_up_to(&shared, share, &mut owned).await;
            }
            Err(error) => {
                tracing::debug!(target: "redkit::pubsub", %error, "partitions are shared out later");
            }
        }
        tokio::select! {
            biased;
            () = sleep(BALANCE.mul_f64(random_range(0.8..=1.2))) => {}
            () = shared.draining.cancelled() => {}
        }
    }
    // Others take what is given up while the last handlers run.
    if let Some(members) = members(&shared) {
        let gone = Command::new("ZREM").key(&members).arg(&*shared.member);
        drop(shared.client.call::<u64>(gone.idempotent(true)).await);
    }
    for owned in owned.into_values() {
        drop(owned.task.await);
    }
}

fn members<T, H>(shared: &Shared<T, H>) -> Option<Key> {
    let first = shared.seats.first()?;
    Some(first.seat.partition.members(&shared.group))
}

/// How many partitions this worker is to have.
async fn share_of<T, H>(shared: &Shared<T, H>) -> Result<usize, Error> {
    let Some(members) = members(shared) else {
        return Ok(0);
    };
    let call = ordered_scripts::members(&members, &shared.member, shared.settings.lease);
    let (count, before): (u64, u64) = shared.client.eval(call).await?;
    let partitions = shared.seats.len() as u64;
    let share = partitions / count.max(1) + u64::from(before < partitions % count.max(1));
    Ok(usize::try_from(share).unwrap_or(usize::MAX))
}

async fn take_up_to<T, H>(
    shared: &Arc<Shared<T, H>>,
    share: usize,
    owned: &mut BTreeMap<usize, Owned>,
) where
    T: DeserializeOwned + Send + 'static,
    H: BatchHandler<T>,
{
    // Workers that start together do not all ask for the same ones first.
    let first = random_range(0..shared.seats.len().max(1));
    for index in (0..shared.seats.len()).map(|n| (n + first) % shared.seats.len()) {
        if owned.len() >= share || shared.draining.is_cancelled() {
            return;
        }
        let Some(seat) = shared.seats.get(index) else {
            continue;
        };
        if owned.contains_key(&index) {
            continue;
        }
        let (token, sent) = (Token::random(), Instant::now());
        let (owner, lease) = (&seat.seat.keys.owner, shared.settings.lease);
        // The token makes it harmless to ask twice.
        let call = ordered_scripts::take_ownership(owner, token, lease);
        match shared.client.eval::<u64>(call).await {
            Ok(1) => {
                let renewal = Ownership {
                    owner: owner.clone(),
                    token,
                };
                let lease = shared.client.lease(renewal, LeaseConfig::new(lease), sent);
                let yielding = CancellationToken::new();
                let owner = Owner {
                    shared: Arc::clone(shared),
                    index,
                    token,
                    lease,
                    yielding: yielding.clone(),
                };
                let partition = OwnedPartition {
                    token,
                    is_busy: false,
                };
                shared.owned.lock().insert(index, partition);
                let task = AbortOnDropHandle::new(tokio::spawn(owner.run()));
                owned.insert(index, Owned { yielding, task });
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(target: "redkit::pubsub", %error, "a partition is taken later");
                return;
            }
        }
    }
}

/// The owner of one partition.
struct Owner<T, H> {
    shared: Arc<Shared<T, H>>,
    index: usize,
    token: Token,
    lease: Lease,
    yielding: CancellationToken,
}

/// What an owner does after a message.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    /// The partition is another worker's, or is to be.
    Stop,
    /// The message has had a failed attempt, and has another one after this time.
    TryAgain(Duration),
}

impl<T, H> Owner<T, H>
where
    T: DeserializeOwned + Send + 'static,
    H: BatchHandler<T>,
{
    async fn run(self) {
        tokio::select! {
            biased;
            () = self.lease.lost() => {
                // Its handler is dropped. Whatever it sends from now on is refused.
                self.shared.count_lost();
            }
            () = self.consume() => {}
        }
        let was_held = self.lease.end();
        self.shared.owned.lock().remove(&self.index);
        if was_held && let Some(seat) = self.shared.seats.get(self.index) {
            let call = ordered_scripts::disown(&seat.seat, self.token);
            if let Err(error) = self.shared.client.eval::<Value>(call).await {
                tracing::debug!(target: "redkit::pubsub", %error, "a partition is free when its lease is over");
            }
        }
    }

    fn stops(&self) -> bool {
        self.yielding.is_cancelled() || self.shared.draining.is_cancelled()
    }

    async fn consume(&self) {
        let Some(seat) = self.shared.seats.get(self.index) else {
            return;
        };
        let shared = &self.shared;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let number = seat.seat.partition.number.to_string();
        let wake = shared.topic.wake.as_ref().map(Key::to_bytes);
        let mut waiter = match wake {
            Some(wake) => Some(shared.client.waiter(wake, number, Wake::All).await),
            None => None,
        };
        let mut is_first = true;
        let mut page_size = PageSize::new();
        let mut next_trim = Instant::now() + TRIM;
        // A slot for which the owner has waited for so long that it looks again before it uses it.
        let mut slot = None;
        while !self.stops() {
            if !make_missing(shared, seat).await {
                slot = None;
                self.pause(backoff.next_pause()).await;
                continue;
            }
            if Instant::now() >= next_trim && !trim(shared, seat).await {
                next_trim = Instant::now() + TRIM;
            }
            let count = page_size.of(1 + shared.settings.prefetch);
            let taken =
                ordered_scripts::take(&seat.seat, &shared.client, count, is_first, self.token)
                    .await;
            let (next_due, is_paused, entries) = match taken {
                Ok(None) => return,
                Ok(Some(Tick::NoGroup)) => {
                    slot = None;
                    remake(shared, seat).await;
                    self.pause(backoff.next_pause()).await;
                    continue;
                }
                Ok(Some(Tick::Done {
                    next_due,
                    is_paused,
                    taken,
                })) => (next_due, is_paused, taken),
                Err(error) => {
                    slot = None;
                    if error.is_maybe() {
                        page_size.was_lost(count);
                    }
                    let pause = backoff.next_pause();
                    tracing::debug!(target: "redkit::pubsub", %error, ?pause, "a topic is read again");
                    self.pause(pause).await;
                    continue;
                }
            };
            backoff.reset();
            page_size.came();
            is_first = false;
            shared.set_paused(is_paused);
            let is_empty = entries.is_empty();
            let next_look = Instant::now() + TICK;
            for entry in entries {
                let has = match slot.take() {
                    Some(slot) => slot,
                    None => match self.slot().await {
                        Some(slot) => slot,
                        None => return,
                    },
                };
                // The group may be paused meanwhile. What was taken and is not acknowledged is given again.
                if Instant::now() >= next_look {
                    slot = Some(has);
                    break;
                }
                if self.stops() || self.handle(seat, entry, has).await != Next::GoOn {
                    return;
                }
            }
            if is_empty {
                slot = None;
                let wait = next_due.map_or(TICK, |due| due.min(TICK));
                let wait = wait.max(Duration::from_millis(10));
                tokio::select! {
                    biased;
                    () = async {
                        match &mut waiter {
                            Some(waiter) => drop(waiter.wait(wait).await),
                            None => sleep(wait).await,
                        }
                    } => {}
                    () = self.stopped() => {}
                }
            }
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            biased;
            () = sleep(time) => {}
            () = self.stopped() => {}
        }
    }

    async fn stopped(&self) {
        tokio::select! {
            biased;
            () = self.yielding.cancelled() => {}
            () = self.shared.draining.cancelled() => {}
        }
    }

    /// A place among the handlers that run; `None` when the owner is to stop, also while others have all places.
    async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        tokio::select! {
            biased;
            () = self.stopped() => None,
            slot = self.shared.slots.acquire() => slot.ok(),
        }
    }

    /// Handles one message until it is done: those behind it wait.
    async fn handle(
        &self,
        seat: &HeldSeat,
        mut entry: RawEntry,
        mut slot: SemaphorePermit<'_>,
    ) -> Next {
        let shared = &self.shared;
        let lost = CancellationToken::new();
        let _lost_at_the_end = lost.clone().drop_guard();
        loop {
            let is_for_others = !entry.group.is_empty() && *entry.group != *shared.group.as_bytes();
            let outcome = match shared.open(seat, &entry, &lost) {
                _ if is_for_others => Outcome::Ack,
                Err(reason) => Outcome::Dead { reason },
                Ok(_) if entry.deliveries > shared.settings.max_attempts => {
                    Outcome::dead("its attempts ended without an outcome: their consumers died")
                }
                Ok(delivery) => {
                    let Permission::Given(_admitted) = shared.admit(&lost).await else {
                        return Next::Stop;
                    };
                    // Whatever came before may have taken its time.
                    if self.lease.is_lost() || !self.mark_busy(true) {
                        return Next::Stop;
                    }
                    tokio::select! {
                        biased;
                        () = shared.aborting.cancelled() => {
                            self.mark_busy(false);
                            return Next::Stop;
                        }
                        outcomes = shared.run(vec![delivery]) => match outcomes.into_iter().next() {
                            Some(outcome) => outcome,
                            None => Outcome::retry("the handler gave no outcome"),
                        },
                    }
                }
            };
            // Others may handle while this outcome is on its way: the server may take its time.
            drop(slot);
            let pause = match self.settle(seat, &mut entry, outcome).await {
                Next::TryAgain(pause) => pause,
                next => return next,
            };
            tokio::select! {
                biased;
                () = sleep(pause) => {}
                () = self.stopped() => return Next::Stop,
            }
            slot = match self.slot().await {
                Some(slot) => slot,
                None => return Next::Stop,
            };
        }
    }

    /// Tells the server what became of a message.
    async fn settle(&self, seat: &HeldSeat, entry: &mut RawEntry, outcome: Outcome) -> Next {
        let shared = &self.shared;
        let attempt = entry.deliveries;
        let next = match outcome {
            Outcome::Ack => self.ack(seat, entry).await,
            Outcome::Dead { reason } => self.bury(seat, entry, &reason).await,
            Outcome::Retry { reason, .. } if attempt >= shared.settings.max_attempts => {
                self.bury(seat, entry, &reason).await
            }
            Outcome::Retry { after, .. } => {
                Next::TryAgain(after.unwrap_or_else(|| shared.settings.pause_after(attempt)))
            }
            Outcome::HandBack => {
                self.mark_busy(false);
                shared.metrics.handed_back.increment(1);
                shared.counts.add(&shared.counts.handed_back);
                return Next::TryAgain(Duration::from_millis(10));
            }
        };
        let Next::TryAgain(pause) = next else {
            return next;
        };
        entry.deliveries = attempt.saturating_add(1);
        let call = ordered_scripts::attempt(&seat.seat, entry, self.token);
        let told = self.tell(call).await;
        if told == Next::Stop {
            return Next::Stop;
        }
        shared.metrics.retried.increment(1);
        shared.counts.add(&shared.counts.retried);
        match told {
            // Only this owner counts it, then.
            Next::TryAgain(longest) => Next::TryAgain(longest),
            _ => Next::TryAgain(pause),
        }
    }

    async fn ack(&self, seat: &HeldSeat, entry: &RawEntry) -> Next {
        let retention = self.shared.topic.retention;
        let next = self
            .tell(ordered_scripts::ack(
                &seat.seat, entry, retention, self.token,
            ))
            .await;
        if next == Next::GoOn {
            self.shared.metrics.acknowledged.increment(1);
            self.shared.counts.add(&self.shared.counts.acknowledged);
        }
        next
    }

    async fn bury(&self, seat: &HeldSeat, entry: &RawEntry, reason: &str) -> Next {
        let letter = Burial {
            retention: self.shared.topic.retention.as_str(),
            reason: cut(reason),
            most: self.shared.settings.most_dead,
            keep: self.shared.settings.keep_dead,
        };
        let next = self
            .tell(ordered_scripts::bury(
                &seat.seat, entry, &letter, self.token,
            ))
            .await;
        if next == Next::GoOn {
            self.shared.metrics.dead.increment(1);
            self.shared.counts.add(&self.shared.counts.dead);
        }
        next
    }

    /// Tells the server until it answers; without the lease it is not told any more.
    async fn tell(&self, call: Invocation) -> Next {
        self.mark_busy(true);
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let next = loop {
            let error = match self.shared.client.eval::<Value>(call.clone()).await {
                Ok(Value::Int(-1)) => {
                    self.shared.count_lost();
                    break Next::Stop;
                }
                Ok(_) => break Next::GoOn,
                Err(error) => error,
            };
            if is_group_missing(&error) {
                break Next::GoOn;
            }
            if is_shut_down(&error) {
                tracing::debug!(target: "redkit::pubsub", %error, "an outcome is not told any more");
                break Next::Stop;
            }
            if !error.is_retryable() {
                // A right is missing, say. Were the partition given up, the next owner would handle the message at once, and no
                // attempt would be counted: so it is put off for as long as an attempt ever is.
                let shared = &self.shared;
                tracing::error!(
                    target: "redkit::pubsub", topic = &*shared.topic.name, group = &*shared.group, %error,
                    "the server refuses an outcome; the message is tried again later"
                );
                break Next::TryAgain(shared.settings.backoff.1);
            }
            sleep(backoff.next_pause()).await;
        };
        self.mark_busy(false);
        next
    }

    /// From before a message is handled until the server knows its outcome the partition is not given up over the
    /// owner's head: the outcome would be refused. Gives whether it is this owner's still.
    fn mark_busy(&self, is_busy: bool) -> bool {
        let mut owned = self.shared.owned.lock();
        let partition = owned.get_mut(&self.index);
        partition
            .map(|partition| partition.is_busy = is_busy)
            .is_some()
    }
}
