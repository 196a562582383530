//! [`Permits`]: what a caller holds of a semaphore.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::{Lease, Release, Token};

use super::Shared;
use super::scripts::{self, Keys};
use crate::error::Error;
use crate::run::run;

/// Permits of a [`Semaphore`](crate::Semaphore), held until they are released, dropped or lost.
///
/// The client's one task renews their lease. When that fails for as long as the lease lasts, or the
/// server says that they are gone, they are [lost](Self::lost): another caller may have them then.
/// Dropping gives them back in the background and never blocks.
#[must_use = "the permits are given back when this is dropped"]
pub struct Permits {
    shared: Arc<Shared>,
    keys: Keys,
    token: Token,
    permits: u32,
    lease: Lease,
    is_released: bool,
}

impl Permits {
    pub(super) fn new(
        shared: Arc<Shared>,
        keys: Keys,
        token: Token,
        permits: u32,
        lease: Lease,
    ) -> Self {
        shared.metrics.hold(permits);
        Self {
            shared,
            keys,
            token,
            permits,
            lease,
            is_released: false,
        }
    }

    /// How many permits these are.
    pub fn count(&self) -> u32 {
        self.permits
    }

    /// Whether they are lost.
    pub fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// A future that resolves when they are lost, by the local clock and whatever the server does: at the latest when
    /// the lease has passed since the last renewal that succeeded was sent, less the allowance for drift. Put it in a
    /// `select!` beside the work. It can outlive the permits, and never resolves once they were given back in time.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        self.lease.watch_loss()
    }

    /// Does work that is dropped when the permits are lost, and gives them back after it. Work that blocks its thread
    /// cannot be dropped meanwhile.
    ///
    /// # Errors
    /// [`Error::Lost`], also for work that came to its end and whose permits are found to be lost only then. That they
    /// could not be given back is none: it is repeated in the background.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Result<T, Error> {
        let lost = self.lost();
        run(self.release(), lost, work).await
    }

    /// For how long they are certainly held from now on, if they are not renewed.
    pub fn remaining(&self) -> Duration {
        self.lease.remaining()
    }

    /// Gives some of them back and keeps the others. From the call on the caller holds no more than these,
    /// also when it fails or is dropped: the server is told in the background then.
    ///
    /// # Errors
    /// [`Error::NoPermits`] for none; [`Error::AbovePermits`] for all of them or more (that is
    /// [`release`](Self::release)); [`Error::Core`] when the server could not be told.
    pub async fn release_some(&mut self, permits: u32) -> Result<(), Error> {
        if permits == 0 {
            return Err(Error::NoPermits);
        }
        let there_are = self.permits;
        let kept = there_are.checked_sub(permits).filter(|kept| *kept > 0);
        let Some(kept) = kept else {
            return Err(Error::AbovePermits { permits, there_are });
        };
        self.permits = kept;
        self.shared.metrics.give_back(permits);
        let call = scripts::release(&self.keys, self.token, kept);
        let release = Release::new([call.clone()]).patiently_until(self.lease.valid_until());
        let mut later = Later {
            shared: &self.shared,
            release: Some(release),
        };
        let _: u32 = self.shared.client.eval(call).await?;
        later.release = None;
        Ok(())
    }

    /// Gives them back and waits until the server knows. Gives whether they were held until then, also when the reply
    /// of a first attempt was lost. Dropping the future before is as good as dropping the permits.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be told. It is then tried again in the background, and at
    /// the latest the permits are free when the lease has passed.
    pub async fn release(mut self) -> Result<bool, Error> {
        let was_held = self.lease.end();
        let call = || scripts::release(&self.keys, self.token, 0);
        let client = &self.shared.client;
        let (given_back, is_repeat) = match client.eval::<u32>(call().idempotent(false)).await {
            Ok(given_back) => (given_back, false),
            // The first attempt may have given them back, so that the second finds nothing.
            Err(error) if error.is_maybe() => (client.eval(call()).await?, true),
            Err(error) => return Err(error.into()),
        };
        self.is_released = true;
        Ok(was_held && (given_back > 0 || is_repeat))
    }
}

/// A part that is given back in the background when this is dropped. Arriving after a smaller rest it changes
/// nothing.
struct Later<'a> {
    shared: &'a Shared,
    release: Option<Release>,
}

impl Drop for Later<'_> {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            let lost = Arc::clone(&self.shared.metrics.releases_lost);
            self.shared.client.release_later(release.counted_by(lost));
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.shared.metrics.give_back(self.permits);
        let until = self.lease.valid_until();
        self.lease.end();
        if self.is_released {
            return;
        }
        let release = Release::new([scripts::release(&self.keys, self.token, 0)])
            .patiently_until(until)
            .counted_by(Arc::clone(&self.shared.metrics.releases_lost));
        self.shared.client.release_later(release);
    }
}

/// Without the key, which may name a person.
impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("count", &self.permits)
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
