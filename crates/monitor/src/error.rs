//! What can go wrong with monitoring itself. What it finds wrong with others is no error: see
//! [`Report`](crate::Report).

use redkit_core::{ConfigError, ErrorKind};

/// Any failure of this crate.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection or the server; or a setting that cannot work, with the field and the fix. Remedy: see
    /// the error below.
    #[error(transparent)]
    Core(#[from] redkit_core::Error),

    /// None of the servers could be asked. Remedy: see the cause of the first; a health check tells of all.
    #[error("none of the {servers} servers could be asked; the first said: {first}")]
    NoServer {
        /// How many there are.
        servers: usize,
        /// Why the first could not be asked.
        first: redkit_core::Error,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) | Error::NoServer { first: error, .. } => error.kind(),
        }
    }

    /// Whether the same call may succeed later without a change to the program.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) | Error::NoServer { first: error, .. } => error.is_retryable(),
        }
    }

    /// Whether the operation may have been carried out although no answer came.
    pub fn is_maybe(&self) -> bool {
        match self {
            Error::Core(error) | Error::NoServer { first: error, .. } => error.is_maybe(),
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Core(error.into())
    }
}

/// # Errors
/// [`ConfigError`] for a name that could not stand in a key or in an answer.
pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), ConfigError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match !name.is_empty() && name.len() <= 64 && name.bytes().all(valid) {
        true => Ok(()),
        false => Err(ConfigError::new(
            field,
            "it is empty, longer than 64 bytes, or holds something else than letters, digits, `-`, `_` and `.`",
            "choose a short name such as `orders`",
        )),
    }
}
