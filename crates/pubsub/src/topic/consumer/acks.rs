//! [`Acks`]: acknowledgements of one partition. Those that come while others are on their way go to the server together,
//! so that a busy worker needs few calls and an idle one waits for nobody.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::join_all;
use redkit_core::Value;
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::run::{HeldSeat, Shared};
use super::settle::Told;
use crate::topic::entry::{HandledEntry, RawEntry};
use crate::topic::scripts::MOST_ACKNOWLEDGED;

/// Bounded by the worker's room: an entry keeps its place until the server has answered.
pub(super) struct Acks {
    sender: mpsc::UnboundedSender<Ack>,
    queue: Mutex<mpsc::UnboundedReceiver<Ack>>,
}

enum Ack {
    Entry(Handled),
    /// Told when the server has answered for all before it.
    Flush(oneshot::Sender<()>),
}

/// An entry whose handler has succeeded.
struct Handled {
    entry: HandledEntry,
    lost: CancellationToken,
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Acks {
    fn default() -> Self {
        let (sender, queue) = mpsc::unbounded_channel();
        Self {
            sender,
            queue: Mutex::new(queue),
        }
    }
}

impl HeldSeat {
    /// Acknowledges an entry soon. When the worker is ended before that, it is handed back with all that is held.
    pub(super) fn acknowledge(
        &self,
        entry: &RawEntry,
        lost: &CancellationToken,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        self.held.tells(entry.entry, lost);
        // The receiver lives as long as this.
        let _ = self.acks.sender.send(Ack::Entry(Handled {
            entry: entry.into(),
            lost: lost.clone(),
            permit,
        }));
    }
}

impl<T, H> Shared<T, H> {
    /// Waits until the server has answered for all that was acknowledged.
    pub(super) async fn flush(&self) {
        let flushes = self.seats.iter().map(|seat| {
            let (told, answer) = oneshot::channel();
            let is_sent = seat.acks.sender.send(Ack::Flush(told)).is_ok();
            async move { is_sent && answer.await.is_ok() }
        });
        join_all(flushes).await;
    }

    /// Tells the server of one partition's acknowledgements, for ever.
    pub(super) async fn tell_acknowledged(&self, seat: &HeldSeat) {
        let mut queue = seat.acks.queue.lock().await;
        let mut acks = Vec::with_capacity(MOST_ACKNOWLEDGED);
        while queue.recv_many(&mut acks, MOST_ACKNOWLEDGED).await > 0 {
            let (mut entries, mut flushes) = (Vec::with_capacity(acks.len()), Vec::new());
            for ack in acks.drain(..) {
                match ack {
                    Ack::Entry(entry) => entries.push(entry),
                    Ack::Flush(told) => flushes.push(told),
                }
            }
            let told = AssertUnwindSafe(self.tell_of(seat, &entries)).catch_unwind();
            if told.await.is_err() {
                tracing::error!(target: "redkit::pubsub", "an acknowledgement panicked");
                // Others get them, instead of heartbeats for ever.
                for Handled { entry, lost, .. } in &entries {
                    seat.held.remove(entry.entry, lost);
                }
            }
            // Together, so that the reader asks for as many at once.
            let permits = entries.into_iter().filter_map(|handled| handled.permit);
            drop(permits.reduce(|mut all, permit| {
                all.merge(permit);
                all
            }));
            for told in flushes {
                // Without a receiver the worker was dropped.
                let _ = told.send(());
            }
        }
    }

    async fn tell_of(&self, seat: &HeldSeat, entries: &[Handled]) {
        if entries.is_empty() {
            return;
        }
        let request = || {
            // Whatever is another consumer's by now is not to be acknowledged for it.
            let own = entries
                .iter()
                .filter(|handled| !handled.lost.is_cancelled());
            let own: Vec<&HandledEntry> = own.map(|handled| &handled.entry).collect();
            (!own.is_empty()).then(|| seat.seat.ack(&own, self.topic.retention))
        };
        let count = entries.len() as u64;
        let done = match self.tell(request, true).await {
            Told::Done(Value::Int(done)) => u64::try_from(done).unwrap_or_default().min(count),
            Told::Done(_) => count,
            Told::NotOwned => 0,
            Told::Refused => {
                for Handled { entry, lost, .. } in entries {
                    self.put_off(seat, entry, lost).await;
                }
                return;
            }
            // Handed back with all that is held.
            Told::Closed => return,
        };
        for Handled { entry, lost, .. } in entries {
            seat.held.remove(entry.entry, lost);
        }
        self.metrics.acknowledged.increment(done);
        self.counts.acknowledged.fetch_add(done, Ordering::Relaxed);
        for _ in done..count {
            self.count_lost();
        }
    }
}
