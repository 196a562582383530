//! [`Receipt`]: proof that a call took units, with which they can be given back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::Release;
use redkit_core::random::random;
use redkit_core::{Client, Tally};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::deny_cache::DenyCache;
use crate::error::Error;
use crate::scripts::{self, Charge, Id};

/// Proof that a call took units, with which they can be given back, once.
#[derive(Clone)]
pub struct Receipt {
    id: Id,
    /// With where the units are: at the server, or in this process.
    charges: SmallVec<[(Client, Charge); 1]>,
    /// Denials that no longer hold when the units are back.
    denials: SmallVec<[(Arc<DenyCache>, Vec<u8>); 1]>,
}

impl Receipt {
    pub(crate) fn new(client: &Client, charges: impl IntoIterator<Item = Charge>) -> Self {
        Self {
            id: random(),
            charges: charges
                .into_iter()
                .map(|charge| (client.clone(), charge))
                .collect(),
            denials: SmallVec::new(),
        }
    }

    /// One receipt for several; `None` for none.
    pub(crate) fn joined(receipts: Vec<Receipt>) -> Option<Self> {
        let mut receipts = receipts.into_iter();
        let mut joined = receipts.next()?;
        for receipt in receipts {
            joined.charges.extend(receipt.charges);
            joined.denials.extend(receipt.denials);
        }
        Some(joined)
    }

    pub(crate) fn forgetting(mut self, cache: &Arc<DenyCache>, key: impl Into<Vec<u8>>) -> Self {
        self.denials.push((Arc::clone(cache), key.into()));
        self
    }

    /// Gives the units back: what [`RateLimiter::refund`](crate::RateLimiter::refund) does, for
    /// receipts of several limiters as well.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be asked; it may then have been done in part.
    /// Calling again is safe.
    pub async fn refund(&self) -> Result<bool, Error> {
        let given = self.give_back().await;
        // Also when nobody knows whether it was done.
        self.units_came_back();
        Ok(given? > 0)
    }

    async fn give_back(&self) -> Result<u64, Error> {
        let mut given = 0;
        for (client, charge) in &self.charges {
            given += scripts::refund(client, self.id, charge).await?;
        }
        Ok(given)
    }

    /// Gives the units back before `deadline` where the server answers until then, and otherwise in the
    /// background, counting in `lost` what the server could not be told there.
    pub(crate) async fn refund_before(self, deadline: Instant, lost: &Arc<Tally>) {
        for (client, charge) in &self.charges {
            let left = deadline.saturating_duration_since(Instant::now());
            let given = match client.with_budget(left) {
                Ok(hasty) => scripts::refund(&hasty, self.id, charge).await,
                Err(error) => Err(error),
            };
            if let Err(error) = given {
                tracing::debug!(target: "redkit::ratelimit", %error, "units are given back in the background");
                let life = Duration::from_micros(charge.request.plan.receipt_life());
                let release = Release::new([scripts::give_back(self.id, charge)])
                    .until(Instant::now() + life)
                    .counted_by(Arc::clone(lost));
                client.release_later(release);
            }
        }
        self.units_came_back();
    }

    fn units_came_back(&self) {
        for (cache, key) in &self.denials {
            cache.units_came_back(key);
        }
    }
}

/// Without the key, which may name a person.
impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("limits", &self.charges.len())
            .finish_non_exhaustive()
    }
}
