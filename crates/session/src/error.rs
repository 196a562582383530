//! What can go wrong with sessions.

use redkit_core::{ConfigError, ErrorKind};

/// Any failure of a session store. That there is no session for an id is none: see
/// [`SessionStore::load`](crate::SessionStore::load).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection or the server; or a value that is not of the type asked for, in
    /// [`Session::get`](crate::Session::get). When
    /// [`is_maybe`](redkit_core::Error::is_maybe) holds, the change may have been made. Remedy: answer
    /// 503. Never go on as if the client had no session.
    #[error(transparent)]
    Core(#[from] redkit_core::Error),

    /// The session has ended since it was loaded: deleted, revoked, or past a timeout. Nothing was
    /// changed. Remedy: treat the request as one without a session.
    #[error("the session has ended; nothing was changed")]
    Gone,

    /// The session was rotated since it was loaded, by another request, and takes no changes any more.
    /// Nothing was changed. Remedy: let the client try again with its new id.
    #[error("the session was rotated by another request; nothing was changed")]
    Rotated,

    /// [`Session::commit_if_unchanged`](crate::Session::commit_if_unchanged) found another revision.
    /// Nothing was changed. Remedy: load again, decide again.
    #[error("the session is at revision {revision} by now; nothing was changed")]
    Conflict {
        /// The revision that stands.
        revision: u64,
    },

    /// The entries would be larger than [`max_bytes`](crate::SessionStoreBuilder::max_bytes). Nothing
    /// was changed. Remedy: keep large data elsewhere, and their key in the session.
    #[error("the session would hold {bytes} bytes, and {limit} are allowed (`max_bytes`)")]
    TooLarge {
        /// Names and encoded values of all entries.
        bytes: u64,
        /// The limit.
        limit: u64,
    },

    /// The user has as many sessions as
    /// [`max_sessions`](crate::SessionStoreBuilder::max_sessions) allows, and none is to be ended for a
    /// new one. Remedy: let the user end one of them.
    #[error("the user has {sessions} sessions already (`max_sessions`)")]
    TooManySessions {
        /// The sessions that the user has.
        sessions: u64,
    },

    /// A name of an entry is empty or longer than 256 bytes.
    #[error("an entry's name has {0} bytes; use 1 to 256")]
    Name(usize),

    /// What was asked for needs a user, and the session has none. Remedy:
    /// [`sign_in`](crate::Session::sign_in) first.
    #[error("the session has no user")]
    NoUser,

    /// The user's name is empty.
    #[error("the user's name is empty, and would stand for everybody whose name is unknown")]
    EmptyUser,

    /// A name of an index is empty or longer than 64 bytes, or its value is empty or longer than 1,024, or
    /// there are more than 8 for a session.
    #[error(
        "an index's name has 1 to 64 bytes, its value 1 to 1,024, and a session has 8 of them at most"
    )]
    Index,

    /// So many sessions stand under one value of a named index already. Remedy: index by what one or a few
    /// sessions have in common.
    #[error("{sessions} sessions have the same value of an index; no more are allowed")]
    IndexFull {
        /// The limit.
        sessions: u32,
    },

    /// The request has been answered already, or its client has gone away, and it cannot be given another id. The id
    /// that it has is valid as before, once Redis can be told within the
    /// [grace](crate::SessionStoreBuilder::rotation_grace). A sign-in or a rotation that was begun is taken back, but a
    /// session that a sign-in has ended already, since its user had too many, stays ended. A new session without a user
    /// that was begun may be stored, and ends by its idle timeout. Remedy: do it before the answer's head goes out.
    #[error("the request is answered, and its client cannot be given another id")]
    Answered,

    /// The operating system has no randomness for an id. No session was made.
    #[error("the operating system gives no random numbers")]
    NoRandomness,
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            Error::NoRandomness => ErrorKind::Server,
            // Another request was first, or the user has what it may have: no mistake of the program.
            Error::Gone
            | Error::Rotated
            | Error::Conflict { .. }
            | Error::TooManySessions { .. }
            | Error::IndexFull { .. } => ErrorKind::Data,
            _ => ErrorKind::Usage,
        }
    }

    /// Whether the same call may succeed later without a change to the program.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) => error.is_retryable(),
            Error::NoRandomness => true,
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
