//! Waiting until what is pending is written.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::queue::{Partition, Queue};
use crate::error::Error;

/// How long a wait lasts at most before the server is asked again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// See [`WriteBehind::flush`].
pub(super) async fn flush(queue: &Queue, limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let mut remaining = 0;
    let work = async {
        let marks = queue.on_all(Partition::flush).await?;
        for (partition, mark) in queue.partitions.iter().zip(marks) {
            let mut pause = Duration::from_millis(2);
            loop {
                partition.bells.due.notify_one();
                remaining = partition.older(mark).await?;
                if remaining == 0 {
                    break;
                }
                tokio::time::sleep(pause).await;
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
