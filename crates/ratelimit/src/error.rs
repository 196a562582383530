//! The errors of a limiter.

use redkit_core::{CallError, ConfigError, ErrorKind, FaultKind};

/// Any failure of a limiter. That a call is denied is none: see
/// [`Decision`](crate::Decision).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection or the server, where [`OnOutage::Error`](crate::OnOutage::Error) says that
    /// the caller decides; or a reply that makes no sense. The units may have been taken when
    /// [`is_maybe`](redkit_core::Error::is_maybe) holds, and stay taken: see
    /// [`OnOutage`](crate::OnOutage#what-an-outage-leaves-charged).
    #[error(transparent)]
    Core(#[from] redkit_core::Error),

    /// More units were asked for than the limit ever has, so waiting would never help. Remedy:
    /// split the work, or raise the limit or its burst.
    #[error("policy `{policy}` has {limit} units at most, and {cost} were asked for at once")]
    CostAboveLimit {
        /// The policy.
        policy: Box<str>,
        /// The units that were asked for.
        cost: u64,
        /// The most that it ever has.
        limit: u64,
    },

    /// No units were asked for. Remedy: ask for at least one, or use `peek`.
    #[error("a call costs at least one unit; to look without taking any there is `peek`")]
    ZeroCost,

    /// The key is empty. Cause: a name or address that could not be determined; all such callers would
    /// share one limit. Remedy: decide what to do without a key.
    #[error("the key is empty, and would stand for everybody whose key is unknown")]
    EmptyKey,

    /// Limits that are decided together lie on different slots, which a cluster cannot do in one
    /// step; refused everywhere, so that tests find it. Remedy: a common tag
    /// ([`LimitSet::tag`](crate::LimitSet::tag)), or
    /// [`LimitSet::best_effort`](crate::LimitSet::best_effort).
    #[error(
        "limits `{first}` and `{second}` lie on different slots: give them a common tag, or ask for best effort"
    )]
    DifferentSlots {
        /// A limit.
        first: Box<str>,
        /// One on another slot.
        second: Box<str>,
    },

    /// One limit was named twice with the same key in one call. Remedy: name it once, with the sum
    /// of the costs.
    #[error(
        "limit `{0}` is named twice with the same key; name it once, with the sum of the costs"
    )]
    NamedTwice(Box<str>),

    /// Limiters of different clients were to decide together. Remedy: build them from one client.
    #[error("limiters of different clients cannot decide together")]
    DifferentClients,

    /// No limit was named.
    #[error("no limit is named; name at least one")]
    NothingNamed,

    /// So many callers wait for this key already. Remedy: shed load, or raise
    /// [`max_waiters`](crate::RateLimiterBuilder::max_waiters).
    #[error("{0} callers wait for this key already (`max_waiters`)")]
    QueueFull(u64),

    /// There is no limiter of this name in the configuration.
    #[error("no limiter named `{name}`; there are: {known}")]
    UnknownLimiter {
        /// The name that was asked for.
        name: Box<str>,
        /// The names there are, separated by commas.
        known: Box<str>,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            Error::QueueFull(_) => ErrorKind::Server,
            _ => ErrorKind::Usage,
        }
    }

    /// Whether the same call may succeed later without a change to the program. It does not say
    /// that nothing was taken: see [`is_maybe`](Self::is_maybe).
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) => error.is_retryable(),
            Error::QueueFull(_) => true,
            _ => false,
        }
    }

    /// Whether the operation may have been carried out although no answer came.
    pub fn is_maybe(&self) -> bool {
        matches!(self, Error::Core(error) if error.is_maybe())
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Core(error.into())
    }
}

/// Whether an error means that the server serves nobody now, so that another must decide; and not
/// that this call was wrong.
pub(crate) fn is_outage(error: &redkit_core::Error) -> bool {
    match error.call_error() {
        Some(CallError::Replied(error)) => error.is_server_state(),
        Some(CallError::NotSent(fault) | CallError::Maybe(fault)) => {
            !matches!(fault.kind(), FaultKind::Invalid | FaultKind::Unsupported)
        }
        Some(_) => true,
        None => false,
    }
}
