//! How the outcome of a message reaches the server.

use std::time::Duration;

use redkit_core::coordination::Backoff;
use redkit_core::{Request, Value};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::run::{HeldSeat, Shared};
use crate::error::is_shut_down;
use crate::topic::delivery::Outcome;
use crate::topic::entry::{HandledEntry, RawEntry};
use crate::topic::scripts::Burial;

/// A reason that is longer is cut.
const MOST_REASON: usize = 4 * 1024;

impl<T, H> Shared<T, H> {
    /// Tells the server, until it answers. When this task is ended before that, the entry is handed back with
    /// all that is held.
    pub(super) async fn settle(
        &self,
        seat: &HeldSeat,
        entry: &RawEntry,
        lost: &CancellationToken,
        outcome: Outcome,
    ) {
        let attempt = entry.deliveries;
        let outcome = match outcome {
            Outcome::Retry { reason, .. } if attempt >= self.settings.max_attempts => {
                Outcome::Dead { reason }
            }
            outcome => outcome,
        };
        let is_repeatable = !matches!(outcome, Outcome::HandBack);
        let (request, metric, count): (Request, _, _) = match &outcome {
            Outcome::Ack => return seat.acknowledge(entry, lost, None),
            Outcome::Retry { after, .. } => {
                let after = after.unwrap_or_else(|| self.settings.pause_after(attempt));
                let release = seat.seat.release([(entry.entry, attempt, attempt, after)]);
                (release.into(), &self.metrics.retried, &self.counts.retried)
            }
            Outcome::HandBack => {
                let release = seat.seat.release_once([(entry.entry, attempt)]);
                let (metric, counter) = (&self.metrics.handed_back, &self.counts.handed_back);
                (release.into(), metric, counter)
            }
            Outcome::Dead { reason } => {
                let bury = seat.seat.bury(
                    entry,
                    &Burial {
                        retention: self.topic.retention.as_str(),
                        reason: cut(reason),
                        most: self.settings.most_dead,
                        keep: self.settings.keep_dead,
                    },
                );
                (bury.into(), &self.metrics.dead, &self.counts.dead)
            }
        };
        seat.held.tells(entry.entry, lost);
        let request = || (!lost.is_cancelled()).then(|| request.clone());
        match self.tell(request, is_repeatable).await {
            Told::Done(_) => {
                metric.increment(1);
                self.counts.add(count);
            }
            Told::NotOwned => self.count_lost(),
            Told::Refused => return self.put_off(seat, &entry.into(), lost).await,
            // Handed back with all that is held.
            Told::Closed => return,
        }
        seat.held.remove(entry.entry, lost);
    }

    /// The server refuses the outcome for good (a right is missing, say). Were the entry only let go of, it would
    /// come again after each lease, without an attempt: so it is put off for as long as an attempt ever is, as one.
    pub(super) async fn put_off(
        &self,
        seat: &HeldSeat,
        entry: &HandledEntry,
        lost: &CancellationToken,
    ) {
        let (attempt, after) = (entry.deliveries, self.settings.backoff.1);
        let release = || seat.seat.release([(entry.entry, attempt, attempt, after)]);
        let release = || (!lost.is_cancelled()).then(|| release().into());
        match self.tell(release, true).await {
            Told::Done(_) => {
                self.metrics.retried.increment(1);
                self.counts.add(&self.counts.retried);
            }
            Told::NotOwned | Told::Refused => self.count_lost(),
            Told::Closed => return,
        }
        seat.held.remove(entry.entry, lost);
    }

    /// `request` is asked before each attempt, and gives nothing once no entry of it is this worker's any more.
    pub(super) async fn tell(
        &self,
        request: impl Fn() -> Option<Request>,
        is_repeatable: bool,
    ) -> Told {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut may_be_done = false;
        let gone = |may_be_done| match may_be_done {
            true => Told::Done(Value::Nil),
            false => Told::NotOwned,
        };
        loop {
            let Some(request) = request() else {
                return gone(may_be_done);
            };
            // The client sends it once, so that this task knows what a repetition finds.
            let told = async {
                match once(request) {
                    Request::Command(command) => self.client.call::<Value>(command).await,
                    Request::Script(call) => self.client.eval::<Value>(call).await,
                }
            };
            let error = match told.await {
                Ok(Value::Int(0)) if !may_be_done => return Told::NotOwned,
                // Said twice, the reply says nothing: the first time may have done it.
                Ok(_) if may_be_done => return Told::Done(Value::Nil),
                Ok(reply) => return Told::Done(reply),
                Err(error) => error,
            };
            may_be_done |= error.is_maybe();
            if super::line::is_group_missing(&error) {
                return gone(may_be_done);
            }
            if error.is_maybe() && !is_repeatable {
                // Should the server not have done it, a heartbeat that does not name the entry does.
                tracing::debug!(target: "redkit::pubsub", %error, "an outcome may have been told");
                return Told::Done(Value::Nil);
            }
            if is_shut_down(&error) {
                tracing::debug!(target: "redkit::pubsub", %error, "an outcome is not told any more");
                return Told::Closed;
            }
            if !error.is_retryable() {
                tracing::error!(
                    target: "redkit::pubsub", topic = &*self.topic.name, group = &*self.group, %error,
                    "the server refuses an outcome; the message is tried again later"
                );
                return Told::Refused;
            }
            let pause = backoff.next_pause();
            tracing::debug!(target: "redkit::pubsub", %error, ?pause, "an outcome is told again");
            sleep(pause).await;
        }
    }
}

/// What the server said to an outcome.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// With its reply, when there was one.
    Done(Value),
    /// The entry is not this worker's any more.
    NotOwned,
    /// It cannot be done, however often it is said.
    Refused,
    /// The client is shut down, and tells the server nothing any more.
    Closed,
}

/// Not repeated by the client.
fn once(request: Request) -> Request {
    match request {
        Request::Command(command) => command.idempotent(false).into(),
        Request::Script(call) => call.idempotent(false).into(),
    }
}

pub(super) fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MOST_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default()
}
