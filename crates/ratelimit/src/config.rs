//! [`LimiterConfig`] and [`Limiters`]: limiters by name, from configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use redkit_core::{Client, ConfigError};

use crate::error::Error;
use crate::limiter::RateLimiter;
use crate::outage::OnOutage;
use crate::plan::Plan;
use crate::policy::{Algorithm, Policy};
use crate::quota::Quota;

/// Limiters by name, as a configuration file has them.
///
/// ```
/// # use std::sync::Arc;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
/// use redkit_ratelimit::Limiters;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let config = r#"{
///     "login": { "policies": [{ "algorithm": "log", "limit": 10, "per": "1h" }], "on_outage": "closed" },
///     "api": {
///         "policies": [
///             { "name": "second", "algorithm": "gcra", "limit": 10, "per": "1s", "burst": 20 },
///             { "name": "day", "algorithm": "counter", "limit": 100000, "per": "1day" }
///         ],
///         "on_outage": "open",
///         "default": true
///     }
/// }"#;
/// let limiters = Limiters::new(&client, &serde_json::from_str(config)?)?;
/// assert!(limiters.get("login")?.check("alice").await?.is_allowed());
/// assert_eq!(limiters.get("search")?.name(), "api");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Limiters {
    by_name: BTreeMap<String, RateLimiter>,
    /// The name of the limiter for what the configuration does not list.
    default: Option<String>,
}

/// The settings of one limiter. What is left out has the builder's default.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimiterConfig {
    /// The policies; each needs a name when there are several.
    pub policies: Vec<PolicyConfig>,
    /// The limiter's conduct while the server cannot be asked.
    #[serde(default)]
    pub on_outage: OutageConfig,
    /// How long a decision waits for the server, such as `100ms`: see
    /// [`decision_timeout`](crate::RateLimiterBuilder::decision_timeout).
    #[serde(default, deserialize_with = "some_duration")]
    pub decision_timeout: Option<Duration>,
    /// How many denied keys are remembered: see
    /// [`deny_cache`](crate::RateLimiterBuilder::deny_cache).
    #[serde(default)]
    pub deny_cache: Option<usize>,
    /// How many may wait: see [`max_waiters`](crate::RateLimiterBuilder::max_waiters).
    #[serde(default)]
    pub max_waiters: Option<u32>,
    /// See [`waiters_first`](crate::RateLimiterBuilder::waiters_first).
    #[serde(default)]
    pub waiters_first: bool,
    /// Whether this limiter is also the one for every name that is not listed, all of which then
    /// count together. At most one limiter of a set is. Default: no, so that an unknown name is an
    /// error.
    #[serde(default)]
    pub default: bool,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// `fixed`, `counter`, `log`, `bucketed`, `gcra` or `leaky`.
    pub algorithm: AlgorithmConfig,
    /// How many units.
    pub limit: u64,
    /// In how much time: `1s`, `10m`, `1day`.
    #[serde(deserialize_with = "duration")]
    pub per: Duration,
    /// How many at once, for `gcra` and `leaky`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// How many slices, for `bucketed`. Default: 10.
    #[serde(default)]
    pub slices: Option<u32>,
    /// The longest wait, for `leaky`.
    #[serde(default, deserialize_with = "some_duration")]
    pub max_wait: Option<Duration>,
}

/// The algorithms by the words that also stand in keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AlgorithmConfig {
    /// [`Algorithm::FixedWindow`].
    Fixed,
    /// [`Algorithm::SlidingCounter`].
    Counter,
    /// [`Algorithm::SlidingLog`].
    Log,
    /// [`Algorithm::Bucketed`].
    Bucketed,
    /// [`Algorithm::Gcra`].
    Gcra,
    /// [`Algorithm::Leaky`].
    Leaky,
}

/// The limiter's conduct while the server cannot be asked, as far as a file can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OutageConfig {
    /// [`OnOutage::Error`].
    #[default]
    Error,
    /// [`OnOutage::Open`].
    Open,
    /// [`OnOutage::Closed`].
    Closed,
}

impl Limiters {
    /// Builds all of them. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work, and where it stands: `login.policies[0].limit`.
    pub fn new(client: &Client, config: &BTreeMap<String, LimiterConfig>) -> Result<Self, Error> {
        let limiters = config.iter().map(|(name, config)| {
            let limiter = config.limiter(client, name);
            match limiter {
                Ok(limiter) => Ok((name.clone(), limiter)),
                Err(Error::Core(redkit_core::Error::Config(error))) => {
                    Err(error.within(name).into())
                }
                Err(error) => Err(error),
            }
        });
        let mut defaults = config.iter().filter(|(_, config)| config.default);
        let default = defaults.next().map(|(name, _)| name.clone());
        if let (Some(first), Some((second, _))) = (&default, defaults.next()) {
            return Err(ConfigError::new(
                "default",
                format!("`{first}` and `{second}` both are the default"),
                "leave it to one of them",
            )
            .into());
        }
        Ok(Self {
            by_name: limiters.collect::<Result<_, Error>>()?,
            default,
        })
    }

    /// The limiter of this name, or else the [default](LimiterConfig::default) one.
    ///
    /// # Errors
    /// [`Error::UnknownLimiter`], with the names there are, when there is neither.
    pub fn get(&self, name: &str) -> Result<&RateLimiter, Error> {
        let default = || self.by_name.get(self.default.as_ref()?);
        self.by_name.get(name).or_else(default).ok_or_else(|| {
            let known: Vec<_> = self.by_name.keys().map(String::as_str).collect();
            Error::UnknownLimiter {
                name: name.into(),
                known: known.join(", ").into(),
            }
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RateLimiter)> {
        self.by_name
            .iter()
            .map(|(name, limiter)| (name.as_str(), limiter))
    }
}

impl LimiterConfig {
    fn limiter(&self, client: &Client, name: &str) -> Result<RateLimiter, Error> {
        let mut builder = RateLimiter::builder(client, name)
            .on_outage(match self.on_outage {
                OutageConfig::Error => OnOutage::Error,
                OutageConfig::Open => OnOutage::Open,
                OutageConfig::Closed => OnOutage::Closed,
            })
            .waiters_first(self.waiters_first);
        if let Some(timeout) = self.decision_timeout {
            builder = builder.decision_timeout(timeout);
        }
        if let Some(keys) = self.deny_cache {
            builder = builder.deny_cache(keys);
        }
        if let Some(waiters) = self.max_waiters {
            builder = builder.max_waiters(waiters);
        }
        for (n, config) in self.policies.iter().enumerate() {
            let policy = config.policy().and_then(|policy| {
                Plan::new(policy.algorithm(), policy.quota())?;
                Ok(policy)
            });
            let policy = policy.map_err(|error| error.within(&format!("policies[{n}]")))?;
            builder = builder.policy(policy);
        }
        builder.build()
    }
}

impl PolicyConfig {
    fn policy(&self) -> Result<Policy, ConfigError> {
        let only = |field: &'static str, of: &str| {
            let fix = format!("leave it out, or use `{of}`");
            Err(ConfigError::new(field, "this algorithm has none", fix))
        };
        if self.slices.is_some() && self.algorithm != AlgorithmConfig::Bucketed {
            return only("slices", "bucketed");
        }
        if self.max_wait.is_some() && self.algorithm != AlgorithmConfig::Leaky {
            return only("max_wait", "leaky");
        }
        let algorithm = match self.algorithm {
            AlgorithmConfig::Fixed => Algorithm::FixedWindow,
            AlgorithmConfig::Counter => Algorithm::SlidingCounter,
            AlgorithmConfig::Log => Algorithm::SlidingLog,
            AlgorithmConfig::Bucketed => Algorithm::Bucketed {
                slices: self.slices.unwrap_or(10),
            },
            AlgorithmConfig::Gcra => Algorithm::Gcra,
            AlgorithmConfig::Leaky => Algorithm::Leaky {
                max_wait: self.max_wait.ok_or_else(|| {
                    ConfigError::new("max_wait", "it is not given", "say how long calls may wait")
                })?,
            },
        };
        let quota = Quota::per(self.limit, self.per);
        let quota = self.burst.map_or(quota, |burst| quota.burst(burst));
        let policy = Policy::new(algorithm, quota);
        Ok(match &self.name {
            Some(name) => policy.named(name),
            None => policy,
        })
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(from)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

fn some_duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<Policy, String> {
        let config: PolicyConfig = serde_json::from_str(json).map_err(|e| e.to_string())?;
        config.policy().map_err(|error| error.field().to_owned())
    }

    #[test]
    fn the_default_limits_every_name_that_is_not_listed() {
        let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
        let client = Client::from_backend(engine, &redkit_core::ClientConfig::default()).unwrap();
        let limiters = |a: bool, b: bool| {
            let limiter = |default| {
                format!(
                    r#"{{"policies":[{{"algorithm":"gcra","limit":9,"per":"1h"}}],"default":{default}}}"#
                )
            };
            let json = format!(r#"{{"a":{},"b":{}}}"#, limiter(a), limiter(b));
            Limiters::new(&client, &serde_json::from_str(&json).unwrap())
        };
        let with_default = limiters(false, true).unwrap();
        assert_eq!(with_default.get("a").unwrap().name(), "a");
        assert_eq!(with_default.get("unlisted").unwrap().name(), "b");
        let without = limiters(false, false).unwrap();
        let error = without.get("unlisted").unwrap_err();
        assert!(error.to_string().contains("there are: a, b"), "{error}");
        let error = limiters(true, true).unwrap_err().to_string();
        assert!(error.contains("`a` and `b`"), "{error}");
    }

    #[test]
    fn a_mistake_is_told_with_the_limiter_and_the_policy_that_have_it() {
        let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
        let client = Client::from_backend(engine, &redkit_core::ClientConfig::default()).unwrap();
        let error = |wrong: &str| {
            let json = format!(
                r#"{{"api":{{"policies":[{{"algorithm":"gcra","limit":9,"per":"1h"}}]}},"login":{wrong}}}"#
            );
            let limiters = Limiters::new(&client, &serde_json::from_str(&json).unwrap());
            limiters.unwrap_err().to_string()
        };
        let zero = r#"{"policies":[{"algorithm":"gcra","limit":9,"per":"1h","name":"a"},
            {"algorithm":"gcra","limit":0,"per":"1h","name":"b"}]}"#;
        assert!(
            error(zero).contains("`login.policies[1].limit`"),
            "{}",
            error(zero)
        );
        let never =
            r#"{"policies":[{"algorithm":"gcra","limit":9,"per":"1h"}],"decision_timeout":"0s"}"#;
        assert!(
            error(never).contains("`login.decision_timeout`"),
            "{}",
            error(never)
        );
    }

    #[test]
    fn every_algorithm_can_be_written_down() {
        let hour = Duration::from_secs(3600);
        let of = |json| policy(json).unwrap();
        assert_eq!(
            of(r#"{"algorithm":"gcra","limit":9,"per":"1h","burst":3,"name":"n"}"#),
            Policy::gcra(Quota::per(9, hour).burst(3)).named("n")
        );
        assert_eq!(
            of(r#"{"algorithm":"bucketed","limit":9,"per":"60m","slices":6}"#).algorithm(),
            Algorithm::Bucketed { slices: 6 }
        );
        assert_eq!(
            of(r#"{"algorithm":"leaky","limit":9,"per":"1h","max_wait":"500ms"}"#),
            Policy::leaky(Quota::per(9, hour), Duration::from_millis(500))
        );
    }

    #[test]
    fn settings_that_an_algorithm_lacks_are_refused_by_name() {
        let leaky = r#"{"algorithm":"leaky","limit":9,"per":"1h"}"#;
        assert_eq!(policy(leaky), Err("max_wait".to_owned()));
        let slices = r#"{"algorithm":"gcra","limit":9,"per":"1h","slices":3}"#;
        assert_eq!(policy(slices), Err("slices".to_owned()));
        for json in [
            r#"{"algorithm":"gcra","limit":9,"per":60}"#,
            r#"{"algorithm":"gcra","limit":9,"per":"soon"}"#,
            r#"{"algorithm":"gcra","limit":-1,"per":"1h"}"#,
            r#"{"algorithm":"magic","limit":9,"per":"1h"}"#,
            r#"{"algorithm":"gcra","limit":9,"per":"1h","brust":3}"#,
        ] {
            assert!(policy(json).is_err(), "{json}");
        }
    }
}
