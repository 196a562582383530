//! Which products are looked at most: a sorted set that every visit counts in.

use std::error::Error;
use std::time::Duration;

use redkit::Client;
use redkit::collections::{Lifetime, Order, SortedSet};

use crate::model::Id;

/// How many products the page of the most visited ones shows.
pub(crate) const SHOWN: i64 = 12;

/// The counts end when nobody has looked at anything for this long.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Counts visits of products.
#[derive(Debug, Clone)]
pub(crate) struct Popular {
    visits: SortedSet<Id>,
}

impl Popular {
    /// The counts in the client's namespace.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(crate) fn new(client: &Client) -> Result<Self, redkit::collections::Error> {
        let visits = SortedSet::new(client, "visits")?.with_ttl(Lifetime::on_write(KEPT)?);
        Ok(Self { visits })
    }

    /// Counts a visit. That it cannot be counted is no reason not to show the product.
    pub(crate) async fn count(&self, product: Id) {
        if let Err(error) = self.visits.increment(&product, 1.0).await {
            tracing::debug!(error = &error as &dyn Error, "a visit was not counted");
        }
    }

    /// The most visited products, the most visited first, with the number of their visits.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn top(&self) -> Result<Vec<(Id, f64)>, redkit::collections::Error> {
        self.visits.range_by_rank(..SHOWN, Order::Descending).await
    }
}
