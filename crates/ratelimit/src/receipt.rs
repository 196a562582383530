//! [`Receipt`]: proof that a call took units, with which they can be given back.

use std::fmt;
use std::sync::Arc;

use redkit_core::Client;
use redkit_core::random::random;
use smallvec::SmallVec;

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
        let mut given = 0;
        for (client, charge) in &self.charges {
            given += scripts::refund(client, self.id, charge).await?;
        }
        for (cache, key) in &self.denials {
            cache.units_came_back(key);
        }
        Ok(given > 0)
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
