//! What can go wrong in a cache.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Any failure of a cache. It can be cloned, because everybody who waited for a load gets it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection, the server or the codec. `get_or_load` gives it only when there is no
    /// value to give (a loaded value that cannot be encoded).
    #[error(transparent)]
    Core(#[from] redkit_core::Error),

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
}

impl Error {
    /// Whether the same operation may succeed later without a change to the program. A loader's
    /// error is the program's own: look at it with [`LoadError::downcast_ref`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) => error.is_retryable(),
            Error::LoadTimeout(_) => true,
            Error::Load(_) | Error::LoaderPanicked => false,
        }
    }

    /// The loader's error, when it is an `E`.
    pub fn load_error<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Error::Load(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

/// A loader's own error, shared by all who waited for it.
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
