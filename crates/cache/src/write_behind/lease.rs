//! [`Lease`]: until when this process may believe that a partition is its own.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::queue::Partition;

/// The lease of a partition for one batch. Its end is counted from when the last successful request
/// for it was *sent*, on a clock that is never set, less a tenth for clocks that run differently: the
/// server's own end is later.
pub(super) struct Lease {
    token: String,
    length: Duration,
    ends: Instant,
}

impl Lease {
    pub(super) fn new(token: String, length: Duration, sent: Instant) -> Self {
        Self {
            token,
            length,
            ends: end(sent, length),
        }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Whether a call of the sink may still be started.
    pub(super) fn stands(&self) -> bool {
        Instant::now() < self.ends
    }

    /// Renews the lease for as long as it is polled. Returns when it is lost: another has the
    /// partition, or the server did not confirm it in time.
    pub(super) async fn keep(&mut self, partition: &Partition) {
        let mut next = self.ends - self.length * 6 / 10;
        loop {
            sleep_until(next.min(self.ends)).await;
            let sent = Instant::now();
            if sent >= self.ends {
                return;
            }
            let renewal = partition.renew(&self.token, self.length);
            match timeout_at(self.ends, renewal).await {
                Ok(Ok(true)) => {
                    self.ends = end(sent, self.length);
                    next = sent + self.length / 3;
                }
                Ok(Ok(false)) | Err(_) => return,
                // The server may come back before the lease ends.
                Ok(Err(error)) => {
                    tracing::debug!(target: "redkit::write_behind", %error, "lease not renewed");
                    next = Instant::now() + self.length / 20;
                }
            }
        }
    }
}

fn end(sent: Instant, length: Duration) -> Instant {
    sent + length * 9 / 10
}
