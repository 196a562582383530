//! [`Lines`]: the callers of one process that wait for the same lock. Only the first of them asks the server,
//! however many there are; the others follow in the order in which they came.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The lines of one manager, by lock.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<HashMap<Bytes, Line>>);

#[derive(Debug)]
struct Line {
    front: Arc<Semaphore>,
    callers: usize,
}

/// A place in a line.
struct Place<'a> {
    lines: &'a Lines,
    key: Bytes,
}

/// The front of a line. Dropping it lets the next caller to the front.
pub(crate) struct Front<'a> {
    _permit: OwnedSemaphorePermit,
    // After the permit: the line is forgotten with its last caller.
    _place: Place<'a>,
}

impl Lines {
    /// Waits for the front of the line.
    pub(crate) async fn front(&self, key: &Bytes) -> Front<'_> {
        let (front, place) = self.join(key);
        loop {
            // It is never closed.
            if let Ok(permit) = Arc::clone(&front).acquire_owned().await {
                return Front {
                    _permit: permit,
                    _place: place,
                };
            }
        }
    }

    fn join(&self, key: &Bytes) -> (Arc<Semaphore>, Place<'_>) {
        let mut lines = self.0.lock();
        let line = lines.entry(key.clone()).or_insert_with(|| Line {
            front: Arc::new(Semaphore::new(1)),
            callers: 0,
        });
        line.callers += 1;
        let place = Place {
            lines: self,
            key: key.clone(),
        };
        (Arc::clone(&line.front), place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.lines.0.lock();
        if let Some(line) = lines.get_mut(&self.key) {
            line.callers -= 1;
            if line.callers == 0 {
                lines.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_come_to_the_front_in_order_and_leave_nothing() {
        let lines = Arc::new(Lines::default());
        let key = Bytes::from_static(b"k");
        let first = lines.front(&key).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..3)
            .map(|n| {
                let (lines, key, order) = (Arc::clone(&lines), key.clone(), Arc::clone(&order));
                tokio::spawn(async move {
                    let _front = lines.front(&key).await;
                    order.lock().push(n);
                })
            })
            .collect();
        // One that gives up leaves the line.
        let late = timeout(Duration::from_secs(1), lines.front(&key)).await;
        assert!(late.is_err());
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), [0, 1, 2]);
        assert!(lines.0.lock().is_empty());
    }
}
