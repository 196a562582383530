//! [`Holds`]: what the processes of a run held, and from when until when they believed it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_testkit::simulation::Process;
use redkit_testkit::simulation::history::ProcessId;
use tokio::time::sleep;

/// What the processes of a run held. Clones note into the same list.
pub(crate) struct Holds<T>(Arc<Mutex<Vec<Hold<T>>>>);

/// Something that a process held.
#[derive(Debug, Clone)]
pub(crate) struct Hold<T> {
    pub(crate) process: ProcessId,
    pub(crate) what: T,
    /// When the holder was told.
    pub(crate) from: Duration,
    /// When the holder last looked and found that it was not lost, by its own clock: a holder that is paused, or
    /// killed, does nothing under the protection of what it holds.
    pub(crate) until: Duration,
}

/// Something that a process holds.
pub(crate) struct Holding<T> {
    holds: Holds<T>,
    index: usize,
    process: Process,
}

impl<T> Default for Holds<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Holds<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Holds<T> {
    /// A process was told that it holds something.
    pub(crate) fn begin(&self, process: &Process, what: T) -> Holding<T> {
        let now = process.now();
        let mut holds = self.0.lock();
        holds.push(Hold {
            process: process.id(),
            what,
            from: now,
            until: now,
        });
        Holding {
            holds: self.clone(),
            index: holds.len() - 1,
            process: process.clone(),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Hold<T>> {
        self.0.lock().clone()
    }
}

impl<T> Holding<T> {
    /// The holder has looked, and it is not lost.
    pub(crate) fn is_held(&self) {
        if let Some(hold) = self.holds.0.lock().get_mut(self.index) {
            hold.until = self.process.now();
        }
    }
}

/// Goes on holding for a time, and looks ever more often the nearer the end of the lease is. `remaining` is for how
/// long it is held by the holder's clock; `None` when it is lost. Gives whether it was held to the end.
pub(crate) async fn hold<T>(
    process: &Process,
    holdings: &[Holding<T>],
    time: Duration,
    remaining: impl Fn() -> Option<Duration>,
) -> bool {
    let end = process.now() + time;
    loop {
        let Some(remaining) = remaining() else {
            return false;
        };
        holdings.iter().for_each(Holding::is_held);
        let left = end.saturating_sub(process.now());
        if left.is_zero() {
            return true;
        }
        sleep(left.min((remaining / 4).max(SHORTEST_LOOK))).await;
    }
}

const SHORTEST_LOOK: Duration = Duration::from_millis(1);
