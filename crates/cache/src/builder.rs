//! [`CacheBuilder`]: a cache's settings, checked when it is built.

use std::marker::PhantomData;
use std::time::Duration;

use redkit_core::{Client, ConfigError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::error::Error;

/// Settings of a [`Cache`], from [`Cache::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct CacheBuilder<V> {
    client: Client,
    name: String,
    ttl: Option<Duration>,
    load_timeout: Duration,
    value: PhantomData<fn() -> V>,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> CacheBuilder<V> {
    pub(crate) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            ttl: None,
            load_timeout: Duration::from_secs(10),
            value: PhantomData,
        }
    }

    /// How long a value is kept. There is no default: how stale a value may get is yours to say.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long a loader may take before it is dropped and everybody who waits gets
    /// [`Error::LoadTimeout`]. Default: 10 s.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// Builds the cache. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work: a name with other characters than
    /// letters, digits, `-`, `_` and `.`; no time to live, or one under a millisecond or over ten
    /// years.
    pub fn build(self) -> Result<Cache<V>, Error> {
        let keys = self.client.keyspace("cache", &self.name)?;
        let ttl = match self.ttl {
            None => Err(ConfigError::new(
                "ttl",
                "it is not given",
                "say how long values are kept",
            )),
            Some(ttl) if ttl < Duration::from_millis(1) || ttl > TEN_YEARS => {
                Err(ConfigError::new(
                    "ttl",
                    "it is under 1 ms or over 10 years",
                    "give a time between",
                ))
            }
            Some(ttl) => Ok(ttl),
        }
        .map_err(redkit_core::Error::from)?;
        if self.load_timeout.is_zero() {
            let error = ConfigError::new("load_timeout", "it is zero", "give a time such as 10 s");
            return Err(redkit_core::Error::from(error).into());
        }
        Ok(Cache::new(
            self.client,
            keys,
            &self.name,
            ttl,
            self.load_timeout,
        ))
    }
}

/// Long before the server's clock overflows.
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
