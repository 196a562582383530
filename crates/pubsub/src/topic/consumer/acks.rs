//! [`Acks`]: acknowledgements of one partition. Those that come while others are on their way go to the server together,
//! so that a busy worker needs few calls and an idle one waits for nobody.

use std::sync::atomic::Ordering;

use redkit_core::Value;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::run::{HeldSeat, Shared};
use super::settle::Told;
use crate::topic::entry::{HandledEntry, RawEntry};
use crate::topic::scripts::MOST_ACKNOWLEDGED;

pub(super) struct Acks {
    sender: mpsc::Sender<Ack>,
    queue: Mutex<mpsc::Receiver<Ack>>,
}

/// What a handler has succeeded with.
struct Ack {
    entries: Vec<Handled>,
    /// Told when the server has answered.
    told: oneshot::Sender<()>,
}

struct Handled {
    entry: HandledEntry,
    lost: CancellationToken,
}

impl Acks {
    /// For a worker with so many handlers: each waits for its own.
    pub(super) fn new(handlers: usize) -> Self {
        let (sender, queue) = mpsc::channel(handlers.max(1));
        Self {
            sender,
            queue: Mutex::new(queue),
        }
    }
}

impl<T, H> Shared<T, H> {
    /// Acknowledges entries, and waits until the server has answered. When the worker ends before that, they are
    /// handed back with all that is held.
    pub(super) async fn acknowledge(
        &self,
        seat: &HeldSeat,
        entries: &[(&RawEntry, &CancellationToken)],
    ) {
        let handled = entries.iter().map(|&(entry, lost)| Handled {
            entry: entry.into(),
            lost: lost.clone(),
        });
        let (told, answer) = oneshot::channel();
        let ack = Ack {
            entries: handled.collect(),
            told,
        };
        let answered = async { seat.acks.sender.send(ack).await.is_ok() && answer.await.is_ok() };
        let is_answered = tokio::select! {
            biased;
            is_answered = answered => is_answered,
            () = self.aborting.cancelled() => return,
        };
        if !is_answered && !self.aborting.is_cancelled() {
            // The task that tells the server panicked. Others get them, instead of heartbeats for ever.
            for (entry, lost) in entries {
                seat.held.remove(entry.entry, lost);
            }
        }
    }

    /// Tells the server of one partition's acknowledgements, until the worker ends.
    pub(super) async fn tell_acknowledged(&self, seat: &HeldSeat) {
        let mut queue = seat.acks.queue.lock().await;
        let mut acks = Vec::with_capacity(MOST_ACKNOWLEDGED);
        while queue.recv_many(&mut acks, MOST_ACKNOWLEDGED).await > 0 {
            let entries: Vec<&Handled> = acks.iter().flat_map(|ack| &ack.entries).collect();
            for some in entries.chunks(MOST_ACKNOWLEDGED) {
                if !self.acknowledge_some(seat, some).await {
                    return;
                }
            }
            for ack in acks.drain(..) {
                // Without a receiver the worker ends.
                let _ = ack.told.send(());
            }
        }
    }

    /// Gives whether the worker goes on.
    async fn acknowledge_some(&self, seat: &HeldSeat, entries: &[&Handled]) -> bool {
        let request = || {
            // Whatever is another consumer's by now is not to be acknowledged for it.
            let own = entries.iter().filter(|handled| !handled.lost.is_cancelled());
            let own: Vec<&HandledEntry> = own.map(|handled| &handled.entry).collect();
            (!own.is_empty()).then(|| seat.seat.ack(&own, self.topic.retention))
        };
        let count = entries.len() as u64;
        let done = match self.tell(request, true).await {
            Told::Done(Value::Int(done)) => u64::try_from(done).unwrap_or_default().min(count),
            Told::Done(_) => count,
            Told::NotOwned => 0,
            Told::Refused => {
                for Handled { entry, lost } in entries {
                    self.put_off(seat, entry, lost).await;
                    seat.held.remove(entry.entry, lost);
                }
                return true;
            }
            // Handed back with all that is held.
            Told::Ended => return false,
        };
        for Handled { entry, lost } in entries {
            seat.held.remove(entry.entry, lost);
        }
        self.metrics.acknowledged.increment(done);
        self.counts.acknowledged.fetch_add(done, Ordering::Relaxed);
        for _ in done..count {
            self.count_lost();
        }
        true
    }
}
