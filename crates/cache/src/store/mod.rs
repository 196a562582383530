//! [`Store`]: what a cache has in Redis, read and written. What it means for a caller is decided
//! elsewhere.

mod change;
mod look;
mod read;
mod trip;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{Client, Error as CoreError};
use tokio::sync::Semaphore;

use crate::id::Id;
use crate::level::Level;
use crate::names::Names;
use crate::settings::Settings;
use crate::share::ErrorCodec;
use crate::stats::Numbers;
use crate::wake::Wakes;

/// What a load needs after its callers are gone.
pub(crate) struct Store<V> {
    pub(crate) client: Client,
    pub(crate) names: Names,
    pub(crate) name: Box<str>,
    pub(crate) settings: Settings,
    pub(crate) numbers: Numbers,
    pub(crate) wakes: Wakes,
    pub(crate) level: Option<Level<V>>,
    pub(crate) errors: Option<ErrorCodec>,
    /// Loads that may run past a Redis that cannot be asked.
    pub(crate) bypass: Semaphore,
    pub(crate) generation: Mutex<Option<Id>>,
    /// Whether keys of different slots may lie on different servers.
    pub(crate) is_cluster: bool,
}

/// A value that was read.
#[derive(Debug)]
pub(crate) struct Hit<V> {
    pub(crate) id: Id,
    /// `None` when the source is known to have no value.
    pub(crate) value: Option<Arc<V>>,
    pub(crate) life: Life,
    pub(crate) tags: Vec<(Box<str>, Id)>,
}

/// How old a value is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) ttl: Duration,
    /// How long it stays fresh; the whole of its time when that is not known and does not matter.
    pub(crate) left: Duration,
    pub(crate) cost: Duration,
}

/// What was found at a key.
#[derive(Debug)]
pub(crate) enum Seen<V> {
    Fresh(Hit<V>),
    Stale(Hit<V>),
    /// An entry that must not be served.
    Void(Id),
    Missing,
}

/// Why nothing could be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// What is stored is not a value of the cache's type. The id is there when it is an entry.
    Undecodable(Option<Id>, CoreError),
    Unreachable(CoreError),
}

impl From<CoreError> for ReadError {
    fn from(error: CoreError) -> Self {
        ReadError::Unreachable(error)
    }
}
