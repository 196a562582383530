//! [`CacheConfig`] and [`Caches`]: named caches from a configuration file.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use redkit_core::{Client, ConfigError};
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::builder::CacheBuilder;
use crate::cache::Cache;
use crate::error::Error;
use crate::l1::L1;

/// Settings of one cache as they stand in a file. Times are texts such as `30s`, `500ms` or
/// `1h 30m`. What is not given is as [`CacheBuilder`]'s methods of the same names say.
///
/// ```
/// let config: redkit_cache::CacheConfig = serde_json::from_str(
///     r#"{ "ttl": "60s", "stale_for": "10m", "refresh_ahead": 0.8, "l1_entries": 10000 }"#,
/// )?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each is documented at the builder's method of its name"
)]
pub struct CacheConfig {
    #[serde(deserialize_with = "time")]
    pub ttl: Option<Duration>,
    pub ttl_jitter: Option<f64>,
    #[serde(deserialize_with = "time")]
    pub stale_for: Option<Duration>,
    #[serde(deserialize_with = "time")]
    pub soft_timeout: Option<Duration>,
    #[serde(deserialize_with = "time")]
    pub load_timeout: Option<Duration>,
    #[serde(deserialize_with = "time")]
    pub wait_timeout: Option<Duration>,
    #[serde(deserialize_with = "time")]
    pub retry_after: Option<Duration>,
    pub refresh_ahead: Option<f64>,
    pub refresh_early: Option<f64>,
    #[serde(deserialize_with = "time")]
    pub negative_ttl: Option<Duration>,
    #[serde(deserialize_with = "time")]
    pub lease: Option<Duration>,
    #[serde(deserialize_with = "time")]
    pub redis_timeout: Option<Duration>,
    pub max_bypass_loads: Option<usize>,
    pub clearable: Option<bool>,
    pub announce_changes: Option<bool>,
    /// Room for so many values in the process: [`L1::entries`].
    pub l1_entries: Option<u64>,
    #[serde(deserialize_with = "time")]
    pub l1_ttl: Option<Duration>,
    #[serde(deserialize_with = "time")]
    pub l1_bound: Option<Duration>,
    pub l1_tracked: Option<bool>,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static, T> CacheBuilder<V, T> {
    /// Takes over the settings of a configuration; settings that it leaves open stay as they are. When
    /// neither has a `ttl`, or there are settings of a local cache and none to have them,
    /// [`build`](CacheBuilder::build) gives an error.
    pub fn config(mut self, config: &CacheConfig) -> CacheBuilder<V> {
        macro_rules! take {
            ($($name:ident),*) => {$(
                if let Some(value) = config.$name {
                    self = self.$name(value);
                }
            )*};
        }
        self.settings.ttl = config.ttl.unwrap_or(self.settings.ttl);
        take!(
            ttl_jitter,
            stale_for,
            soft_timeout,
            load_timeout,
            wait_timeout,
            retry_after,
            refresh_ahead,
            refresh_early,
            negative_ttl,
            lease,
            redis_timeout,
            max_bypass_loads,
            clearable,
            announce_changes
        );
        if let Some(entries) = config.l1_entries {
            self.l1 = Some(L1::entries(entries));
        }
        let given = [
            ("l1_ttl", config.l1_ttl.is_some()),
            ("l1_bound", config.l1_bound.is_some()),
            ("l1_tracked", config.l1_tracked == Some(true)),
        ];
        match &mut self.l1 {
            Some(l1) => {
                l1.ttl = config.l1_ttl.unwrap_or(l1.ttl);
                l1.bound = config.l1_bound.unwrap_or(l1.bound);
                l1.is_tracked = config.l1_tracked.unwrap_or(l1.is_tracked);
            }
            None => {
                let given = given.into_iter().filter(|(_, is_given)| *is_given);
                self.without_l1.extend(given.map(|(field, _)| field));
            }
        }
        self.with_ttl()
    }
}

/// Caches by name, as a configuration describes them.
///
/// ```
/// # use redkit_cache::{Cache, Caches, Error};
/// # fn example(client: redkit_core::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let configs = serde_json::from_str(r#"{ "products": { "ttl": "60s" } }"#)?;
/// let caches = Caches::new(&client, configs);
/// let products: Cache<String> = caches.get("products")?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Caches {
    client: Client,
    configs: BTreeMap<String, CacheConfig>,
}

impl Caches {
    /// From configurations by name.
    pub fn new(client: &Client, configs: BTreeMap<String, CacheConfig>) -> Self {
        Self {
            client: client.clone(),
            configs,
        }
    }

    /// A builder with the settings of this name, to add what a file cannot say.
    ///
    /// # Errors
    /// [`Error::Core`], which lists the names there are.
    pub fn builder<V>(&self, name: &str) -> Result<CacheBuilder<V>, Error>
    where
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        match self.configs.get(name) {
            Some(config) => Ok(Cache::builder(&self.client, name).config(config)),
            None => Err(self.unknown(name).into()),
        }
    }

    /// A cache with the settings of this name. Make it once and clone it: two of them share what is
    /// in Redis, and neither loads nor the values in the process.
    ///
    /// # Errors
    /// As [`builder`](Self::builder) and [`CacheBuilder::build`].
    pub fn get<V>(&self, name: &str) -> Result<Cache<V>, Error>
    where
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.builder(name)?.build()
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.configs.keys().map(String::as_str)
    }

    fn unknown(&self, name: &str) -> ConfigError {
        let known = match self.configs.is_empty() {
            true => "none".to_owned(),
            false => self.names().collect::<Vec<_>>().join(", "),
        };
        ConfigError::new(
            "caches",
            format!("there is no cache named `{name}`; there are: {known}"),
            "add it to the configuration, or correct the name",
        )
    }
}

/// A time as a text.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    struct Time;

    impl Visitor<'_> for Time {
        type Value = Option<Duration>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time such as `30s`, `500ms` or `1h 30m`")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            humantime::parse_duration(text)
                .map(Some)
                .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_str(Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_texts_with_units_and_unknown_fields_are_errors() {
        let config: CacheConfig =
            serde_json::from_str(r#"{"ttl":"1m 30s","refresh_ahead":0.8}"#).unwrap();
        assert_eq!(config.ttl, Some(Duration::from_secs(90)));
        assert_eq!((config.refresh_ahead, config.lease), (Some(0.8), None));
        for wrong in [r#"{"ttl":"90"}"#, r#"{"ttl":90}"#, r#"{"tll":"90s"}"#] {
            assert!(
                serde_json::from_str::<CacheConfig>(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
