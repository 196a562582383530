//! What can go wrong with locks.

use redkit_core::{ConfigError, ErrorKind};

/// Any failure of this crate.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection or the server; or a setting that cannot work. When
    /// [`is_maybe`](redkit_core::Error::is_maybe) holds, the server may have done what was asked; what a call
    /// that failed may have taken is given back in the background, and runs out by itself otherwise.
    #[error(transparent)]
    Core(#[from] redkit_core::Error),

    /// The key is empty. Cause: a name that could not be determined; all such callers would share one lock.
    /// Remedy: decide what to do without a key.
    #[error("the key is empty, and would stand for everything whose key is unknown")]
    EmptyKey,
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            Error::EmptyKey => ErrorKind::Usage,
        }
    }

    /// Whether the same call may succeed later without a change to the program.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) => error.is_retryable(),
            Error::EmptyKey => false,
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Core(error.into())
    }
}
