//! What a worker's tasks share, and how one message is handled.

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use redkit_core::coordination::{Release, Token};
use redkit_core::{AdmissionPermit, Admitted, Client};
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::held::Held;
use crate::inbox::ItemId;
use crate::metrics::WorkerMetrics;
use crate::topic::delivery::{Delivery, Handler, Outcome};
use crate::topic::entry::RawEntry;
use crate::topic::scripts::Seat;
use crate::topic::{Inner, WorkerStats};

/// An entry on its way to a handler.
pub(super) struct Job {
    pub(super) seat: usize,
    pub(super) entry: RawEntry,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// One partition, and what the worker has of it.
pub(super) struct HeldSeat {
    pub(super) seat: Seat,
    pub(super) held: Held,
    /// The token of the call that makes the group anew, until it is answered.
    pub(super) making: parking_lot::Mutex<Option<Token>>,
}

pub(super) struct Shared<T, H> {
    pub(super) client: Client,
    pub(super) topic: Arc<Inner>,
    pub(super) group: Box<str>,
    pub(super) settings: Settings,
    pub(super) handler: H,
    pub(super) seats: Vec<HeldSeat>,
    /// Room for entries in this process.
    pub(super) slots: Arc<Semaphore>,
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) queue: Mutex<mpsc::Receiver<Job>>,
    /// Nothing more is begun.
    pub(super) draining: CancellationToken,
    /// What runs is dropped.
    pub(super) aborting: CancellationToken,
    pub(super) metrics: WorkerMetrics,
    pub(super) counts: Counts,
    /// This worker's name among the members of an ordered group.
    pub(super) member: Box<str>,
    /// The partitions that it owns in an ordered group, by their tokens.
    pub(super) owned: parking_lot::Mutex<BTreeMap<usize, Token>>,
    pub(super) message: PhantomData<fn() -> T>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) acknowledged: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) handed_back: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) running: AtomicU64,
    pub(super) is_paused: AtomicBool,
}

impl Counts {
    pub(super) fn add(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl<T, H> Shared<T, H> {
    /// How many entries one partition's reader asks for at most, so that it does not keep the others'.
    pub(super) fn share(&self) -> usize {
        let at_once = self.settings.concurrency + self.settings.prefetch;
        at_once.div_ceil(self.seats.len().max(1))
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        self.counts.is_paused.store(is_paused, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> WorkerStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        WorkerStats {
            acknowledged: count(&counts.acknowledged),
            retried: count(&counts.retried),
            handed_back: count(&counts.handed_back),
            dead: count(&counts.dead),
            lost: count(&counts.lost),
            running: count(&counts.running),
            held: self.seats.iter().map(|seat| seat.held.len() as u64).sum(),
            partitions: match self.settings.is_ordered {
                true => self.owned.lock().len() as u64,
                false => self.seats.len() as u64,
            },
            is_paused: counts.is_paused.load(Ordering::Relaxed),
        }
    }

    /// Keeps what the worker has, three times in a lease, until it ends.
    pub(super) async fn keep(&self) {
        const AT_ONCE: usize = 500;
        loop {
            sleep(self.settings.lease / 3).await;
            for seat in &self.seats {
                let known = seat.held.ids();
                if known.is_empty() {
                    // What it does not know of goes back.
                    self.keep_these(seat, &[], self.settings.lease).await;
                }
                for ids in known.chunks(AT_ONCE) {
                    // Only a call that names everything may say what is not known.
                    let unknown_after = match ids.len() == known.len() {
                        true => self.settings.lease,
                        false => Duration::MAX,
                    };
                    self.keep_these(seat, ids, unknown_after).await;
                }
            }
        }
    }

    /// Gives whether the worker owned all of them still, as far as it could be asked.
    async fn keep_these(&self, seat: &HeldSeat, ids: &[ItemId], unknown_after: Duration) -> bool {
        let sent = Instant::now();
        match seat.seat.heartbeat(&self.client, ids, unknown_after).await {
            Ok(lost) => {
                seat.held.kept(ids, &lost, sent);
                lost.is_empty()
            }
            Err(error) if super::line::is_group_missing(&error) => {
                seat.held.kept(ids, ids, sent);
                false
            }
            Err(error) => {
                tracing::debug!(target: "redkit::pubsub", %error, "a heartbeat failed");
                false
            }
        }
    }
}

impl<T: DeserializeOwned + Send + 'static, H: Handler<T>> Shared<T, H> {
    /// Handles messages until the worker drains.
    pub(super) async fn work(&self) {
        loop {
            let job = tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                job = async { self.queue.lock().await.recv().await } => job,
            };
            let Some(job) = job else { return };
            if let Some(seat) = self.seats.get(job.seat) {
                self.handle(seat, &job.entry).await;
            }
        }
    }

    async fn handle(&self, seat: &HeldSeat, entry: &RawEntry) {
        let Some(lost) = seat.held.token(entry.entry) else {
            return;
        };
        let _unless_it_panics = Unfinished {
            shared: self,
            seat,
            entry,
            lost: &lost,
        };
        if !self.is_owned(seat, entry).await {
            return;
        }
        if !entry.group.is_empty() && *entry.group != *self.group.as_bytes() {
            self.settle(seat, entry, &lost, Outcome::Ack).await;
            return;
        }
        let delivery = match self.open(seat, entry, &lost) {
            Ok(delivery) => delivery,
            Err(reason) => {
                self.settle(seat, entry, &lost, Outcome::Dead { reason })
                    .await;
                return;
            }
        };
        if entry.deliveries > self.settings.max_attempts {
            let reason = format!(
                "{} attempts ended without an outcome: their consumers died",
                entry.deliveries - 1
            );
            self.settle(seat, entry, &lost, Outcome::Dead { reason })
                .await;
            return;
        }
        let Some(admitted) = self.admit(&lost).await else {
            // Handed back with all that is held when the worker drains.
            return;
        };
        let outcome = tokio::select! {
            biased;
            () = self.aborting.cancelled() => return,
            () = lost.cancelled() => None,
            outcome = self.run(delivery) => Some(outcome),
        };
        drop(admitted);
        match outcome {
            Some(outcome) => self.settle(seat, entry, &lost, outcome).await,
            None => self.count_lost(),
        }
    }

    pub(super) fn open(
        &self,
        seat: &HeldSeat,
        entry: &RawEntry,
        lost: &CancellationToken,
    ) -> Result<Delivery<T>, String> {
        let Some(payload) = entry.payload.clone() else {
            return Err("it has no message".to_owned());
        };
        let key = seat.seat.partition.stream.as_bytes();
        let decode = || self.client.codec().decode::<T>(key, payload);
        // A type that panics while it is decoded must not end the task.
        let decoded = std::panic::catch_unwind(AssertUnwindSafe(decode));
        let payload = match decoded {
            Ok(Ok(payload)) => payload,
            Ok(Err(error)) => return Err(format!("it cannot be decoded: {error}")),
            Err(panic) => return Err(format!("decoding it panicked: {}", panic_text(&*panic))),
        };
        Ok(Delivery {
            payload,
            id: String::from_utf8_lossy(&entry.id).into_owned(),
            key: entry.key.clone(),
            headers: entry.read_headers(),
            entry: entry.entry,
            attempt: entry.deliveries,
            lost: lost.clone(),
        })
    }

    /// After a time in which this process was held up, the entry may be another's: better to ask than to
    /// handle it twice.
    async fn is_owned(&self, seat: &HeldSeat, entry: &RawEntry) -> bool {
        let Some(owned) = seat.held.owned(entry.entry) else {
            self.count_lost();
            return false;
        };
        if owned.elapsed() < self.settings.lease / 2 {
            return true;
        }
        let asked = self.keep_these(seat, &[entry.entry], Duration::MAX).await;
        if !asked && seat.held.owned(entry.entry).is_none() {
            self.count_lost();
            return false;
        }
        true
    }

    /// `None` when the worker drains, or the message is lost, before it may begin.
    pub(super) async fn admit(&self, lost: &CancellationToken) -> Option<Option<AdmissionPermit>> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let Some(admission) = &self.settings.admission else {
            return Some(None);
        };
        let key = format!("{}:{}", self.topic.name, self.group);
        let admitted = async {
            loop {
                match admission.admit(key.as_bytes(), PATIENCE).await {
                    Ok(Admitted::Now(permit)) => return permit,
                    Ok(Admitted::Later(after)) => sleep(after.min(PATIENCE)).await,
                    Err(error) => {
                        tracing::debug!(target: "redkit::pubsub", %error, "nobody admits a message");
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = self.draining.cancelled() => None,
            () = lost.cancelled() => {
                self.count_lost();
                None
            }
            permit = admitted => Some(Some(permit)),
        }
    }

    /// Runs the handler, which may panic or never return.
    pub(super) async fn run(&self, delivery: Delivery<T>) -> Outcome {
        let running = Running::new(&self.counts.running);
        let started = Instant::now();
        let handling = async { self.handler.handle(delivery).await };
        let handling = AssertUnwindSafe(handling).catch_unwind();
        let outcome = match timeout(self.settings.timeout, handling).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => {
                Outcome::retry(format!("the handler panicked: {}", panic_text(&*panic)))
            }
            Err(_) => Outcome::retry(format!(
                "the handler took longer than {:?}",
                self.settings.timeout
            )),
        };
        self.metrics.seconds.record(started.elapsed());
        drop(running);
        outcome
    }
}

impl<T, H> Shared<T, H> {
    pub(super) fn count_lost(&self) {
        self.metrics.lost.increment(1);
        self.counts.add(&self.counts.lost);
    }
}

/// An entry that a task has. Should the task panic (as when a handler that took too long does so while it is
/// dropped), that was a failed attempt: the entry is not kept for a task that is not there any more.
struct Unfinished<'a, T, H> {
    shared: &'a Shared<T, H>,
    seat: &'a HeldSeat,
    entry: &'a RawEntry,
    lost: &'a CancellationToken,
}

impl<T, H> Drop for Unfinished<'_, T, H> {
    fn drop(&mut self) {
        if !std::thread::panicking() || !self.seat.held.remove(self.entry.entry, self.lost) {
            return;
        }
        let (attempt, settings) = (self.entry.deliveries, &self.shared.settings);
        let after = settings.pause_after(attempt);
        let release = (self.entry.entry, attempt, attempt, after);
        let release = Release::new([self.seat.seat.release([release])]);
        let until = Instant::now() + settings.lease;
        self.shared.client.release_later(release.until(until));
        self.shared.metrics.retried.increment(1);
        self.shared.counts.add(&self.shared.counts.retried);
    }
}

/// Counts a running handler, also when it is dropped.
struct Running<'a>(&'a AtomicU64);

impl<'a> Running<'a> {
    fn new(running: &'a AtomicU64) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
