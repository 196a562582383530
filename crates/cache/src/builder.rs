//! [`CacheBuilder`]: a cache's settings, checked when it is built.

use std::error::Error as StdError;
use std::marker::PhantomData;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{Client, ConfigError, ServerKind, Topology};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::error::Error;
use crate::l1::L1;
use crate::local_cache::LocalCache;
use crate::names::Names;
use crate::settings::{Refresh, Settings};
use crate::share::ErrorCodec;
use crate::stats::Metrics;
use crate::store::Store;

/// Settings of a [`Cache`], from [`Cache::builder`].
///
/// It builds a cache once it has a time to live, by [`ttl`](Self::ttl) or from a
/// [configuration](Self::config): how old a value may get is the program's decision, so there is no
/// default. Without one, `build` does not compile:
///
/// ```compile_fail,E0599
/// # fn example(client: redkit_core::Client) -> Result<(), redkit_cache::Error> {
/// let prices = redkit_cache::Cache::<u64>::builder(&client, "prices").build()?;
/// # Ok(()) }
/// ```
///
/// ```
/// # fn example(client: redkit_core::Client) -> Result<(), redkit_cache::Error> {
/// # use std::time::Duration;
/// let prices = redkit_cache::Cache::<u64>::builder(&client, "prices").ttl(Duration::from_secs(60)).build()?;
/// # Ok(()) }
/// ```
#[must_use = "it does nothing until `build`"]
pub struct CacheBuilder<V, T = HasTtl> {
    client: Client,
    name: String,
    pub(crate) settings: Settings,
    pub(crate) l1: Option<L1<V>>,
    /// Settings of an L1 that came before there was one.
    pub(crate) without_l1: Vec<&'static str>,
    errors: Option<ErrorCodec>,
    marker: PhantomData<fn() -> (V, T)>,
}

/// Says of a [`CacheBuilder`] that it has a time to live and can build.
#[derive(Debug)]
#[non_exhaustive]
pub struct HasTtl;

/// Says of a [`CacheBuilder`] that it needs a time to live: [`CacheBuilder::ttl`].
#[derive(Debug)]
#[non_exhaustive]
pub struct NoTtl;

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> CacheBuilder<V, NoTtl> {
    pub(crate) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            settings: Settings::default(),
            l1: None,
            without_l1: Vec::new(),
            errors: None,
            marker: PhantomData,
        }
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static, T> CacheBuilder<V, T> {
    /// How long a value is fresh. There is no default: how old a value may get is yours to say.
    pub fn ttl(mut self, ttl: Duration) -> CacheBuilder<V> {
        self.settings.ttl = ttl;
        self.with_ttl()
    }

    pub(crate) fn with_ttl(self) -> CacheBuilder<V> {
        CacheBuilder {
            client: self.client,
            name: self.name,
            settings: self.settings,
            l1: self.l1,
            without_l1: self.without_l1,
            errors: self.errors,
            marker: PhantomData,
        }
    }

    /// Shortens every value's time by a random part of this share of it, so that what was loaded
    /// together does not end together. Default: 0.
    pub fn ttl_jitter(mut self, share: f64) -> Self {
        self.settings.ttl_jitter = share;
        self
    }

    /// How long a value is there to be served as [`Source::Stale`](crate::Source::Stale) after its
    /// time is up, when loading it anew fails or is slow. An invalidation removes stale values like
    /// all others. Default: not at all.
    pub fn stale_for(mut self, time: Duration) -> Self {
        self.settings.stale_for = time;
        self
    }

    /// How long a caller that has a stale value waits for a new one before it is given the stale one;
    /// the load goes on and is kept. Zero is "stale while revalidating". Default: until the load ends.
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.settings.soft_timeout = Some(timeout);
        self
    }

    /// How long a loader may take before it is dropped and every waiting caller gets the stale value
    /// or [`Error::LoadTimeout`]. Default: 10 s.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.settings.load_timeout = timeout;
        self
    }

    /// How long another process's load is waited for before the value is loaded here all the same
    /// (and not kept), or a caller of [`reload`](crate::Cache::reload) is given the value that it has seen. Default:
    /// [`load_timeout`](Self::load_timeout).
    pub fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.settings.wait_timeout = Some(timeout);
        self
    }

    /// How long callers that have a stale value leave a source alone that failed, in all processes.
    /// Default: 1 s.
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.settings.retry_after = time;
        self
    }

    /// Loads a value anew in the background once this share of its time is over and a caller reads
    /// it; one process does. 0.8 is usual. Default: never.
    pub fn refresh_ahead(mut self, threshold: f64) -> Self {
        self.settings.refresh = Refresh::Ahead(threshold);
        self
    }

    /// Loads a value anew in the background at random times before its end, the likelier the
    /// nearer the end and the longer the load takes (XFetch). Above 1.0, earlier; below, later.
    /// In place of [`refresh_ahead`](Self::refresh_ahead).
    pub fn refresh_early(mut self, beta: f64) -> Self {
        self.settings.refresh = Refresh::Early(beta);
        self
    }

    /// How long it is kept that the source has no value: see
    /// [`find_or_load`](Cache::find_or_load). Default: not at all.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.settings.negative_ttl = Some(ttl);
        self
    }

    /// How long a process that dies while it loads keeps others from loading. A living one
    /// prolongs its lease for as long as the load takes. Default: 3 s.
    pub fn lease(mut self, ttl: Duration) -> Self {
        self.settings.lease = ttl;
        self
    }

    /// How long a look-up waits for Redis. When Redis does not answer in this time, the value is
    /// loaded past the cache ([`Source::Bypassed`](crate::Source::Bypassed)) or the stale one is
    /// given, and [`get`](Cache::get) gives the error. It holds for every round trip of a look-up, and
    /// not for writes and invalidations, which have the client's `command_timeout`. A longer one than
    /// that has no effect. Default: 250 ms.
    pub fn redis_timeout(mut self, timeout: Duration) -> Self {
        self.settings.redis_timeout = timeout;
        self
    }

    /// How many loads may run at once in this process while Redis cannot be asked. Default: 64.
    pub fn max_bypass_loads(mut self, limit: usize) -> Self {
        self.settings.max_bypass_loads = limit;
        self
    }

    /// Whether [`clear`](Cache::clear) works. It costs every read from Redis one more key in the same
    /// command; on a cluster a command of its own in the same round trip, and all of these go to one
    /// node. All programs that use the cache must say the same. Default: yes.
    pub fn clearable(mut self, clearable: bool) -> Self {
        self.settings.clearable = clearable;
        self
    }

    /// Whether other processes are told of what this one writes and removes, so that their
    /// [`L1`] hears of it. Say `false` only when no program that uses the cache has an [`L1`], or all
    /// of them have [tracked](L1::tracked) ones; it saves Redis a few microseconds per change, and
    /// on a cluster a round trip. Default: yes.
    pub fn announce_changes(mut self, announces: bool) -> Self {
        self.settings.announces = announces;
        self
    }

    /// Keeps values in this process as well.
    pub fn l1(mut self, l1: L1<V>) -> Self {
        self.l1 = Some(l1);
        self
    }

    /// Gives a loader's error, when it is an `E`, to callers that wait in other processes, too: they
    /// get the same [`Error::Load`]. Otherwise each process tries for itself, one after the other.
    /// The error goes through Redis by the client's codec. While a caller waits for it, it is kept
    /// beside the entry as well, for twice the [`lease`](Self::lease), or as long as the source rests.
    pub fn share_errors<E>(mut self) -> Self
    where
        E: StdError + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.errors = Some(ErrorCodec::of::<E>());
        self
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> CacheBuilder<V> {
    /// Builds the cache. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work: a name with other characters than
    /// letters, digits, `-`, `_` and `.`; a configuration without a time to live, or one under a
    /// millisecond or over ten years; a share outside 0..1; and the like.
    pub fn build(self) -> Result<Cache<V>, Error> {
        let names = Names::new(&self.client, &self.name)?;
        let settings = self.settings.check()?;
        if let Some(&field) = self.without_l1.first() {
            let all = self.without_l1.join("`, `");
            return Err(ConfigError::new(
                field,
                format!("`{all}` are for a local cache, and there is none"),
                "give `l1_entries` as well, or call `l1` before `config`",
            )
            .into());
        }
        let local = match self.l1 {
            Some(l1) => {
                let l1 = l1.check()?;
                check_hearing(&l1, &settings, &self.client)?;
                let meta_ms = settings.meta_ms(0);
                Some(LocalCache::new(l1, &self.client, &names, meta_ms))
            }
            None => None,
        };
        Ok(Cache::new(Store {
            is_cluster: self.client.topology() == Topology::Cluster,
            hasty: self.client.with_budget(settings.redis_timeout)?,
            client: self.client,
            names,
            metrics: Metrics::new(&self.name),
            name: self.name.into(),
            bypass: Semaphore::new(settings.max_bypass_loads.min(Semaphore::MAX_PERMITS)),
            settings,
            local,
            errors: self.errors,
            generation: Mutex::new(None),
        }))
    }
}

/// Whether the local cache can hear of changes in the way that it is to.
fn check_hearing<V>(l1: &L1<V>, settings: &Settings, client: &Client) -> Result<(), ConfigError> {
    if !l1.is_tracked && !settings.announces {
        return Err(ConfigError::new(
            "announce_changes",
            "a cache with an L1 has to tell others of its changes as they tell it of theirs",
            "leave it out, or have the L1 `tracked`",
        ));
    }
    let can = client.capabilities();
    // A server that is not connected yet is not known; then the local cache keeps nothing, and says why.
    if l1.is_tracked && can.server != ServerKind::Unknown && !can.tracking {
        return Err(ConfigError::new(
            "l1.tracked",
            "this client does not hear of changed keys: the `fred` driver does not pass on that \
             all of them have changed",
            "use the `native` driver or an L1 that is not tracked",
        ));
    }
    Ok(())
}

impl<V, T> Clone for CacheBuilder<V, T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            name: self.name.clone(),
            settings: self.settings.clone(),
            l1: self.l1.clone(),
            without_l1: self.without_l1.clone(),
            errors: self.errors.clone(),
            marker: PhantomData,
        }
    }
}

impl<V, T> std::fmt::Debug for CacheBuilder<V, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
