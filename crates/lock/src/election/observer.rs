//! [`LeaderObserver`]: the leader as those see it who do not stand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use redkit_core::coordination::{Backoff, Waiter, Wake};
use tokio::time::sleep;

use super::Shared;
use crate::error::Error;
use crate::fence::Fence;
use crate::holder::Holder;

/// The leader of an [`Election`](crate::Election) and every change of it, from
/// [`Election::observe`](crate::Election::observe).
///
/// An observer is woken when a leader begins or ends a term. It looks when the lock of a leader that it knows
/// would run out, so that it sees a death within the lock's TTL, and every five seconds besides
/// ([`look_every`](Self::look_every)). While Redis cannot be asked it waits on. Of changes that follow each other
/// faster than it is asked it sees the last.
pub struct LeaderObserver {
    shared: Arc<Shared>,
    waiter: Option<Waiter>,
    /// What was given last; `None` before the first.
    seen: Option<Option<Fence>>,
    look_every: Duration,
}

/// How much later than a lock has run out it is certainly gone.
const MARGIN: Duration = Duration::from_millis(2);

impl LeaderObserver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            waiter: None,
            seen: None,
            look_every: Duration::from_secs(5),
        }
    }

    /// How often it looks though nobody wakes it; at least every 10 ms. Default: every 5 seconds. Each look
    /// is one round trip.
    #[must_use]
    pub fn look_every(mut self, time: Duration) -> Self {
        self.look_every = time.max(Duration::from_millis(10));
        self
    }

    /// The first call gives the leader as it is; each further one waits for a change. `None` while there is
    /// no leader.
    ///
    /// # Errors
    /// [`Error::Core`] when the server refuses.
    pub async fn next(&mut self) -> Result<Option<Holder>, Error> {
        let mut pauses = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let looked = self.shared.locks.inspect(&self.shared.key).await;
            let leader = match looked {
                Ok(leader) => leader.filter(|leader| !leader.is_resting),
                Err(error) if error.is_retryable() => {
                    sleep(pauses.next_pause()).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            pauses.reset();
            let fence = leader.as_ref().map(|leader| leader.fence);
            if self.seen != Some(fence) {
                self.seen = Some(fence);
                return Ok(leader);
            }
            let Some(waiter) = &mut self.waiter else {
                let channel = self.shared.channel.clone();
                let client = &self.shared.locks.inner.client;
                let made = client.waiter(channel, self.shared.key.clone(), Wake::All);
                self.waiter = Some(made.await);
                continue;
            };
            let runs_out = leader.and_then(|leader| leader.expires_in);
            let limit = runs_out.map_or(self.look_every, |time| self.look_every.min(time + MARGIN));
            waiter.wait(limit).await;
        }
    }

    /// The same as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Option<Holder>, Error>> + Send {
        stream::unfold(Some(self), |observer| async move {
            let mut observer = observer?;
            let next = observer.next().await;
            let goes_on = next.is_ok().then_some(observer);
            Some((next, goes_on))
        })
    }
}

impl fmt::Debug for LeaderObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaderObserver")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
