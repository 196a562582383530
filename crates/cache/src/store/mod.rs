//! [`Store`]: what a cache has in Redis, read and written. What that means for a caller is decided
//! elsewhere.

mod change;
mod find;
mod look_up;
mod read;
mod trip;

use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::{Client, Error as CoreError};
use tokio::sync::Semaphore;

use crate::entry::Hit;
use crate::id::Id;
use crate::local_cache::LocalCache;
use crate::names::Names;
use crate::settings::Settings;
use crate::share::ErrorCodec;
use crate::stats::Metrics;

pub(crate) use self::look_up::LookUpFailure;

/// The state that a load needs after its callers are gone.
pub(crate) struct Store<V> {
    pub(crate) client: Client,
    /// The same client for look-ups, which do not wait longer than their budget.
    pub(crate) hasty: Client,
    pub(crate) names: Names,
    pub(crate) name: Box<str>,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) local: Option<LocalCache<V>>,
    pub(crate) errors: Option<ErrorCodec>,
    /// Loads that may run past a Redis that cannot be asked.
    pub(crate) bypass: Semaphore,
    pub(crate) generation: Mutex<Option<Id>>,
    /// Whether keys of different slots may lie on different servers.
    pub(crate) is_cluster: bool,
}

/// The result of reading a key.
#[derive(Debug)]
pub(crate) enum Lookup<V> {
    Fresh(Hit<V>),
    Stale(Hit<V>),
    /// An entry that must not be served.
    Invalidated(Id),
    /// The stored bytes are no value of the cache's type. The id is there when it is an entry.
    Undecodable(Option<Id>, CoreError),
    Missing,
}

/// The result of reading a key, and the facts that tell whether a load in progress is obsolete.
#[derive(Debug)]
pub(crate) struct Reading<V> {
    pub(crate) lookup: Lookup<V>,
    /// The cache's generation, if it has one.
    pub(crate) generation: Option<Id>,
    /// The value of the lease's key, when it was asked for.
    pub(crate) lease: Option<Bytes>,
}

impl<V> Reading<V> {
    pub(crate) fn missing() -> Self {
        Self {
            lookup: Lookup::Missing,
            generation: None,
            lease: None,
        }
    }
}
