//! What can go wrong: [`CallError`] below the client, [`Error`] above it.

mod shown;
mod type_name;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::ConfigError;
use crate::value::ValueError;

pub use self::type_name::TypeName;

/// Why a call gave no value, sorted by what the caller may conclude.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The command never left: it was certainly not carried out. Sending it again is safe.
    #[error("not sent: {0}")]
    NotSent(#[source] Fault),
    /// The command was sent, or may have been, and no answer came: it may have been carried out
    /// or not, or may yet be. Only an idempotent command may be repeated.
    #[error("outcome unknown: {0}")]
    Maybe(#[source] Fault),
    /// The server answered with an error.
    #[error("the server replied: {0}")]
    Replied(#[source] ServerError),
}

impl CallError {
    /// The fault, when the transport and not the server is the reason.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            CallError::NotSent(fault) | CallError::Maybe(fault) => Some(fault),
            CallError::Replied(_) => None,
        }
    }

    /// The server's error, when it answered.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            CallError::Replied(error) => Some(error),
            CallError::NotSent(_) | CallError::Maybe(_) => None,
        }
    }
}

/// What kind of trouble kept a call from being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// No connection could be made (refused, unreachable, unknown host).
    Connect,
    /// The TLS handshake failed, or the other side does not speak TLS.
    Tls,
    /// The server refused the credentials or the first commands on a connection.
    Handshake,
    /// An established connection broke.
    Disconnected,
    /// The deadline passed.
    Timeout,
    /// The circuit breaker is open.
    BreakerOpen,
    /// Too much is in flight already.
    Overloaded,
    /// The client or the backend was shut down.
    Shutdown,
    /// The command is malformed, or its keys lie on different slots. Repeating it is no use.
    Invalid,
    /// This backend cannot do it. Repeating it is no use.
    Unsupported,
    /// The server's bytes made no sense.
    Protocol,
    /// The layout of the cluster changed under an operation of several steps, such as a scan. This
    /// step cannot be repeated; begin the operation anew.
    LayoutChanged,
}

impl FaultKind {
    /// Whether the same call may go through later.
    pub fn is_transient(self) -> bool {
        !matches!(
            self,
            FaultKind::Invalid
                | FaultKind::Unsupported
                | FaultKind::Shutdown
                | FaultKind::LayoutChanged
        )
    }

    /// A short name, for metrics' labels.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Connect => "connect",
            FaultKind::Tls => "tls",
            FaultKind::Handshake => "handshake",
            FaultKind::Disconnected => "disconnected",
            FaultKind::Timeout => "timeout",
            FaultKind::BreakerOpen => "breaker_open",
            FaultKind::Overloaded => "overloaded",
            FaultKind::Shutdown => "shutdown",
            FaultKind::Invalid => "invalid",
            FaultKind::Unsupported => "unsupported",
            FaultKind::Protocol => "protocol",
            FaultKind::LayoutChanged => "layout_changed",
        }
    }
}

/// A transport fault: its kind, a message that says what to do, and the underlying error.
#[derive(Debug, Clone)]
pub struct Fault {
    kind: FaultKind,
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Fault {
    /// A fault without an underlying error.
    pub fn new(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Keeps the underlying error.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The kind of trouble.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The command never left.
    pub fn not_sent(self) -> CallError {
        CallError::NotSent(self)
    }

    /// The command may have been carried out.
    pub fn maybe(self) -> CallError {
        CallError::Maybe(self)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// An error that a server sent: a code (`WRONGTYPE`, `ERR`, …) and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    code: Box<str>,
    message: Box<str>,
}

impl ServerError {
    /// From a code and the text after it.
    pub fn new(code: impl Into<Box<str>>, message: impl Into<Box<str>>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }

    /// From a whole error line as the server writes it: the first word is the code when it is in
    /// capitals, otherwise the code is `ERR`.
    pub fn parse(line: &str) -> Self {
        match line.split_once(' ') {
            Some((code, message)) if is_code(code) => Self::new(code, message),
            None if is_code(line) => Self::new(line, ""),
            _ => Self::new("ERR", line),
        }
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The text after the code. It can quote what the command named (a user, a key): treat it as
    /// you treat your keys.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the server could not serve anybody just now (loading, failing over, read-only, out
    /// of memory…), as opposed to an error in this one command.
    pub fn is_server_state(&self) -> bool {
        matches!(
            self.code(),
            "LOADING"
                | "BUSY"
                | "CLUSTERDOWN"
                | "MASTERDOWN"
                | "READONLY"
                | "TRYAGAIN"
                | "OOM"
                | "NOREPLICAS"
                | "MISCONF"
        )
    }
}

fn is_code(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return f.write_str(&self.code);
        }
        write!(f, "{} {}", self.code, self.message)
    }
}

impl StdError for ServerError {}

/// Whose fault an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration, or the way the library was called: fix the program.
    Usage,
    /// The stored data are not what the program takes them for: of another type, taken or changed by another caller
    /// first, or over. A loader's or writer's own error counts here as well: only the program knows more of it.
    Data,
    /// The server answered with an error.
    Server,
    /// The server could not be reached, or did not answer in time.
    Transport,
}

/// Any failure of this crate. Neither its text nor its `Debug` shows what is stored.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong. The message names the field and the fix.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The call was not answered with a value: see [`CallError`] for what may be concluded.
    #[error("{command}: {error}")]
    Call {
        /// The command's name.
        command: Box<str>,
        /// What happened.
        #[source]
        error: CallError,
    },

    /// The reply has a shape that this command never has. Cause: another server than Redis or
    /// Valkey behind the address, or a script that was changed. Remedy: check the address.
    #[error("{command}: {error}")]
    Reply {
        /// The command's name.
        command: Box<str>,
        /// What was expected and what came.
        #[source]
        error: ValueError,
    },

    /// A value could not be encoded. Cause: its `Serialize` refuses (a map with keys that are not
    /// text, say). Nothing was written.
    #[error("cannot encode a {}: {error}", TypeName(type_name))]
    Encode {
        /// The Rust type.
        type_name: &'static str,
        /// The codec's error.
        #[source]
        error: Arc<dyn StdError + Send + Sync>,
    },

    /// The stored bytes are not a value of this type. Cause: another program or an older version
    /// wrote the key. Remedy: migrate or delete the key; `raw` holds the bytes, nothing is lost.
    #[error("the value at key `{key}` is not a {}: {error}", TypeName(type_name))]
    Decode {
        /// The key, escaped for printing.
        key: Box<str>,
        /// The Rust type.
        type_name: &'static str,
        /// The bytes as they are stored.
        raw: Bytes,
        /// The codec's error.
        #[source]
        error: Arc<dyn StdError + Send + Sync>,
    },

    /// The server refused a command of a transaction when it was queued, so nothing of the
    /// transaction was carried out. Cause: a command that the server does not have, or a wrong
    /// number of arguments, or no memory left for writes. Remedy: see the error.
    #[error("transaction aborted by its command {position} ({command}): {error}")]
    Aborted {
        /// Which of the transaction's commands, from 0.
        position: usize,
        /// Its name.
        command: Box<str>,
        /// What the server said.
        #[source]
        error: ServerError,
    },

    /// The server did not open a transaction, or did not queue its commands, and went on: they may
    /// have been carried out one by one, with other callers' commands between them. Cause: the user
    /// lost the right to `MULTI` or `EXEC` since the client's first transaction, or something
    /// between client and server does not know them. Remedy: grant `+multi +exec`, and look at
    /// what was written.
    #[error(
        "the server opened no transaction ({error}); its commands may have been carried out one by \
         one; grant the user `+multi +exec`"
    )]
    Unprotected {
        /// What was said in place of `OK` or `QUEUED`.
        #[source]
        error: CallError,
    },

    /// A key that this connection had watched was changed, so nothing of the transaction was
    /// carried out. Cause: `WATCH` on a [dedicated](crate::Client::dedicated) connection, and
    /// another writer. Remedy: read again, and try again.
    #[error("nothing of the transaction was carried out: a watched key was changed by others")]
    WatchedChanged,

    /// A value was changed by others every time before it could be written. Nothing was written.
    /// Cause: many writers of one key. Remedy: fewer, or a lock, or more attempts.
    #[error("the value at key `{key}` was changed by others {attempts} times in a row")]
    Contended {
        /// The key, escaped for printing.
        key: Box<str>,
        /// How often it was tried.
        attempts: u32,
    },

    /// One of several clients could not be made. Cause and remedy: see its error.
    #[error("client `{client}`: {error}")]
    OfClient {
        /// The client's name.
        client: Box<str>,
        /// What happened to it.
        #[source]
        error: Box<Error>,
    },

    /// No client is registered under this name.
    #[error("no client named `{name}`; there are: {known}")]
    UnknownClient {
        /// The name that was asked for.
        name: Box<str>,
        /// The names there are, comma-separated.
        known: Box<str>,
    },
}

impl Error {
    pub(crate) fn call(command: &str, error: CallError) -> Self {
        Error::Call {
            command: command.into(),
            error,
        }
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Config(_) | Error::Encode { .. } | Error::UnknownClient { .. } => {
                ErrorKind::Usage
            }
            Error::Decode { .. } => ErrorKind::Data,
            Error::Reply { .. } | Error::Aborted { .. } | Error::Unprotected { .. } => {
                ErrorKind::Server
            }
            Error::Contended { .. } | Error::WatchedChanged => ErrorKind::Data,
            Error::OfClient { error, .. } => error.kind(),
            Error::Call { error, .. } => match error {
                CallError::Replied(_) => ErrorKind::Server,
                CallError::NotSent(fault) | CallError::Maybe(fault) => match fault.kind() {
                    FaultKind::Invalid | FaultKind::Unsupported => ErrorKind::Usage,
                    _ => ErrorKind::Transport,
                },
            },
        }
    }

    /// Whether the same operation may succeed later without a change to program or data. It does
    /// *not* say that repeating is safe: for that see [`Error::is_maybe`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Call {
                error: CallError::Replied(error),
                ..
            } => error.is_server_state(),
            Error::Call {
                error: CallError::NotSent(f) | CallError::Maybe(f),
                ..
            } => f.kind().is_transient() || f.kind() == FaultKind::LayoutChanged,
            Error::Aborted { error, .. } => error.is_server_state(),
            Error::Contended { .. } | Error::WatchedChanged => true,
            Error::OfClient { error, .. } => error.is_retryable(),
            _ => false,
        }
    }

    /// Whether the command may have been carried out although no answer came.
    pub fn is_maybe(&self) -> bool {
        match self {
            Error::Call { error, .. } => matches!(error, CallError::Maybe(_)),
            Error::OfClient { error, .. } => error.is_maybe(),
            Error::Unprotected { .. } => true,
            _ => false,
        }
    }

    /// The error below, when a call failed.
    pub fn call_error(&self) -> Option<&CallError> {
        match self {
            Error::Call { error, .. } | Error::Unprotected { error } => Some(error),
            Error::OfClient { error, .. } => error.call_error(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_lines_split_into_code_and_text() {
        let error = ServerError::parse("WRONGTYPE Operation against a key");
        assert_eq!(
            (error.code(), error.message()),
            ("WRONGTYPE", "Operation against a key")
        );
        let error = ServerError::parse("value is not an integer");
        assert_eq!(
            (error.code(), error.message()),
            ("ERR", "value is not an integer")
        );
        assert_eq!(ServerError::parse("NOAUTH").to_string(), "NOAUTH");
    }

    #[test]
    fn errors_say_whose_fault_they_are() {
        let down = Error::call("GET", Fault::new(FaultKind::Connect, "refused").not_sent());
        assert_eq!(
            (down.kind(), down.is_retryable(), down.is_maybe()),
            (ErrorKind::Transport, true, false)
        );
        let cross = Error::call(
            "MGET",
            Fault::new(FaultKind::Invalid, "two slots").not_sent(),
        );
        assert_eq!(
            (cross.kind(), cross.is_retryable()),
            (ErrorKind::Usage, false)
        );
        let loading = Error::call("GET", CallError::Replied(ServerError::parse("LOADING x")));
        assert_eq!(
            (loading.kind(), loading.is_retryable()),
            (ErrorKind::Server, true)
        );
    }
}
