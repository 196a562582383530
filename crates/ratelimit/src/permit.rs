//! [`Permit`]: a place that is held until it is dropped, or lost.

use std::fmt;
use std::sync::Arc;

use redkit_core::{Client, Key};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::leases::Leases;
use crate::release_queue::Release;
use crate::scripts::Id;

/// A place under a [`ConcurrencyLimiter`](crate::ConcurrencyLimiter), held until it is dropped.
///
/// A task of the limiter renews it. When that fails for as long as the lease lasts, because the
/// server cannot be reached or took the lease away, the permit is [lost](Self::lost): somebody else
/// may have the place then.
#[must_use = "the place is given back when the permit is dropped"]
pub struct Permit {
    /// `None` when nobody could be asked and the limiter is open.
    held: Option<Held>,
}

struct Held {
    leases: Arc<Leases>,
    client: Client,
    key: Key,
    id: Id,
    /// Until when the place is certainly ours; each renewal moves it.
    until: watch::Receiver<Instant>,
}

impl Permit {
    pub(crate) fn new(
        leases: &Arc<Leases>,
        client: &Client,
        key: Key,
        id: Id,
        sent: Instant,
    ) -> Self {
        let until = leases.keep(client, &key, id, sent);
        Self {
            held: Some(Held {
                leases: Arc::clone(leases),
                client: client.clone(),
                key,
                id,
                until,
            }),
        }
    }

    /// A permit that stands for no place, while nobody can be asked.
    pub(crate) fn unheld() -> Self {
        Self { held: None }
    }

    /// Whether the permit is lost: somebody else may have the place.
    pub fn is_lost(&self) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| *held.until.borrow() <= Instant::now())
    }

    /// Waits until the permit is lost, by the local clock and whatever the server does: at the
    /// latest when the lease has passed since the last renewal that succeeded was sent. Put it in
    /// a `select!` beside the work.
    pub async fn lost(&self) {
        let Some(held) = &self.held else {
            return std::future::pending().await;
        };
        let mut until = held.until.clone();
        loop {
            let end = *until.borrow_and_update();
            tokio::select! {
                () = sleep_until(end) => {
                    if *until.borrow() <= Instant::now() {
                        return;
                    }
                }
                changed = until.changed() => {
                    if changed.is_err() {
                        sleep_until(end).await;
                        return;
                    }
                }
            }
        }
    }

    /// Gives the place back and waits until the server knows. Dropping the future before is as good
    /// as dropping the permit: the server is told in the background.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be told. It is then tried once more in the
    /// background, and at the latest the place is free when the lease has passed.
    pub async fn release(mut self) -> Result<(), Error> {
        let Some(held) = &self.held else {
            return Ok(());
        };
        held.leases.let_go(held.id);
        for command in held.release().commands() {
            held.client.call::<i64>(command).await?;
        }
        self.held = None;
        Ok(())
    }
}

impl Held {
    fn release(&self) -> Release {
        Release {
            client: self.client.clone(),
            keys: vec![self.key.clone()],
            id: self.id,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.leases.let_go(held.id);
            held.leases.releases.send(held.release());
        }
    }
}

/// Without the key, which may name a person.
impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
