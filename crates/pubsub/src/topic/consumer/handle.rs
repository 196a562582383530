//! How messages are handled: gathered, opened, admitted, given to the handler, settled.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use redkit_core::coordination::Release;
use redkit_core::{AdmissionPermit, Admitted};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::jobs::{Job, JobQueue};
use super::run::{HeldSeat, Shared};
use crate::inbox::ItemId;
use crate::topic::delivery::{BatchHandler, Delivery, Outcome};
use crate::topic::entry::RawEntry;
use crate::topic::span::{self, Cut};

impl<T: DeserializeOwned + Send + 'static, H: BatchHandler<T>> Shared<T, H> {
    /// Handles messages until the worker drains.
    pub(super) async fn work(&self) {
        let mut draining = pin!(self.draining.cancelled());
        loop {
            let jobs = tokio::select! {
                biased;
                () = &mut draining => return,
                jobs = self.gather() => jobs,
            };
            let mut gathered = Gathered {
                queue: &self.jobs,
                jobs,
            };
            tokio::select! {
                biased;
                () = &mut draining => return,
                () = self.not_paused() => {}
            }
            self.handle(&mut gathered).await;
        }
    }

    /// The next message, and those that come soon behind it, as many as a handler takes at once.
    async fn gather(&self) -> VecDeque<Job> {
        let (most, wait) = self.settings.batch;
        if most == 1 {
            return VecDeque::from([self.jobs.take().await]);
        }
        let _turn = self.gathering.lock().await;
        let mut jobs = VecDeque::with_capacity(most);
        let first = self.jobs.take().await;
        let mut until = Instant::now() + wait;
        let mut next = Some(first);
        while let Some(job) = next {
            if job.has_waited {
                // Also when it was given back behind the first one.
                until = Instant::now();
            }
            jobs.push_back(job);
            if jobs.len() == most {
                break;
            }
            next = timeout_at(until, self.jobs.take()).await.ok();
        }
        jobs
    }

    /// Handles the first of the messages, and as many behind it as are admitted at once. The others go back to the queue:
    /// other tasks may have nothing to do while this one's handler takes its time.
    ///
    /// No message waits for its permit while others hold theirs: these might be what it waits for.
    async fn handle(&self, gathered: &mut Gathered<'_>) {
        let mut prepared = Vec::with_capacity(gathered.jobs.len());
        let mut opened = Vec::with_capacity(gathered.jobs.len());
        while let Some(job) = gathered.jobs.pop_front() {
            let Some(seat) = self.seats.get(job.seat) else {
                continue;
            };
            if job.lost.is_cancelled() {
                continue;
            }
            let mut entry = Unfinished {
                shared: self,
                index: job.seat,
                seat,
                entry: job.entry,
                permit: job.permit,
                lost: job.lost,
            };
            let Some(delivery) = self.prepare(&mut entry).await else {
                continue;
            };
            let admitted = match prepared.is_empty() {
                true => self.admit(&entry.lost).await,
                false => self.admit_at_once(&entry.lost).await,
            };
            match admitted {
                Permission::Given(permit) => {
                    prepared.push((entry, permit));
                    opened.push(delivery);
                }
                Permission::Later => {
                    gathered.jobs.push_front(Job {
                        seat: entry.index,
                        entry: entry.entry.clone(),
                        lost: entry.lost.clone(),
                        permit: entry.permit.take(),
                        has_waited: true,
                    });
                    gathered.put_back();
                    break;
                }
                // Handed back with all that is held.
                Permission::Never if self.draining.is_cancelled() => return,
                Permission::Never => {}
            }
        }
        // Last of all: whatever came before may have taken its time.
        self.ask_for(&prepared).await;
        if self.draining.is_cancelled() {
            return;
        }
        let (mut taken, mut deliveries) = (Vec::new(), Vec::new());
        for ((entry, permit), delivery) in prepared.into_iter().zip(opened) {
            if self.begins(&entry) {
                taken.push((entry, permit));
                deliveries.push(delivery);
            }
        }
        if taken.is_empty() {
            return;
        }
        let Some(outcomes) = self.handle_until_lost(&taken, deliveries).await else {
            // Handed back with all that is held.
            for (entry, _) in &taken {
                entry.seat.held.is_cut(entry.entry.entry, &entry.lost);
            }
            return;
        };
        let mut outcomes = outcomes.into_iter();
        let mut others = Vec::new();
        for (mut entry, permit) in taken {
            drop(permit);
            match outcomes.next() {
                // The handler is free for the next message; this one keeps its room until the server has answered.
                Some(Outcome::Ack) if !entry.lost.is_cancelled() => {
                    let room = entry.permit.take();
                    entry.seat.acknowledge(&entry.entry, &entry.lost, room);
                }
                Some(outcome) if !entry.lost.is_cancelled() => others.push((entry, outcome)),
                _ => self.count_lost(),
            }
        }
        let others = others.iter().map(|(entry, outcome)| {
            let Unfinished {
                seat,
                entry: raw,
                lost,
                ..
            } = entry;
            self.settle(seat, raw, lost, outcome.clone())
        });
        join_all(others).await;
    }

    /// Runs the handler; no outcomes when all of its messages were lost meanwhile, and `None` when the worker ends.
    async fn handle_until_lost<P>(
        &self,
        taken: &[(Unfinished<'_, T, H>, P)],
        deliveries: Vec<Delivery<T>>,
    ) -> Option<Vec<Outcome>> {
        let mut handling = pin!(self.run(deliveries));
        // Many handlers end at once; for those nothing else need be waited for.
        let at_once = poll_fn(|context| Poll::Ready(handling.as_mut().poll(context)));
        if let Poll::Ready(outcomes) = at_once.await {
            return Some(outcomes);
        }
        let all_lost = async {
            for (entry, _) in taken {
                entry.lost.cancelled().await;
            }
        };
        tokio::select! {
            biased;
            () = self.aborting.cancelled() => None,
            () = all_lost => Some(Vec::new()),
            outcomes = handling => Some(outcomes),
        }
    }

    /// What the handler is given; `None` for an entry that it is not to see.
    async fn prepare(&self, of: &mut Unfinished<'_, T, H>) -> Option<Delivery<T>> {
        let Unfinished {
            seat, entry, lost, ..
        } = of;
        if !entry.group.is_empty() && *entry.group != *self.group.as_bytes() {
            // It keeps its room until the server has answered.
            seat.acknowledge(entry, lost, of.permit.take());
            return None;
        }
        let delivery = match self.open(seat, entry, lost) {
            Ok(delivery) => delivery,
            Err(reason) => {
                self.settle(seat, entry, lost, Outcome::Dead { reason })
                    .await;
                return None;
            }
        };
        if entry.deliveries > self.settings.max_attempts {
            let reason = format!(
                "{} attempts ended without an outcome: their consumers died",
                entry.deliveries - 1
            );
            self.settle(seat, entry, lost, Outcome::Dead { reason })
                .await;
            return None;
        }
        Some(delivery)
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

    /// Asks the server about entries of which the last sign of life is old, so that they need not be dropped.
    async fn ask_for<P>(&self, prepared: &[(Unfinished<'_, T, H>, P)]) {
        // Once more when the reply took so long that it says nothing about now.
        const ROUNDS: usize = 2;
        let old = self.settings.lease / 2;
        for _ in 0..ROUNDS {
            let mut of_each_seat: BTreeMap<usize, Vec<ItemId>> = BTreeMap::new();
            for (entry, ..) in prepared {
                let owned = entry.seat.held.owned(entry.entry.entry);
                if owned.is_some_and(|owned| owned.elapsed() >= old) {
                    let ids = of_each_seat.entry(entry.index).or_default();
                    ids.push(entry.entry.entry);
                }
            }
            if of_each_seat.is_empty() {
                return;
            }
            for (index, ids) in of_each_seat {
                if let Some(seat) = self.seats.get(index) {
                    tokio::select! {
                        biased;
                        () = self.draining.cancelled() => return,
                        _ = self.keep_these(seat, &ids, Duration::MAX) => {}
                    }
                }
            }
        }
    }

    /// Whether the entry may be handled, and nobody else can have it yet: a lease is not over since the last call that
    /// showed that it is this worker's was sent. Otherwise it is let go of; a heartbeat gives it back, should it be this
    /// worker's after all.
    fn begins(&self, of: &Unfinished<'_, T, H>) -> bool {
        let Unfinished {
            seat, entry, lost, ..
        } = of;
        // The clocks of this process and the server do not run at the same pace.
        let lease = self.settings.lease - self.settings.lease / 20;
        let begins = seat.held.begins(entry.entry, lost, lease);
        if !begins {
            self.count_lost();
        }
        begins
    }

    /// Waits until a message may begin.
    pub(super) async fn admit(&self, lost: &CancellationToken) -> Permission {
        self.ask_to_begin(lost, PATIENCE).await
    }

    /// Asks whether a message may begin, and does not wait for it.
    async fn admit_at_once(&self, lost: &CancellationToken) -> Permission {
        self.ask_to_begin(lost, Duration::ZERO).await
    }

    async fn ask_to_begin(&self, lost: &CancellationToken, patience: Duration) -> Permission {
        let Some(admission) = &self.settings.admission else {
            return Permission::Given(None);
        };
        let key = format!("{}:{}", self.topic.name, self.group);
        let admitted = async {
            loop {
                let pause = match admission.admit(key.as_bytes(), patience).await {
                    Ok(Admitted::Now(permit)) => return Permission::Given(Some(permit)),
                    Ok(Admitted::Later(after)) => after.min(PATIENCE),
                    Err(error) => {
                        tracing::debug!(target: "redkit::pubsub", %error, "nobody admits a message");
                        Duration::from_secs(1)
                    }
                };
                if patience.is_zero() {
                    return Permission::Later;
                }
                sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            () = self.draining.cancelled() => Permission::Never,
            () = lost.cancelled() => {
                self.count_lost();
                Permission::Never
            }
            permission = admitted => permission,
        }
    }

    /// Runs the handler, which may panic or never return. Gives an outcome for each of the messages.
    pub(super) async fn run(&self, deliveries: Vec<Delivery<T>>) -> Vec<Outcome> {
        let count = deliveries.len();
        let running = Running::new(&self.counts.running);
        let started = Instant::now();
        let span = span::process(&self.topic.name, &self.group, &deliveries);
        let handling = async { self.handler.handle(deliveries).await }.instrument(span.clone());
        let handling = AssertUnwindSafe(handling).catch_unwind();
        let outcomes = match timeout(self.settings.timeout, handling).await {
            Ok(Ok(outcomes)) => {
                let outcomes = outcomes.for_each_of(count);
                span::handled(&span, &outcomes);
                outcomes
            }
            Ok(Err(panic)) => {
                span::cut(&span, Cut::Panic);
                let reason = format!("the handler panicked: {}", panic_text(&*panic));
                vec![Outcome::retry(reason); count]
            }
            Err(_) => {
                span::cut(&span, Cut::Timeout);
                let reason = format!("the handler took longer than {:?}", self.settings.timeout);
                vec![Outcome::retry(reason); count]
            }
        };
        self.metrics.seconds.record(started.elapsed());
        drop(running);
        outcomes
    }
}

/// Messages that a task has gathered. Should the task panic, those that it has not taken up go back to the queue: they are
/// not kept for a task that is not there any more.
struct Gathered<'a> {
    queue: &'a JobQueue,
    jobs: VecDeque<Job>,
}

impl Gathered<'_> {
    fn put_back(&mut self) {
        self.queue.put_back(self.jobs.drain(..));
    }
}

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.put_back();
        }
    }
}

/// For how long an admission is asked to wait at a time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a message may begin.
pub(super) enum Permission {
    /// With what is held while it is handled, when there is an admission.
    Given(Option<AdmissionPermit>),
    /// It may not begin at once.
    Later,
    /// The worker drains, or the message is lost.
    Never,
}

/// An entry that a task has. Should the task panic (as when a handler that took too long does so while it is
/// dropped), that was a failed attempt: the entry is not kept for a task that is not there any more.
struct Unfinished<'a, T, H> {
    shared: &'a Shared<T, H>,
    index: usize,
    seat: &'a HeldSeat,
    entry: RawEntry,
    permit: Option<OwnedSemaphorePermit>,
    lost: CancellationToken,
}

impl<T, H> Drop for Unfinished<'_, T, H> {
    fn drop(&mut self) {
        if !std::thread::panicking() || !self.seat.held.remove(self.entry.entry, &self.lost) {
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
