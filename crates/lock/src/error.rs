//! What can go wrong with locks.

use redkit_core::{ConfigError, ErrorKind};

use crate::fence::Fence;
use crate::holder::Holder;

/// Any failure of this crate.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection or the server; or a setting that cannot work. When
    /// [`is_maybe`](redkit_core::Error::is_maybe) holds, the server may have done what was asked; what a call
    /// that failed may have taken is given back in the background, and runs out by itself otherwise.
    #[error(transparent)]
    Core(#[from] redkit_core::Error),

    /// Others have the lock, and had it until the caller would wait no longer. Remedy: wait longer, or say who
    /// has it.
    #[error("the lock is taken{}", by(.holder.as_deref()))]
    Taken {
        /// Who had it when the caller last looked. `None` when it was free and others were to be served before
        /// the caller ([fair mode](crate::LockManagerBuilder::fair)), when they took it meanwhile, or when
        /// something else than a lock stands at its key.
        holder: Option<Box<Holder>>,
    },

    /// The lock was lost while it was held: it could not be renewed in time (see
    /// [`ttl`](crate::LockManagerBuilder::ttl)), reached
    /// [`hold_at_most`](crate::LockManagerBuilder::hold_at_most), or was taken away. Somebody else may have it.
    /// Remedy: take it for granted that the work was not finished, and begin anew under a new fence.
    #[error("the lock was lost while it was held; the work was stopped")]
    Lost,

    /// A newer fence has written (or was [announced](crate::FencedRegister::announce)): the caller's lock was lost,
    /// and somebody else has it, or had it. Nothing was changed. Remedy: stop the work.
    #[error("the write was rejected: fence {newer} is newer than the writer's")]
    Fenced {
        /// The newest fence.
        newer: Fence,
    },

    /// The key is empty. Cause: a name that could not be determined; all such callers would share one lock.
    /// Remedy: decide what to do without a key.
    #[error("the key is empty, and would stand for everything whose key is unknown")]
    EmptyKey,

    /// No key was named, or too many to be taken in one step. Remedy: name 1 to 1,000.
    #[error("{0} keys are named; name 1 to 1,000")]
    KeyCount(usize),
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            Error::Taken { .. } | Error::Lost | Error::Fenced { .. } => ErrorKind::Data,
            Error::EmptyKey | Error::KeyCount(_) => ErrorKind::Usage,
        }
    }

    /// Whether the same call may succeed later without a change to the program.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) => error.is_retryable(),
            Error::Taken { .. } | Error::Lost => true,
            Error::Fenced { .. } | Error::EmptyKey | Error::KeyCount(_) => false,
        }
    }

    /// Who has the lock, when it is taken and that is known.
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Error::Taken { holder } => holder.as_deref(),
            _ => None,
        }
    }
}

fn by(holder: Option<&Holder>) -> String {
    holder
        .map(|holder| format!(" by {holder}"))
        .unwrap_or_default()
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Core(error.into())
    }
}
