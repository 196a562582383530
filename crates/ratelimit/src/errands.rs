//! [`Errands`]: what has to be told to the server when something is dropped, where nobody can wait.

use std::fmt;

use parking_lot::Mutex;
use redkit_core::{Client, Command, Key};
use tokio::sync::mpsc;

use crate::scripts::{Id, text};

/// Removes members of sorted sets in the background: leases that were released, places in line that
/// were given up.
///
/// One task runs while there is something to run for. It is owned by its queue, and not stopped with
/// it: when the sender is gone it finishes what is queued, so that a limiter that is dropped leaves
/// nothing behind, up to the first errand that fails. One that fails is not repeated, because what
/// it removes runs out by itself.
#[derive(Default)]
pub(crate) struct Errands {
    queue: Mutex<Option<mpsc::Sender<Errand>>>,
}

/// Take `id` out of the sorted sets at `keys`, which share a slot.
pub(crate) struct Errand {
    pub(crate) client: Client,
    pub(crate) keys: Vec<Key>,
    pub(crate) id: Id,
}

/// How many errands wait at most, so that a server which hangs costs bounded memory. Further ones
/// are lost, and what they would remove runs out by itself.
const QUEUED: usize = 16_384;
/// How many errands go in one round trip.
const BATCH: usize = 64;

impl Errands {
    /// Makes sure that a task runs; call it from within a runtime, before there is anything to drop.
    pub(crate) fn prepare(&self) {
        let mut queue = self.queue.lock();
        if queue.as_ref().is_none_or(mpsc::Sender::is_closed) {
            let (sender, receiver) = mpsc::channel(QUEUED);
            tokio::spawn(run(receiver));
            *queue = Some(sender);
        }
    }

    /// Queues an errand. Without a runtime it is lost, and what it would remove runs out by itself.
    pub(crate) fn send(&self, errand: Errand) {
        if let Some(queue) = &*self.queue.lock() {
            drop(queue.try_send(errand));
        }
    }
}

impl fmt::Debug for Errands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errands").finish_non_exhaustive()
    }
}

impl Errand {
    pub(crate) fn commands(&self) -> impl Iterator<Item = Command> + '_ {
        // Removed twice is as good as once.
        self.keys.iter().map(|key| {
            let command = Command::new("ZREM").key(key).arg(text(self.id));
            command.idempotent(true)
        })
    }
}

async fn run(mut queue: mpsc::Receiver<Errand>) {
    let mut errands = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut errands, BATCH).await > 0 {
        // Nearly always all of one client.
        while let Some(last) = errands.pop() {
            let mut commands: Vec<Command> = last.commands().collect();
            errands.retain(|other| {
                let same = std::ptr::addr_eq(
                    std::sync::Arc::as_ptr(other.client.backend()),
                    std::sync::Arc::as_ptr(last.client.backend()),
                );
                if same {
                    commands.extend(other.commands());
                }
                !same
            });
            if let Err(error) = last.client.pipeline(commands).await {
                tracing::debug!(target: "redkit::ratelimit", %error, "left to run out");
                if queue.is_closed() {
                    return;
                }
            }
        }
    }
}
