//! How an [`Error`] is shown to programmers: like a derived `Debug`, but without the stored bytes,
//! which are values, and values do not belong in logs.

use std::fmt;

use super::Error;

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) => f.debug_tuple("Config").field(error).finish(),
            Error::Call { command, error } => f
                .debug_struct("Call")
                .field("command", command)
                .field("error", error)
                .finish(),
            Error::Reply { command, error } => f
                .debug_struct("Reply")
                .field("command", command)
                .field("error", error)
                .finish(),
            Error::Encode { type_name, error } => f
                .debug_struct("Encode")
                .field("type_name", type_name)
                .field("error", error)
                .finish(),
            Error::Decode {
                key,
                type_name,
                raw,
                error,
            } => f
                .debug_struct("Decode")
                .field("key", key)
                .field("type_name", type_name)
                .field("raw", &format_args!("{} bytes", raw.len()))
                .field("error", error)
                .finish(),
            Error::Aborted {
                position,
                command,
                error,
            } => f
                .debug_struct("Aborted")
                .field("position", position)
                .field("command", command)
                .field("error", error)
                .finish(),
            Error::Unprotected { error } => {
                f.debug_struct("Unprotected").field("error", error).finish()
            }
            Error::WatchedChanged => f.write_str("WatchedChanged"),
            Error::Contended { key, attempts } => f
                .debug_struct("Contended")
                .field("key", key)
                .field("attempts", attempts)
                .finish(),
            Error::OfClient { client, error } => f
                .debug_struct("OfClient")
                .field("client", client)
                .field("error", error)
                .finish(),
            Error::UnknownClient { name, known } => f
                .debug_struct("UnknownClient")
                .field("name", name)
                .field("known", known)
                .finish(),
        }
    }
}
