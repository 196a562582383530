//! The task that reads a partition: new entries, retries that are due, entries of dead consumers.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::Error;
use redkit_core::coordination::Backoff;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use super::line::{Line, is_group_missing};
use super::run::{HeldSeat, Job, Shared};
use super::{Gap, GapReason};
use crate::topic::builder::Retention;
use crate::topic::entry::RawEntry;
use crate::topic::scripts::{self, Tick};

/// How often a reader looks for what is due. A message that is delayed or retried is late by this at most.
const TICK: Duration = Duration::from_millis(500);
/// How often a log is trimmed.
pub(super) const TRIM: Duration = Duration::from_secs(5);

pub(super) struct Reader<T, H> {
    shared: Arc<Shared<T, H>>,
    /// Which of the worker's seats.
    index: usize,
    line: Line,
    backoff: Backoff,
    next_tick: Instant,
    next_look: Instant,
    next_trim: Instant,
    is_paused: bool,
    /// A call got no reply: entries may be in its hands that this process does not know of.
    may_have_forgotten: bool,
    /// The last error was a refusal, and was told.
    was_refused: bool,
}

impl<T, H> Reader<T, H> {
    pub(super) fn new(shared: Arc<Shared<T, H>>, index: usize) -> Self {
        let now = Instant::now();
        Self {
            shared,
            index,
            line: Line::default(),
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(1)),
            next_tick: now,
            next_look: now,
            next_trim: now + TRIM,
            is_paused: false,
            may_have_forgotten: false,
            was_refused: false,
        }
    }

    /// Reads until the worker drains.
    pub(super) async fn run(mut self) {
        while !self.shared.draining.is_cancelled() {
            match self.step().await {
                Ok(()) => {
                    self.backoff.reset();
                    self.was_refused = false;
                }
                Err(error) if is_group_missing(&error) => self.remake_group().await,
                Err(error) => {
                    self.may_have_forgotten |= !is_refusal(&error);
                    let pause = self.backoff.next_pause();
                    // A missing right, say: it does not go away by itself.
                    match error.is_retryable() || std::mem::replace(&mut self.was_refused, true) {
                        true => {
                            tracing::debug!(target: "redkit::pubsub", %error, ?pause, "a topic is read again");
                        }
                        false => {
                            tracing::warn!(target: "redkit::pubsub", %error, "a topic cannot be read");
                        }
                    }
                    self.pause(pause).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let Some(seat) = shared.seats.get(self.index) else {
            return Ok(());
        };
        if self.may_have_forgotten {
            let known = seat.held.ids();
            let sent = Instant::now();
            let lost = seat
                .seat
                .heartbeat(&shared.client, &known, Duration::ZERO)
                .await?;
            seat.held.kept(&known, &lost, sent);
            self.may_have_forgotten = false;
        }
        if Instant::now() >= self.next_tick {
            self.tick().await?;
        }
        self.trim().await;
        if self.is_paused {
            self.pause(self.next_tick.saturating_duration_since(Instant::now()))
                .await;
            return Ok(());
        }
        let Some(permits) = self.permits().await else {
            return Ok(());
        };
        let wait = self.next_tick.saturating_duration_since(Instant::now());
        let sent = Instant::now();
        let read = self
            .line
            .read(&shared.client, &seat.seat, permits.len(), wait)
            .await;
        self.deliver(read?, permits, sent).await;
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let Some(seat) = shared.seats.get(self.index) else {
            return Ok(());
        };
        let mut permits = Vec::new();
        while permits.len() < shared.share() {
            match Arc::clone(&shared.slots).try_acquire_owned() {
                Ok(permit) => permits.push(permit),
                Err(_) => break,
            }
        }
        let sent = Instant::now();
        let looks = sent >= self.next_look;
        let tick = seat.seat.tick(&shared.client, permits.len(), looks).await?;
        if looks {
            self.next_look = sent + shared.settings.lease / 4;
        }
        match tick {
            Tick::NoGroup => self.remake_group().await,
            Tick::Done {
                is_paused,
                next_due,
                taken,
            } => {
                self.is_paused = is_paused;
                shared.set_paused(is_paused);
                let wait = next_due.map_or(TICK, |due| due.min(TICK));
                // What is due now and was not taken waits for room.
                let wait = wait.max(Duration::from_millis(if taken.is_empty() { 20 } else { 1 }));
                self.next_tick = Instant::now() + wait;
                self.deliver(taken, permits, sent).await;
            }
        }
        Ok(())
    }

    /// A place for at least one entry; `None` when something else is to be done first.
    async fn permits(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = tokio::select! {
            permit = Arc::clone(&self.shared.slots).acquire_owned() => permit.ok()?,
            () = sleep_until(self.next_tick) => return None,
            () = self.shared.draining.cancelled() => return None,
        };
        let mut permits = vec![first];
        while permits.len() < self.shared.share() {
            match Arc::clone(&self.shared.slots).try_acquire_owned() {
                Ok(permit) => permits.push(permit),
                Err(_) => break,
            }
        }
        Some(permits)
    }

    async fn deliver(
        &self,
        entries: Vec<RawEntry>,
        permits: Vec<OwnedSemaphorePermit>,
        sent: Instant,
    ) {
        let Some(seat) = self.shared.seats.get(self.index) else {
            return;
        };
        for entry in &entries {
            seat.held.insert(entry.entry, entry.deliveries, sent);
        }
        for (entry, permit) in entries.into_iter().zip(permits) {
            let job = Job {
                seat: self.index,
                entry,
                _permit: permit,
            };
            // There is room for as many as there are permits. Without a receiver the worker has ended.
            let _ = self.shared.jobs.send(job).await;
        }
    }

    async fn remake_group(&mut self) {
        if let Some(seat) = self.shared.seats.get(self.index) {
            remake_group(&self.shared, seat, "shared").await;
        }
        let pause = self.backoff.next_pause();
        self.pause(pause).await;
    }

    async fn trim(&mut self) {
        let now = Instant::now();
        if now < self.next_trim {
            return;
        }
        self.next_trim = now + TRIM;
        if let Some(seat) = self.shared.seats.get(self.index)
            && trim(&self.shared, seat).await
        {
            self.next_trim = now;
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.shared.draining.cancelled() => {}
        }
    }
}

/// The server has lost the group: one of its workers makes it anew, from the beginning of what the stream
/// holds, and tells of a gap.
pub(super) async fn remake_group<T, H>(shared: &Shared<T, H>, seat: &HeldSeat, mode: &str) {
    let seat = &seat.seat;
    let made = scripts::group(&shared.client, &seat.partition, &seat.group, "0", mode).await;
    match made {
        Ok((true, _)) => {
            shared.metrics.gaps.increment(1);
            tracing::warn!(
                target: "redkit::pubsub", topic = &*shared.topic.name, group = &*seat.group,
                partition = seat.partition.number,
                "the server had lost the group; it was made anew from the beginning of the stream"
            );
            if let Some(on_gap) = &shared.settings.on_gap {
                on_gap(Gap {
                    partition: seat.partition.number,
                    reason: GapReason::GroupLost,
                });
            }
        }
        Ok((false, _)) => {}
        Err(error) => {
            tracing::debug!(target: "redkit::pubsub", %error, "a group cannot be made");
        }
    }
}

/// Trims a log. Gives whether there is more to trim than one call does.
pub(super) async fn trim<T, H>(shared: &Shared<T, H>, seat: &HeldSeat) -> bool {
    let Retention::Log { keep, most } = shared.topic.retention else {
        return false;
    };
    if keep.is_none() && most.is_none() {
        return false;
    }
    match scripts::trim(&shared.client, &seat.seat.partition.stream, keep, most).await {
        Ok(trimmed) => trimmed >= 500,
        Err(error) => {
            tracing::debug!(target: "redkit::pubsub", %error, "a topic is trimmed later");
            false
        }
    }
}

/// The server, or the client itself, said no: nothing was taken.
fn is_refusal(error: &Error) -> bool {
    !error.is_maybe()
}
