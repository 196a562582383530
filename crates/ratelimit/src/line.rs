//! [`Wait`]: waiting in line until the limits let the caller through.

use std::time::Duration;

use redkit_core::{Client, Key};
use tokio::time::{Instant, sleep};

use crate::errands::{Errand, Errands};
use crate::scripts::{self, Ask, Id, Saids, Standing, Visit, What};

/// How long a waiter sleeps at most: a third of the time after which it is taken for dead.
const PAUSE: Duration = Duration::from_secs(1);
/// How often who waits for a lease asks, since nothing says when one will be released.
const PAUSE_FOR_LEASES: Duration = Duration::from_millis(50);
/// How long who is not first sleeps at least: those before it have to come first. Twice as long each
/// time that they have not come although their units are there.
const LEAST_PAUSE: Duration = Duration::from_millis(2);
/// What a caller without a place in line is told when there are units, for those who have one.
const FOR_OTHERS: Duration = Duration::from_millis(100);

/// How long a waiter sleeps after it could not ask. Twice as long each time, up to [`PAUSE`].
const AFTER_A_FAULT: Duration = Duration::from_millis(50);

/// One caller's wait.
pub(crate) struct Wait<'a> {
    pub(crate) client: &'a Client,
    pub(crate) asks: &'a [Ask],
    pub(crate) line: Key,
    pub(crate) beats: Key,
    /// How many may wait.
    pub(crate) places: u64,
    /// Whether it goes on when it could not ask, as long as there is time.
    pub(crate) goes_on: bool,
    pub(crate) errands: &'a Errands,
    /// The name of the place in line, and of the lease if one is asked for.
    pub(crate) id: Id,
}

/// How a wait ended.
pub(crate) enum Outcome {
    /// With what was taken, by a call that was sent at that moment.
    Through(Saids, Instant),
    /// It would have been too long, by this much at least.
    GivenUp(Saids, Duration),
    Full,
}

impl Wait<'_> {
    /// Waits until the limits let the caller through, or it is clear that they will not before
    /// `deadline`. However it ends, nothing of it stays behind: what a dropped wait or a lost reply
    /// may have left is removed in the background.
    ///
    /// Only what the server certainly did not carry out is asked again: anything else may have let
    /// the caller through already.
    pub(crate) async fn until(self, deadline: Instant) -> Result<Outcome, redkit_core::Error> {
        self.errands.prepare();
        let mut place = InLine {
            wait: &self,
            is_there: true,
        };
        let (mut least, mut nearest) = (LEAST_PAUSE, u64::MAX);
        let mut after_a_fault = AFTER_A_FAULT;
        loop {
            let since = Instant::now();
            let patience = deadline.saturating_duration_since(since);
            let visit = Visit {
                asks: self.asks,
                line: &self.line,
                beats: &self.beats,
                id: Some(self.id),
                patience,
                places: self.places,
            };
            let (standing, wait, saids) = match scripts::visit(self.client, &visit).await {
                Ok(visited) => visited,
                Err(error) if self.goes_on && !patience.is_zero() && was_not_done(&error) => {
                    sleep(after_a_fault.min(patience)).await;
                    after_a_fault = (after_a_fault * 2).min(PAUSE);
                    continue;
                }
                Err(error) => return Err(error),
            };
            after_a_fault = AFTER_A_FAULT;
            let before = match standing {
                Standing::Waiting(before) if patience.is_zero() => {
                    return Ok(Outcome::GivenUp(saids, told(wait, before)));
                }
                Standing::Waiting(before) => before,
                Standing::Through => {
                    place.is_there = false;
                    return Ok(Outcome::Through(saids, since));
                }
                Standing::Apart(before) => {
                    place.is_there = false;
                    return Ok(Outcome::GivenUp(saids, told(wait, before)));
                }
                Standing::Full => {
                    place.is_there = false;
                    return Ok(Outcome::Full);
                }
            };
            let pause = match (self.asks_for_leases(), before) {
                (true, _) => wait.clamp(PAUSE_FOR_LEASES, PAUSE),
                (false, 0) => wait.min(PAUSE),
                (false, _) => {
                    least = match wait.is_zero() && before >= nearest {
                        true => (least * 2).min(PAUSE),
                        false => LEAST_PAUSE,
                    };
                    nearest = before;
                    wait.clamp(least, PAUSE)
                }
            };
            sleep(pause.min(patience)).await;
        }
    }

    fn asks_for_leases(&self) -> bool {
        let is_lease = |ask: &Ask| matches!(ask.what, What::Lease { .. });
        self.asks.iter().any(is_lease)
    }
}

/// A place in line, given up when dropped.
struct InLine<'a> {
    wait: &'a Wait<'a>,
    is_there: bool,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if !self.is_there {
            return;
        }
        let leases = self.wait.asks.iter().filter_map(|ask| match ask.what {
            What::Lease { .. } => Some(ask.key.clone()),
            What::Units { .. } => None,
        });
        let line = [self.wait.line.clone(), self.wait.beats.clone()];
        self.wait.errands.send(Errand {
            client: self.wait.client.clone(),
            keys: leases.chain(line).collect(),
            id: self.wait.id,
        });
    }
}

/// Whether a fault passes and the server certainly did nothing.
fn was_not_done(error: &redkit_core::Error) -> bool {
    error.is_retryable() && !error.is_maybe()
}

/// What a caller is told to wait who has no place in line, and finds so many there: never nothing,
/// or it would come again at once.
pub(crate) fn told(wait: Duration, before: u64) -> Duration {
    match before {
        0 => wait,
        _ => wait.max(FOR_OTHERS),
    }
}

/// The moment after which nobody waits any more; a timeout beyond all clocks is a year.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    Instant::now() + timeout.min(YEAR)
}
