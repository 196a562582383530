//! Admission: how many calls are in flight, how many may be, and waiting for the last one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::error::{CallError, Fault, FaultKind};

/// Set in the count once no more calls are admitted.
const CLOSED: u64 = 1 << 63;

/// One call of upkeep in the count, of which the lower half is callers' calls: so one look tells both apart.
const UPKEEP: u64 = 1 << 32;

/// Which calls are refused when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// Callers' calls.
    Limited,
    /// The client's own upkeep (renewals of leases, releases), never refused: callers that fill the client must not cost it
    /// its locks. There are no more than leases and releases, but for callers who renew one lease several times at once.
    Upkeep,
}

impl Entry {
    /// How much a call adds to the count.
    fn unit(self) -> u64 {
        match self {
            Entry::Limited => 1,
            Entry::Upkeep => UPKEEP,
        }
    }
}

/// The calls in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    /// How many there are of either [entry](Entry::unit), and [`CLOSED`].
    count: AtomicU64,
    limit: usize,
    all_ended: Notify,
}

impl InFlight {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            count: AtomicU64::new(0),
            limit,
            all_ended: Notify::new(),
        }
    }

    /// Admits a call, or says why not.
    pub(super) fn admit(&self, entry: Entry) -> Result<Admission<'_>, CallError> {
        let before = self.count.fetch_add(entry.unit(), Ordering::AcqRel);
        // From here on dropping it takes the count back.
        let admission = Admission { to: self, entry };
        if before & CLOSED != 0 {
            return Err(Fault::new(FaultKind::Shutdown, "the client was shut down").not_sent());
        }
        if entry == Entry::Limited && before % UPKEEP >= self.limit as u64 {
            return Err(self.too_many());
        }
        Ok(admission)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn count(&self) -> u64 {
        let count = self.count.load(Ordering::Acquire) & !CLOSED;
        count / UPKEEP + count % UPKEEP
    }

    /// Admits nothing more, and waits until nothing is in flight. `false` when `limit` passed.
    pub(super) async fn close(&self, limit: Duration) -> bool {
        self.count.fetch_or(CLOSED, Ordering::AcqRel);
        let none_left = async {
            loop {
                let ended = self.all_ended.notified();
                if self.count() == 0 {
                    return;
                }
                ended.await;
            }
        };
        timeout(limit, none_left).await.is_ok()
    }

    #[cold]
    fn too_many(&self) -> CallError {
        let message = format!(
            "{} calls are in flight already (`max_in_flight`); the server is slower than its callers",
            self.limit
        );
        Fault::new(FaultKind::Overloaded, message).not_sent()
    }
}

/// One admitted call.
#[derive(Debug)]
pub(super) struct Admission<'f> {
    to: &'f InFlight,
    entry: Entry,
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        let unit = self.entry.unit();
        if self.to.count.fetch_sub(unit, Ordering::AcqRel) == CLOSED + unit {
            self.to.all_ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The caller and the upkeep go on until both have been admitted so often, whichever thread begins first.
    #[test]
    fn no_caller_is_refused_because_upkeep_ends_just_then() {
        const ROUNDS: u64 = 300_000;
        let in_flight = InFlight::new(1);
        let (callers, upkeep, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let admitted = || (count(&callers), count(&upkeep));
        let is_over = || count(&refused) > 0 || matches!(admitted(), (ROUNDS.., ROUNDS..));
        let call = |entry, counter: &AtomicU64| {
            while !is_over() {
                let counter = match in_flight.admit(entry) {
                    Ok(_) => counter,
                    Err(_) => &refused,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| call(Entry::Upkeep, &upkeep));
            call(Entry::Limited, &callers);
        });
        let (callers, upkeep) = admitted();
        assert_eq!(
            count(&refused),
            0,
            "there is one caller, admitted {callers} times"
        );
        assert!(callers >= ROUNDS && upkeep >= ROUNDS, "{callers}, {upkeep}");
        assert_eq!(in_flight.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_the_last_call_and_admits_no_other() {
        let in_flight = InFlight::new(2);
        let admit = || in_flight.admit(Entry::Limited);
        let (one, two) = (admit().unwrap(), admit().unwrap());
        let kind = |error: CallError| error.fault().unwrap().kind();
        assert_eq!(kind(admit().unwrap_err()), FaultKind::Overloaded);
        assert_eq!(in_flight.count(), 2);
        let upkeep = in_flight.admit(Entry::Upkeep).unwrap();
        assert_eq!(in_flight.count(), 3);
        drop(one);
        // Upkeep takes no caller's place.
        let one = admit().unwrap();
        drop(upkeep);
        drop(one);
        assert!(
            !in_flight.close(Duration::from_secs(1)).await,
            "one call is still in flight"
        );
        assert_eq!(kind(admit().unwrap_err()), FaultKind::Shutdown);
        let upkeep = in_flight.admit(Entry::Upkeep).unwrap_err();
        assert_eq!(kind(upkeep), FaultKind::Shutdown);
        let (closed, ()) = tokio::join!(in_flight.close(Duration::from_secs(1)), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(two);
        });
        assert!(closed);
        assert_eq!(in_flight.count(), 0);
    }
}
