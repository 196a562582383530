//! The errors of a response cache.

use redkit_core::{ConfigError, ErrorKind};

/// Any failure of a [`ResponseCacheLayer`](crate::ResponseCacheLayer) that the program sees. Requests
/// see none: whatever fails in the cache, they go to their handler.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot work. Its text names the setting and says what to change.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The cache below; see there for cause and remedy.
    #[error(transparent)]
    Cache(#[from] redkit_cache::Error),
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Config(_) => ErrorKind::Usage,
            Error::Cache(error) => error.kind(),
        }
    }

    /// Whether the same operation may succeed later without a change to the program.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Config(_) => false,
            Error::Cache(error) => error.is_retryable(),
        }
    }

    /// Whether the operation may have been carried out although no answer came.
    pub fn is_maybe(&self) -> bool {
        matches!(self, Error::Cache(error) if error.is_maybe())
    }
}
