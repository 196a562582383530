//! Waiting until what is pending is written.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::queue::{Partition, Queue};
use crate::error::Error;

/// How often the server is asked while nobody can say that a batch has ended.
pub(super) const ASK: Duration = Duration::from_millis(50);

/// How long a wait lasts at most before the server is asked all the same.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The longest wait that is possible: `Duration::MAX` from now is no time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// When a wait of `limit`, a day at most, is over.
pub(super) fn deadline(limit: Duration) -> Instant {
    Instant::now() + limit.min(LONGEST)
}

/// See [`WriteBehind::flush`](super::WriteBehind::flush).
pub(super) async fn flush(queue: &Queue, limit: Duration) -> Result<(), Error> {
    let deadline = deadline(limit);
    let mut remaining = 0;
    let work = async {
        let marks = insist(|| queue.on_all(Partition::flush)).await?;
        for (partition, mark) in queue.partitions.iter().zip(marks) {
            let mut waiter = None;
            loop {
                remaining = insist(|| partition.older(mark)).await?;
                if remaining == 0 {
                    break;
                }
                match &mut waiter {
                    // Batches that ended before this were not told: look again.
                    None => waiter = Some(partition.wait_for_batches()),
                    Some(waiter) => {
                        waiter.wait_or_ask(LOOK_AGAIN, ASK).await;
                    }
                }
            }
        }
        Ok(())
    };
    match timeout_at(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::NotFlushed {
            limit,
            pending: remaining,
        }),
    }
}

/// Asks until there is an answer, or an error that will not go away: workers go on after an outage,
/// and so does the caller that waits for them.
async fn insist<F, T>(ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match ask().await {
            Err(error) if error.is_retryable() => sleep(ASK).await,
            result => return result,
        }
    }
}
