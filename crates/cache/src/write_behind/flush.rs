//! Waiting until what is pending is written.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::queue::{Partition, Queue};
use crate::error::Error;

/// How long a wait lasts at most before the server is asked again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

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
            let mut pause = Duration::from_millis(2);
            loop {
                partition.signals.due.notify_one();
                remaining = insist(|| partition.older(mark)).await?;
                if remaining == 0 {
                    break;
                }
                sleep(pause).await;
                pause = (pause * 2).min(LOOK_AGAIN);
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
/// and so does who waits for them.
async fn insist<F, T>(ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match ask().await {
            Err(error) if error.is_retryable() => sleep(LOOK_AGAIN).await,
            result => return result,
        }
    }
}
