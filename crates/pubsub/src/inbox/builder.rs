//! [`InboxBuilder`].

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::Client;

use super::{Inbox, Inner};
use crate::error::Error;
use crate::metrics::InboxMetrics;

/// Builds an [`Inbox`].
pub struct InboxBuilder<T> {
    client: Client,
    name: String,
    capacity: u32,
    ttl: Duration,
    reading_time: Duration,
    known_for: Duration,
    max_message_bytes: usize,
    item: PhantomData<fn() -> T>,
}

/// More would make one reading a long script.
const MOST_ITEMS: u32 = 10_000;

impl<T> InboxBuilder<T> {
    pub(super) fn new(client: &Client, name: String) -> Self {
        Self {
            client: client.clone(),
            name,
            capacity: 100,
            ttl: Duration::from_secs(30 * 86_400),
            reading_time: Duration::from_secs(30),
            known_for: Duration::from_secs(86_400),
            max_message_bytes: 64 * 1024,
            item: PhantomData,
        }
    }

    /// How many items a user's inbox keeps: 100 at first, 10,000 at most. A push into a full inbox drops
    /// the oldest, and says so.
    #[must_use]
    pub fn capacity(mut self, items: u32) -> Self {
        self.capacity = items;
        self
    }

    /// How long an inbox lasts after the last push; 30 days at first.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// For how long what was handed out is kept from other readers; 30 s at first.
    #[must_use]
    pub fn reading_time(mut self, time: Duration) -> Self {
        self.reading_time = time;
        self
    }

    /// For how long the id of a [push](Inbox::push_once) is known; a day at first.
    #[must_use]
    pub fn known_for(mut self, time: Duration) -> Self {
        self.known_for = time;
        self
    }

    /// How many bytes an encoded item may have; 64 KiB at first.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Builds it. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] for a name that cannot stand in a key, [`Error::Invalid`] for a setting that
    /// cannot work.
    pub fn build(self) -> Result<Inbox<T>, Error> {
        if self.capacity == 0 || self.capacity > MOST_ITEMS {
            let problem = format!("{} is not between 1 and {MOST_ITEMS}", self.capacity);
            return Err(Error::invalid(
                "capacity",
                problem,
                "keep what a user will read",
            ));
        }
        for (what, time) in [
            ("ttl", self.ttl),
            ("reading_time", self.reading_time),
            ("known_for", self.known_for),
        ] {
            if time < Duration::from_millis(1) {
                return Err(Error::invalid(
                    what,
                    "it is under a millisecond",
                    "give more",
                ));
            }
        }
        let keys = self.client.keyspace("inbox", &self.name)?;
        Ok(Inbox {
            inner: Arc::new(Inner {
                metrics: InboxMetrics::new(&self.name),
                name: self.name.into(),
                client: self.client,
                keys,
                capacity: self.capacity,
                ttl: self.ttl,
                reading_time: self.reading_time,
                known_for: self.known_for,
                max_message_bytes: self.max_message_bytes,
            }),
            item: PhantomData,
        })
    }
}

impl<T> std::fmt::Debug for InboxBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboxBuilder")
            .field("name", &self.name)
            .field("capacity", &self.capacity)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
