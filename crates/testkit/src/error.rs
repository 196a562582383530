//! [`Error`]: why a test could not be set up.

use std::fmt;
use std::time::Duration;

/// Why a test could not be set up. Its `Debug` form is its message, so that a failed `unwrap` in
/// a test reads well.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is not on this machine.
    #[error(
        "no {program}: `cargo xtask test` provides it under target/servers; or set {variable} to \
         the program, or put it into PATH"
    )]
    NotFound {
        /// The program's name.
        program: &'static str,
        /// The environment variable that names it.
        variable: &'static str,
    },
    /// The server ended, or did not answer in time.
    #[error("{program} did not come up within {waited:?}: {cause}\n--- its log:\n{log}")]
    NotUp {
        /// The program that was started.
        program: String,
        /// How long it was waited for.
        waited: Duration,
        /// What was seen last.
        cause: String,
        /// What the server wrote.
        log: String,
    },
    /// Something did not come about in time.
    #[error("{what} did not come about within {waited:?}: {cause}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// What was seen last.
        cause: String,
    },
    /// The server refused an administrative command.
    #[error("{command} was answered by {reply}")]
    Refused {
        /// The command's name.
        command: String,
        /// The reply.
        reply: String,
    },
    /// `REDKIT_TEST_BACKENDS` cannot be followed.
    #[error("REDKIT_TEST_BACKENDS: {0}")]
    Backends(String),
    /// The client could not be made.
    #[error("no client for {backend}: {cause}")]
    Client {
        /// The backend.
        backend: String,
        /// What the client said.
        cause: String,
    },
    /// The body of a test gave an error.
    #[error("{0}")]
    Body(String),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err`: names what was being done.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
