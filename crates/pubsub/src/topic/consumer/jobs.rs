//! [`JobQueue`]: the entries that wait for a handler.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::topic::entry::RawEntry;

/// An entry on its way to a handler.
pub(super) struct Job {
    pub(super) seat: usize,
    pub(super) entry: RawEntry,
    /// Cancelled when the entry is lost. Should the entry come again, that is another job.
    pub(super) lost: CancellationToken,
    /// Its room in this process.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// It was gathered before, and given back: it waits for no others again.
    pub(super) has_waited: bool,
}

/// First come, first served. A handler that ends at once goes on with the next entry itself: handlers are woken one
/// by one, each when the one before it has begun.
#[derive(Default)]
pub(super) struct JobQueue {
    waiting: Mutex<Waiting>,
    ready: Notify,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// A handler was woken, and has not looked yet.
    is_waking: bool,
}

impl JobQueue {
    /// There is room for as many as there are permits.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut waiting = self.waiting.lock();
        waiting.jobs.extend(jobs);
        self.wake_next(&mut waiting);
    }

    /// Gives jobs back, to be taken before all others.
    pub(super) fn put_back(&self, jobs: impl DoubleEndedIterator<Item = Job>) {
        let mut waiting = self.waiting.lock();
        for job in jobs.rev() {
            let has_waited = true;
            waiting.jobs.push_front(Job { has_waited, ..job });
        }
        self.wake_next(&mut waiting);
    }

    pub(super) async fn take(&self) -> Job {
        let mut was_woken = false;
        loop {
            {
                let mut waiting = self.waiting.lock();
                if was_woken {
                    waiting.is_waking = false;
                }
                if let Some(job) = waiting.jobs.pop_front() {
                    self.wake_next(&mut waiting);
                    return job;
                }
            }
            // A handler that is dropped when it was woken wakes another one.
            self.ready.notified().await;
            was_woken = true;
        }
    }

    fn wake_next(&self, waiting: &mut Waiting) {
        if !waiting.jobs.is_empty() && !waiting.is_waking {
            waiting.is_waking = true;
            self.ready.notify_one();
        }
    }
}
