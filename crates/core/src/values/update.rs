//! [`Update`]: read, change, write, and again if another writer was faster.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::Expiry;
use super::key::ToKey;
use crate::client::Client;
use crate::error::Error;
use crate::keys::Key;
use crate::random::random_range;

/// Changing a value by what it is.
impl Client {
    /// Changes a value by a function of what is stored, without losing what others write meanwhile:
    ///
    /// ```
    /// # use redkit_core::{Client, ClientConfig};
    /// use redkit_core::Change;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
    /// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
    /// # let client = Client::from_backend(engine, &ClientConfig::default())?;
    /// let names = client
    ///     .update("names")
    ///     .apply(|names: Option<Vec<String>>| {
    ///         let mut names = names.unwrap_or_default();
    ///         names.push("Ada".to_owned());
    ///         Change::Set(names)
    ///     })
    ///     .await?;
    /// assert_eq!(names, Some(vec!["Ada".to_owned()]));
    /// # Ok(()) }
    /// ```
    pub fn update(&self, key: impl ToKey) -> Update<'_> {
        Update {
            client: self,
            key: key.to_key(self),
            attempts: 32,
            expiry: None,
        }
    }
}

/// What to do with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// Nothing.
    Keep,
    /// Write this.
    Set(T),
    /// Delete the key.
    Delete,
}

/// A change of a value: see [`Client::update`].
#[must_use = "nothing is done before `apply`"]
pub struct Update<'c> {
    client: &'c Client,
    key: Key,
    attempts: u32,
    expiry: Option<Expiry>,
}

impl Update<'_> {
    /// How often it is tried at most, at least once; 32 times at first. Two round trips each, with
    /// a short wait of random length in between.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// What is written expires after this time. Without it the key expires when it did before, and
    /// a new one does not.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.expiry = Some(Expiry::In(ttl));
        self
    }

    /// What is written expires at this time.
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expiry = Some(Expiry::At(time));
        self
    }

    /// Reads the value, asks `change` what to do, and does it if the value is still the same;
    /// otherwise begins again. Gives what is stored then, `None` for no key. `change` may be called
    /// several times, and must do nothing but compute.
    ///
    /// # Errors
    /// [`Error::Contended`] when another writer was faster every time; nothing was written then.
    /// Otherwise as [`get`](Client::get) and [`set`](Client::set); after a write that got no answer
    /// it is not tried again, because it may have been carried out.
    pub async fn apply<T: DeserializeOwned + Serialize>(
        self,
        mut change: impl FnMut(Option<T>) -> Change<T>,
    ) -> Result<Option<T>, Error> {
        for attempt in 0..self.attempts {
            if attempt > 0 {
                pause(attempt).await;
            }
            let (before, stored) = match self.client.get_stored::<T>(&self.key).await? {
                Some(stored) => {
                    let (value, stored) = stored.split();
                    (Some(value), Some(stored))
                }
                None => (None, None),
            };
            let is_done = match (change(before), &stored) {
                (Change::Keep, None) => return Ok(None),
                (Change::Keep, Some(stored)) => {
                    // `change` has had the value.
                    let (key, raw) = (self.key.as_bytes(), stored.raw().clone());
                    return self.client.codec().decode(key, raw).map(Some);
                }
                (Change::Delete, None) => return Ok(None),
                (Change::Delete, Some(stored)) => {
                    if self.client.compare_and_delete(stored).await? {
                        return Ok(None);
                    }
                    None
                }
                (Change::Set(value), None) => {
                    let set = self.client.set(&self.key, &value).if_absent();
                    let set = match self.expiry {
                        Some(expiry) => set.expiry(expiry),
                        None => set,
                    };
                    set.await?.then_some(value)
                }
                (Change::Set(value), Some(stored)) => {
                    let swap = self.client.compare_and_set(stored, &value);
                    let swap = swap.expiry(Some(self.expiry.unwrap_or(Expiry::Keep)));
                    swap.await?.then_some(value)
                }
            };
            if is_done.is_some() {
                return Ok(is_done);
            }
        }
        Err(Error::Contended {
            key: self.key.to_string().into(),
            attempts: self.attempts,
        })
    }
}

/// So that competing writers do not meet again and again: up to 1 ms after the first attempt, up
/// to 16 ms after the fifth and later.
async fn pause(attempt: u32) {
    let most = 1000 << (attempt - 1).min(4);
    let micros = random_range(0..=most);
    tokio::time::sleep(Duration::from_micros(micros)).await;
}

impl fmt::Debug for Update<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("key", &self.key)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
