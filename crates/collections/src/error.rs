//! What can go wrong with a collection.

use std::borrow::Cow;

use bytes::Bytes;
use redkit_core::{CallError, ErrorKind, Key, ServerError};

/// Any failure of a collection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection, the server or the codec; and an operation on keys of different slots of a
    /// cluster, which is not sent.
    #[error(transparent)]
    Core(#[from] redkit_core::Error),

    /// The server is too old for this. Remedy: a newer one, or another operation. Nothing was sent
    /// or carried out.
    #[error("{what} needs {needs}; this server is {found}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// The servers that can do it.
        needs: &'static str,
        /// What answered.
        found: Box<str>,
    },

    /// An argument cannot work (a score that is not a number, a time of zero). Nothing was sent.
    #[error("{what}: {problem}; {fix}")]
    Invalid {
        /// The argument.
        what: &'static str,
        /// What is wrong with it.
        problem: Cow<'static, str>,
        /// What to give instead.
        fix: &'static str,
    },

    /// The operation finds items by their bytes, and the client's codec does not always give the
    /// same (it encrypts or compresses). Remedy: for this collection a client with another codec,
    /// by [`Client::with_codec`](redkit_core::Client::with_codec).
    #[error(
        "{what} needs a codec that always gives the same bytes, and this client's encrypts or \
         compresses; use `with_codec` for a client with another codec"
    )]
    NotComparable {
        /// The operation or the type.
        what: &'static str,
    },

    /// Items cannot go from one list to the other, because their codec binds them to a place.
    /// Remedy: give both lists the same place with [`List::bound_to`](crate::List::bound_to).
    #[error(
        "items of `{from}` are encrypted for their place and could not be read in `{to}`; give \
         both lists the same place with `bound_to`"
    )]
    Bound {
        /// Where the items are.
        from: Key,
        /// Where they were to go.
        to: Key,
    },

    /// A number would leave its range: 64 bits for integers, finite for floats. It was not
    /// changed.
    #[error("the number at `{key}` would leave its range")]
    Overflow {
        /// The key, and the field if there is one.
        key: Box<str>,
    },

    /// What is stored is not a number, so it cannot be counted up. It was not changed.
    #[error("what is stored at `{key}` is not a number of this kind")]
    NotANumber {
        /// The key, and the field if there is one.
        key: Box<str>,
    },

    /// Items were taken from the collection, and one of them is not of its type. Nothing is lost:
    /// the bytes of all of them are here.
    #[error("{} item(s) were taken, and not all can be read: {error}", taken.len())]
    Undecodable {
        /// What was taken, as it was stored, in order.
        taken: Vec<Bytes>,
        /// Of a sorted set, their scores.
        scores: Vec<f64>,
        /// Why one of them cannot be read.
        #[source]
        error: Box<redkit_core::Error>,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            Error::Unsupported { .. } => ErrorKind::Server,
            Error::Invalid { .. } | Error::NotComparable { .. } | Error::Bound { .. } => {
                ErrorKind::Usage
            }
            Error::Overflow { .. } | Error::NotANumber { .. } | Error::Undecodable { .. } => {
                ErrorKind::Data
            }
        }
    }

    /// Whether the same operation may succeed later without a change to program or data. It does
    /// *not* say that repeating is safe: for that see [`Error::is_maybe`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Core(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// Whether the operation may have been carried out although no answer came.
    pub fn is_maybe(&self) -> bool {
        matches!(self, Error::Core(error) if error.is_maybe())
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

    /// The server's own words, when it answered with an error.
    pub(crate) fn replied(&self) -> Option<&ServerError> {
        match self {
            Error::Core(error) => error.call_error().and_then(CallError::server_error),
            _ => None,
        }
    }

    /// A refused increment by its reason. Scripts put more text behind the server's, so the words
    /// are looked for, not compared.
    pub(crate) fn numeric(self, place: impl FnOnce() -> Box<str>) -> Self {
        let says = |words: &str| self.replied().is_some_and(|e| e.message().contains(words));
        if says("would overflow") || says("NaN or Infinity") {
            return Error::Overflow { key: place() };
        }
        if says("is not an integer") || says("is not a valid float") || says("is not a float") {
            return Error::NotANumber { key: place() };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use redkit_core::Error as CoreError;

    use super::*;

    fn replied(line: &str) -> Error {
        Error::Core(CoreError::Call {
            command: "INCRBY".into(),
            error: CallError::Replied(ServerError::parse(line)),
        })
    }

    #[test]
    fn numbers_that_cannot_be_counted_say_why() {
        let numeric = |line| replied(line).numeric(|| "k".into());
        assert!(matches!(
            numeric("ERR increment or decrement would overflow"),
            Error::Overflow { .. }
        ));
        assert!(matches!(
            numeric("ERR hash value is not an integer script: f, on @user_script:1."),
            Error::NotANumber { .. }
        ));
        assert!(matches!(numeric("WRONGTYPE Operation"), Error::Core(_)));
    }

    #[test]
    fn errors_say_whose_fault_they_are() {
        let wrong = Error::invalid("ttl", "it is zero", "give a time");
        assert_eq!(
            (wrong.kind(), wrong.is_retryable()),
            (ErrorKind::Usage, false)
        );
        assert!(replied("LOADING x").is_retryable());
    }
}
