//! Orders: placed once for a key however often they are sent, processed and cancelled **under one lock**, with the
//! stock in the database.
//!
//! Four things keep an order right, each for what it can do:
//! - The database's transaction: units are taken from the stock if they are there, or nothing happens.
//! - The idempotency key: a form that is sent twice, or from two windows, is one order.
//! - The lock: the parcel is packed while nobody cancels. A cancellation takes the *same* lock. Under a name of its own
//!   it would find an order that is still `placed`, and the packing would be in vain: `race` below shows it.
//! - The lock's fence: what no transaction takes back, the handing over to the carrier, is noted in the database
//!   *before* it is done, by the newest holder of the lock alone. So a worker that has died, or whose lock ran out
//!   while it was cut off, leaves no parcel on its way for an order that is cancelled.

mod basket;
mod book;
mod events;
#[cfg(test)]
mod race;

use std::time::{Duration, Instant};

use redkit::cache::{Cache, Fetched};
use redkit::lock::{
    Error as LockError, Executed, IdempotentError, IdempotentExecution, LockManager,
};
use redkit::{Client, Codec};
use sqlx::sqlite::SqlitePool;

use crate::cached::{CachedCatalogue, Read};
use crate::context::{self, Pattern};
use crate::notifications::{Notification, Notifications};

pub(crate) use basket::Basket;
pub(crate) use book::{Book, BookError, Order, Receipt, Reference, Sold, State};
pub(crate) use events::{Event, Events, Happening};

/// How long a visitor waits for an order that somebody else is working on.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether the other window's order is placed.
const AGAIN: Duration = Duration::from_millis(100);

/// How long an order stays in the cache.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// The orders of the shop. Clones share everything.
#[derive(Clone)]
pub(crate) struct Orders {
    book: Book,
    locks: Locks,
    once: IdempotentExecution,
    kept: Cache<Order>,
    /// How long a parcel takes to be handed to the carrier.
    packing: Duration,
}

/// The locks of orders, by reference.
#[derive(Clone)]
struct Locks {
    processing: LockManager,
    cancelling: LockManager,
}

impl Locks {
    /// One lock for whatever is done with an order.
    fn one_name(client: &Client) -> Result<Self, LockError> {
        let locks = LockManager::builder(client, "orders").build()?;
        Ok(Self {
            processing: locks.with_label("processing")?,
            cancelling: locks.with_label("cancellation")?,
        })
    }
}

impl Orders {
    /// The orders in `pool`, with personal data cached by a codec that encrypts.
    ///
    /// # Errors
    /// [`OrdersError`] with the settings that are refused.
    pub(crate) fn new(
        client: &Client,
        codec: Codec,
        pool: SqlitePool,
    ) -> Result<Self, OrdersError> {
        Ok(Self {
            book: Book::new(pool),
            locks: Locks::one_name(client)?,
            once: IdempotentExecution::builder(client, "orders")
                .lease(Duration::from_secs(10))
                .run_at_most(Duration::from_secs(30))
                .codec(codec.clone())
                .build()?,
            kept: Cache::builder(&client.with_codec(codec), "orders")
                .ttl(TTL)
                .build()?,
            packing: Duration::from_millis(150),
        })
    }

    pub(crate) fn book(&self) -> &Book {
        &self.book
    }

    /// Places an order, once for its reference: another call with it gets the first one's receipt.
    ///
    /// # Errors
    /// [`OrderError`].
    pub(crate) async fn place(
        &self,
        account: i64,
        reference: &Reference,
        basket: &Basket,
        catalogue: &CachedCatalogue,
    ) -> Result<Executed<Receipt>, OrderError> {
        let begun = Instant::now();
        let executed: Executed<Receipt> = loop {
            let work = async {
                let placing = |fence| self.book.place(account, reference, basket, fence);
                let placed = self
                    .locks
                    .processing
                    .run(reference.as_str(), PATIENCE, placing)
                    .await?;
                Ok::<_, OrderError>(placed?)
            };
            let fingerprint = basket.fingerprint();
            let run = self
                .once
                .run(account.to_string(), reference.as_str(), fingerprint, work);
            match run.await {
                // Another window sends the same page: it gets the same receipt, in a moment.
                Err(IdempotentError::NotExecuted(LockError::InFlight { .. }))
                    if begun.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                ended => break ended?,
            }
        };
        context::note(
            Pattern::Once,
            match executed.is_replayed {
                true => "this order was placed before: its receipt was given again",
                false => "placed once, receipt kept for a day",
            },
        );
        if !executed.is_replayed {
            context::note(Pattern::Lock, "order locked while the stock was taken");
            catalogue.sold(&executed.value.sold).await;
        }
        Ok(executed)
    }

    /// Cancels an order that is not on its way yet, and gives its units back to the stock.
    ///
    /// # Errors
    /// [`OrderError`].
    pub(crate) async fn cancel(
        &self,
        account: i64,
        reference: &Reference,
        catalogue: &CachedCatalogue,
    ) -> Result<(), OrderError> {
        let cancelling = |fence| self.book.cancel(account, reference, fence);
        let returned = self
            .locks
            .cancelling
            .run(reference.as_str(), PATIENCE, cancelling)
            .await??;
        context::note(
            Pattern::Lock,
            "order locked by the lock that processing takes as well",
        );
        catalogue.sold(&returned).await;
        self.forget(reference).await;
        Ok(())
    }

    /// Does what an event asks for, and tells the customer. It bears being done again.
    ///
    /// # Errors
    /// [`OrderError`].
    pub(crate) async fn handle(
        &self,
        event: &Event,
        notifications: &Notifications,
    ) -> Result<(), OrderError> {
        let reference = &event.reference;
        let account = match event.happening {
            Happening::Placed => {
                let shipping = |fence| self.ship(reference, fence);
                self.locks
                    .processing
                    .run(reference.as_str(), PATIENCE, shipping)
                    .await??
            }
            Happening::Cancelled => Some(self.book.account_of(reference).await?),
        };
        if let Some(account) = account {
            self.forget(reference).await;
            let note = Notification::about(event);
            notifications.send(account, &note).await?;
        }
        // Only now it need not be told again.
        Ok(self.book.done(event).await?)
    }

    /// Hands the parcel to the carrier, and gives the customer who is to be told: none when the order is cancelled.
    async fn ship(
        &self,
        reference: &Reference,
        fence: redkit::lock::Fence,
    ) -> Result<Option<i64>, BookError> {
        let (account, state) = self.book.state(reference).await?;
        match state {
            State::Placed | State::Shipping => {
                if state == State::Placed {
                    tokio::time::sleep(self.packing).await;
                    // The point of no return. The database compares the fence before the deed, and not after: a
                    // holder whose lock was lost meanwhile hands nothing over.
                    self.book.set_shipping(reference, fence).await?;
                }
                // Again, if its process died before it could note that it was done: the carrier knows the reference.
                self.book.hand_over(reference).await?;
                self.book.set_shipped(reference, fence).await?;
                Ok(Some(account))
            }
            State::Shipped => Ok(Some(account)),
            State::Cancelled => Ok(None),
        }
    }

    /// An order of this customer's.
    ///
    /// # Errors
    /// [`OrderError`].
    pub(crate) async fn order(
        &self,
        account: i64,
        reference: &Reference,
    ) -> Result<Read<Fetched<Order>>, OrderError> {
        let (book, wanted) = (self.book.clone(), reference.clone());
        let load = move || async move { book.order(&wanted).await };
        let read = Read::from(self.kept.get_or_load(reference.as_str(), load).await?);
        // Somebody else's order is as good as none.
        if read.value.account != account {
            return Err(BookError::NoSuchOrder.into());
        }
        context::note(
            Pattern::Encryption,
            format!("order {}, encrypted there", read.cache.in_words()),
        );
        Ok(read)
    }

    /// Removes what the cache has of an order. Where that fails the order is shown as it was until the visitor's
    /// next change, a day at most.
    async fn forget(&self, reference: &Reference) {
        if let Err(error) = self.kept.invalidate(reference.as_str()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an order in the cache is out of date"
            );
        }
    }
}

/// Why the settings of orders are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrdersError {
    /// The locks and idempotency keys.
    #[error("the settings of locks are refused")]
    Locks(#[from] LockError),
    /// The cache.
    #[error("the settings of the cache of orders are refused")]
    Cache(#[from] redkit::cache::Error),
}

/// Why nothing came of an order.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// What the book says.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The lock: it is taken, or was lost, or cannot be asked for.
    #[error("the order cannot be locked")]
    Lock(#[from] LockError),
    /// The order is being placed, its key was used for another one, or Redis cannot be asked.
    #[error("the order was not placed")]
    NotPlaced(#[source] LockError),
    /// The read through the cache.
    #[error("the order cannot be read")]
    Read(#[from] redkit::cache::Error),
    /// The customer could not be told.
    #[error("the notification was not sent")]
    Notify(#[from] redkit::pubsub::Error),
}

impl From<IdempotentError<OrderError>> for OrderError {
    fn from(error: IdempotentError<OrderError>) -> Self {
        match error {
            IdempotentError::NotExecuted(error) => Self::NotPlaced(error),
            IdempotentError::Work(error) => error,
        }
    }
}
