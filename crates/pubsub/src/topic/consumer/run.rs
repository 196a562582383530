//! What a worker's tasks share, and the heartbeats that keep what it holds.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redkit_core::Client;
use redkit_core::coordination::Token;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::acks::Acks;
use super::held::Held;
use super::jobs::JobQueue;
use super::making::Making;
use crate::inbox::ItemId;
use crate::metrics::WorkerMetrics;
use crate::topic::scripts::Seat;
use crate::topic::{Inner, WorkerStats};

/// One partition, and what the worker has of it.
pub(super) struct HeldSeat {
    pub(super) seat: Seat,
    pub(super) held: Held,
    pub(super) acks: Acks,
    /// Set while the group is to be made, at first or anew.
    pub(super) making: parking_lot::Mutex<Option<Making>>,
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
    pub(super) jobs: JobQueue,
    /// The handler that fills its batch: messages are not spread over batches that are all small.
    pub(super) gathering: Mutex<()>,
    /// Nothing more is begun.
    pub(super) draining: CancellationToken,
    /// Handlers that run are dropped.
    pub(super) aborting: CancellationToken,
    pub(super) metrics: WorkerMetrics,
    pub(super) counts: Counts,
    /// This worker's name among the members of an ordered group.
    pub(super) member: Box<str>,
    /// The partitions that it owns in an ordered group.
    pub(super) owned: parking_lot::Mutex<BTreeMap<usize, OwnedPartition>>,
    pub(super) message: PhantomData<fn() -> T>,
}

/// A partition that a worker owns in an ordered group.
pub(super) struct OwnedPartition {
    pub(super) token: Token,
    /// A message is being handled, or its outcome is on its way to the server.
    pub(super) is_busy: bool,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) acknowledged: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) handed_back: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) running: AtomicU64,
    pub(super) is_paused: watch::Sender<bool>,
}

impl Counts {
    pub(super) fn add(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl<T, H> Shared<T, H> {
    /// How many entries one partition's reader asks for at most, so that it does not keep the others'.
    pub(super) fn share(&self) -> usize {
        self.settings.at_once().div_ceil(self.seats.len().max(1))
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        self.counts.is_paused.send_if_modified(|paused| {
            let was_paused = std::mem::replace(paused, is_paused);
            was_paused != is_paused
        });
    }

    /// Waits until the group is not paused, as far as this process knows.
    pub(super) async fn not_paused(&self) {
        if !*self.counts.is_paused.borrow() {
            return;
        }
        let mut paused = self.counts.is_paused.subscribe();
        // The sender is this worker's own.
        let _ = paused.wait_for(|is_paused| !is_paused).await;
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
            is_paused: *counts.is_paused.borrow(),
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
    pub(super) async fn keep_these(
        &self,
        seat: &HeldSeat,
        ids: &[ItemId],
        unknown_after: Duration,
    ) -> bool {
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

impl<T, H> Shared<T, H> {
    pub(super) fn count_lost(&self) {
        self.metrics.lost.increment(1);
        self.counts.add(&self.counts.lost);
    }
}
