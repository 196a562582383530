//! What can go wrong with channels, topics and inboxes.

use std::borrow::Cow;

use redkit_core::{CallError, ConfigError, ErrorKind, FaultKind};

/// Any failure of a channel, a topic or an inbox. That messages may be missing is none: a subscription
/// tells it as an event.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection, the server or the codec. After a publication the message may have been
    /// delivered when [`is_maybe`](redkit_core::Error::is_maybe) holds. A user without the right to
    /// the channel finds the server's `NOPERM` here, which names it.
    #[error(transparent)]
    Core(#[from] redkit_core::Error),

    /// The encoded message is larger than the limit; nothing was sent. Remedy: send a reference in
    /// place of the data, or raise `max_message_bytes`.
    #[error(
        "a message of {bytes} bytes is over the limit of {limit} (`max_message_bytes`); send a \
         reference to the data, or raise the limit"
    )]
    TooLarge {
        /// What it takes, encoded.
        bytes: usize,
        /// The limit.
        limit: usize,
    },

    /// The group is consumed in the other way: ordered and unordered consumers cannot share one. Nothing
    /// was consumed. Remedy: another name for the group, or the same way in all programs.
    #[error(
        "the group `{group}` is consumed in the other way (ordered or not); name another group, or \
         consume it alike in all programs"
    )]
    GroupClash {
        /// The group.
        group: Box<str>,
    },

    /// An argument or a setting cannot work; nothing was sent.
    #[error("{what}: {problem}; {fix}")]
    Invalid {
        /// The argument or setting.
        what: &'static str,
        /// What is wrong with it.
        problem: Cow<'static, str>,
        /// What to give instead.
        fix: &'static str,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            Error::TooLarge { .. } | Error::GroupClash { .. } | Error::Invalid { .. } => {
                ErrorKind::Usage
            }
        }
    }

    /// Whether the same call may succeed later without a change to the program. It does not say
    /// that nothing was delivered: see [`is_maybe`](Self::is_maybe).
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) => error.is_retryable(),
            Error::TooLarge { .. } | Error::GroupClash { .. } | Error::Invalid { .. } => false,
        }
    }

    /// Whether the operation may have been carried out although no answer came.
    pub fn is_maybe(&self) -> bool {
        matches!(self, Error::Core(error) if error.is_maybe())
    }

    /// The client is shut down.
    pub(crate) fn is_shut_down(&self) -> bool {
        matches!(self, Error::Core(error) if is_shut_down(error))
    }

    pub(crate) fn invalid(
        what: &'static str,
        problem: impl Into<Cow<'static, str>>,
        fix: &'static str,
    ) -> Self {
        Error::Invalid {
            what,
            problem: problem.into(),
            fix,
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Core(error.into())
    }
}

/// The client is shut down, which the server knows nothing of.
pub(crate) fn is_shut_down(error: &redkit_core::Error) -> bool {
    let fault = error.call_error().and_then(CallError::fault);
    fault.is_some_and(|fault| fault.kind() == FaultKind::Shutdown)
}
