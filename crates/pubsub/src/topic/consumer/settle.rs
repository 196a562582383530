//! How the outcome of a message reaches the server.

use std::time::Duration;

use redkit_core::coordination::Backoff;
use redkit_core::{Command, Request, Value};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::run::{HeldSeat, Shared};
use crate::topic::builder::Retention;
use crate::topic::delivery::Outcome;
use crate::topic::entry::RawEntry;
use crate::topic::scripts::Burial;

/// A reason that is longer is cut.
const MOST_REASON: usize = 4 * 1024;

impl<T, H> Shared<T, H> {
    /// Tells the server, until it answers. When the worker ends before that, the entry is handed back with
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
        let (request, metric, count) = match &outcome {
            Outcome::Ack => (
                self.ack(seat, entry),
                &self.metrics.acknowledged,
                &self.counts.acknowledged,
            ),
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
        let Some(done) = self.tell(request, is_repeatable, lost).await else {
            return;
        };
        seat.held.remove(entry.entry, lost);
        match done {
            true => {
                metric.increment(1);
                self.counts.add(count);
            }
            false => self.count_lost(),
        }
    }

    fn ack(&self, seat: &HeldSeat, entry: &RawEntry) -> Request {
        match self.topic.retention {
            Retention::Queue => seat.seat.ack(entry).into(),
            Retention::Log { .. } => Command::new("XACK")
                .key(&seat.seat.partition.stream)
                .arg(&*seat.seat.group)
                .arg(entry.entry.to_string())
                .idempotent(true)
                .into(),
        }
    }

    /// Gives whether the entry was this worker's; `None` when the worker ends before the server answers.
    async fn tell(
        &self,
        request: Request,
        is_repeatable: bool,
        lost: &CancellationToken,
    ) -> Option<bool> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let told = async {
                match &request {
                    Request::Command(command) => self.client.call::<Value>(command.clone()).await,
                    Request::Script(call) => self.client.eval::<Value>(call.clone()).await,
                }
            };
            let error = tokio::select! {
                biased;
                told = told => match told {
                    Ok(reply) => return Some(reply != Value::Int(0)),
                    Err(error) => error,
                },
                () = self.aborting.cancelled() => return None,
            };
            if lost.is_cancelled() || super::line::is_group_missing(&error) {
                return Some(false);
            }
            if error.is_maybe() && !is_repeatable {
                // Should the server not have done it, a heartbeat that does not name the entry does.
                tracing::debug!(target: "redkit::pubsub", %error, "an outcome may have been told");
                return Some(true);
            }
            if !error.is_retryable() {
                tracing::warn!(target: "redkit::pubsub", %error, "an outcome cannot be told");
                return Some(false);
            }
            let pause = backoff.next_pause();
            tracing::debug!(target: "redkit::pubsub", %error, ?pause, "an outcome is told again");
            tokio::select! {
                biased;
                () = sleep(pause) => {}
                () = self.aborting.cancelled() => return None,
            }
        }
    }
}

pub(super) fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MOST_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default()
}
