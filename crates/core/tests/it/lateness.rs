//! How late this machine's timers are while a test runs. A bound on a real clock is a bound on
//! the library plus whatever the machine adds, and the second part is measured, not guessed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// From how many µs on a late timer is a stall of the machine.
const STALL: u64 = 10_000;

/// Watches the runtime's timers until it is dropped.
pub(crate) struct Lateness {
    worst: Arc<AtomicU64>,
    stalls: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Lateness {
    pub(crate) fn watch() -> Self {
        let [worst, stalls] = [0, 0].map(|zero| Arc::new(AtomicU64::new(zero)));
        let (shared, sum) = (Arc::clone(&worst), Arc::clone(&stalls));
        let task = tokio::spawn(async move {
            loop {
                let due = Instant::now() + Duration::from_millis(5);
                tokio::time::sleep_until(due.into()).await;
                let late = u64::try_from(due.elapsed().as_micros()).unwrap();
                shared.fetch_max(late, Ordering::Relaxed);
                if late >= STALL {
                    sum.fetch_add(late, Ordering::Relaxed);
                }
            }
        });
        Self {
            worst,
            stalls,
            task,
        }
    }

    /// The latest that a timer has been so far.
    pub(crate) fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.load(Ordering::Relaxed))
    }

    /// For how long the machine has stood still so far, all stalls together: a call may fall into several.
    pub(crate) fn stalls(&self) -> Duration {
        Duration::from_micros(self.stalls.load(Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.task.abort();
    }
}
