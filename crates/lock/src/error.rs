//! What can go wrong with locks.

use std::time::Duration;

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

    /// Fewer servers confirmed the acquisition in time than
    /// [were to](crate::LockManagerBuilder::confirmed_by_replicas). It was given back. Cause: replicas that are
    /// down or behind. Remedy: try again, or look after them.
    #[error("{confirmed} of {wanted} servers confirmed the lock in time; it was given back")]
    NotConfirmed {
        /// How many did.
        confirmed: u32,
        /// How many were to.
        wanted: u32,
    },

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

    /// The candidate stands already: [`Election::run`](crate::Election::run) is under way, in this or another
    /// clone. Remedy: one `run` at a time, or a second [`Election`](crate::Election).
    #[error("the candidate stands for the election already, in another call of `run`")]
    Standing,

    /// A call asks for no permits. Remedy: do without the semaphore.
    #[error("a call asks for 0 permits; ask for 1 or more")]
    NoPermits,

    /// A call asks for more permits than there are, so that waiting would never end; or gives back as many
    /// as it holds, or more, where some are to be kept. Remedy: ask for fewer, or
    /// [resize](crate::Semaphore::resize).
    #[error("a call names {permits} permits, and there are {there_are}")]
    AbovePermits {
        /// The permits that the call names.
        permits: u32,
        /// The permits that there are.
        there_are: u32,
    },

    /// An execution with this key is under way. Remedy: ask again after `retry_after`; the result is there
    /// then, or the work is begun anew. HTTP: 409.
    #[error("an execution with this key is in flight; ask again in {retry_after:?}")]
    InFlight {
        /// When asking again makes sense:
        /// [`retry_after`](crate::IdempotentExecutionBuilder::retry_after).
        retry_after: Duration,
    },

    /// The key was used for something else. Cause: the caller used a key twice. Remedy: a new key for
    /// every new request. HTTP: 422.
    #[error("the key was used for another request; use a new key for every request")]
    OtherFingerprint,

    /// The work was done, and its result is not kept: it was too large, could not be encoded, or broke while it was
    /// read (HTTP). Remedy: raise [`max_result_bytes`](crate::IdempotentExecutionBuilder::max_result_bytes), let the work
    /// give an id in place of the data, or give a type that the codec can encode (the log says which it was).
    #[error(
        "the work was done, and its result is not kept: it was over `max_result_bytes` or the client's `max_value_bytes`, or could not be encoded"
    )]
    NotKept,

    /// There is no latch of this key. Cause: it was not set, or ran out after its time to live. Remedy: set
    /// it first, or raise `ttl`.
    #[error("the latch is not set, or has run out (`ttl`)")]
    NoLatch,

    /// Fewer than a majority of the servers of a [`Redlock`](crate::Redlock) granted the lock, or wrote its
    /// fence back. What was granted is given back. Remedy: try again; when servers failed, look after them.
    #[error("{} of {} servers granted the lock, and {needed} must: {}", crate::redlock::granted(nodes), nodes.len(), crate::redlock::listed(nodes))]
    NoQuorum {
        /// How many servers must grant it.
        needed: usize,
        /// What each did, in the order of the clients.
        nodes: Vec<crate::NodeOutcome>,
    },

    /// As many callers wait as may, in all processes. Nothing was taken. Remedy: shed the load, or raise
    /// `max_waiters`.
    #[error("{waiters} callers wait already (`max_waiters`)")]
    QueueFull {
        /// How many wait.
        waiters: u32,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            Error::QueueFull { .. } | Error::NoQuorum { .. } | Error::NotConfirmed { .. } => {
                ErrorKind::Server
            }
            Error::Taken { .. }
            | Error::Lost
            | Error::Fenced { .. }
            | Error::NoLatch
            | Error::InFlight { .. }
            | Error::NotKept => ErrorKind::Data,
            Error::EmptyKey
            | Error::Standing
            | Error::KeyCount(_)
            | Error::NoPermits
            | Error::AbovePermits { .. }
            | Error::OtherFingerprint => ErrorKind::Usage,
        }
    }

    /// Whether the same call may succeed later without a change to the program.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) => error.is_retryable(),
            Error::Taken { .. }
            | Error::Lost
            | Error::QueueFull { .. }
            | Error::NoQuorum { .. }
            | Error::NotConfirmed { .. }
            | Error::InFlight { .. } => true,
            Error::Fenced { .. }
            | Error::EmptyKey
            | Error::Standing
            | Error::KeyCount(_)
            | Error::NoPermits
            | Error::AbovePermits { .. }
            | Error::NoLatch
            | Error::OtherFingerprint
            | Error::NotKept => false,
        }
    }

    /// Whether the operation may have been carried out although no answer came.
    pub fn is_maybe(&self) -> bool {
        matches!(self, Error::Core(error) if error.is_maybe())
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
