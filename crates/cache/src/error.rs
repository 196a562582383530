//! The errors of a cache.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::ErrorKind;

/// Any failure of a cache. It can be cloned, because every caller that waited for a load gets it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection, the server or the codec. `get_or_load` gives it only when there is no
    /// value to give (a loaded value that cannot be encoded).
    #[error(transparent)]
    Core(#[from] redkit_core::Error),

    /// The key is longer than what a server takes (512 MB). Nothing was sent.
    #[error("the key has {0} bytes, more than the 512 MB that a server takes; use its digest")]
    KeyTooLong(usize),

    /// The cache was built with [`clearable(false)`](crate::CacheBuilder::clearable). Remedy:
    /// leave that out, in all programs that use this cache.
    #[error("this cache was built with `clearable(false)` and cannot be cleared")]
    NotClearable,

    /// The loader gave an error. Nothing was cached; the next call loads again.
    #[error("the loader failed: {0}")]
    Load(#[source] LoadError),

    /// The loader took longer than [`load_timeout`](crate::CacheBuilder::load_timeout) and was
    /// dropped. Remedy: make the source faster, or the timeout longer.
    #[error("the loader did not finish within {0:?} (`load_timeout`)")]
    LoadTimeout(Duration),

    /// The loader panicked. Remedy: the panic's own message says where.
    #[error("the loader panicked")]
    LoaderPanicked,

    /// A loader of several values did not give this one.
    #[error("the loader gave no value for this key")]
    NotLoaded,

    /// Redis cannot be asked, and as many loads as
    /// [`max_bypass_loads`](crate::CacheBuilder::max_bypass_loads) allows are running. Cause: an
    /// outage under load, and a source that is slow. Remedy: a higher limit, if the source bears it.
    #[error("Redis is down, and all loads that may pass it by are taken (`max_bypass_loads`)")]
    Overloaded,

    /// The write of the source failed. The entry was invalidated, because such an error does not
    /// always mean that nothing was written.
    #[error("the write failed: {0}")]
    Write(#[source] LoadError),

    /// A write-behind queue has no room for another key. Cause: the database is slower than the
    /// writers, or unavailable. Remedy: shed load, or wait
    /// ([`wait_when_full`](crate::write_behind::WriteBehindBuilder::wait_when_full)). Nothing was written.
    #[error("the queue is full: {pending} keys of the key's partition are pending (`max_pending`)")]
    QueueFull {
        /// How many keys are pending in the partition.
        pending: u64,
    },

    /// A write-behind queue is stored with another number of partitions. Remedy: configure the
    /// stored number, or drain the queue and take a new name. Nothing was changed.
    #[error("the queue has {stored} partitions, not {configured} (`partitions`)")]
    Partitions {
        /// The number that the queue was made with.
        stored: u64,
        /// The number that this process was configured with.
        configured: u16,
    },

    /// A flush did not end in time. What is pending stays in the queue.
    #[error("not flushed within {limit:?}: {pending} keys or more are pending")]
    NotFlushed {
        /// The time that was given.
        limit: Duration,
        /// How many keys of the partition that was waited for were pending.
        pending: u64,
    },

    /// A write-behind queue was opened without a cache, so it has nothing to load through. Remedy:
    /// [`WriteBehindBuilder::cache`](crate::write_behind::WriteBehindBuilder::cache).
    #[error("the queue was opened without a cache")]
    NoCache,
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            Error::KeyTooLong(_)
            | Error::NotClearable
            | Error::LoaderPanicked
            | Error::NotLoaded
            | Error::Partitions { .. }
            | Error::NoCache => ErrorKind::Usage,
            // The source is the program's own, and what is wrong with it only the program knows.
            Error::Load(_) | Error::Write(_) => ErrorKind::Data,
            Error::QueueFull { .. } => ErrorKind::Server,
            Error::LoadTimeout(_) | Error::Overloaded | Error::NotFlushed { .. } => {
                ErrorKind::Transport
            }
        }
    }

    /// Whether the same operation may succeed later without a change to the program. A loader's
    /// error is the program's own: look at it with [`load_error`](Self::load_error).
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) => error.is_retryable(),
            Error::LoadTimeout(_)
            | Error::Overloaded
            | Error::QueueFull { .. }
            | Error::NotFlushed { .. } => true,
            _ => false,
        }
    }

    /// Whether the operation may have been carried out although no answer came.
    pub fn is_maybe(&self) -> bool {
        matches!(self, Error::Core(error) if error.is_maybe())
    }

    /// The loader's error, or the writer's, when it is an `E`.
    pub fn load_error<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Error::Load(error) | Error::Write(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

impl From<redkit_core::ConfigError> for Error {
    fn from(error: redkit_core::ConfigError) -> Self {
        Error::Core(error.into())
    }
}

/// A loader's own error, shared by all callers that waited for it.
#[derive(Clone)]
pub struct LoadError(Arc<dyn StdError + Send + Sync>);

impl LoadError {
    pub(crate) fn new(error: Box<dyn StdError + Send + Sync>) -> Self {
        Self(error.into())
    }

    /// The error as the type that the loader gave, when it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for LoadError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}
