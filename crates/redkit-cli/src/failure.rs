//! [`Failure`]: why a command was not done, what to do about it, and the exit code.

use std::process::ExitCode;

use redkit_core::{CallError, ConfigError, FaultKind};

use crate::connect::without_secrets;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) struct Failure {
    cause: String,
    remedy: String,
    is_usage: bool,
}

impl Failure {
    pub(crate) fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            remedy: remedy.into(),
            is_usage: false,
        }
    }

    /// The command line or the configuration is wrong.
    pub(crate) fn usage(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            is_usage: true,
            ..Self::new(cause, remedy)
        }
    }

    /// Prints it, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("error: {}", without_secrets(&self.cause));
        if !self.remedy.is_empty() {
            eprintln!("remedy: {}", without_secrets(&self.remedy));
        }
        ExitCode::from(if self.is_usage { 2 } else { 1 })
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(
            error.to_string(),
            "see docs/configuration.md for the forms of URLs and for all settings",
        )
    }
}

impl From<redkit_core::Error> for Failure {
    fn from(error: redkit_core::Error) -> Self {
        match error {
            redkit_core::Error::Config(error) => error.into(),
            error => Self::new(error.to_string(), remedy_of(&error)),
        }
    }
}

/// What an operator can do about a call that failed.
pub(crate) fn remedy_of(error: &redkit_core::Error) -> String {
    let Some(call) = error.call_error() else {
        return "check that the address is a Redis or Valkey server's".to_owned();
    };
    match call {
        CallError::Replied(reply) => match reply.code() {
            "NOPERM" => format!(
                "grant the right to this user (`ACL SETUSER`), or use another user; `redkit doctor` lists all rights \
                 that are missing{}",
                match reply.message().contains("keys") {
                    true => ", and `--namespace` says where the programs' keys are",
                    false => "",
                }
            ),
            "NOAUTH" | "WRONGPASS" => "set the user and password in REDIS_URL".to_owned(),
            "READONLY" => "name the master: this server is a replica".to_owned(),
            "LOADING" => "wait until the server has loaded its data".to_owned(),
            "OOM" => "raise maxmemory, or delete what is not needed (`redkit keys` shows it)".to_owned(),
            "CLUSTERDOWN" => "bring the cluster's missing masters back (`redkit doctor`)".to_owned(),
            "MISCONF" => "see the server's log: it cannot write its data to disk".to_owned(),
            _ => "see what the server said; `redkit doctor` looks at it as a whole".to_owned(),
        },
        CallError::NotSent(fault) | CallError::Maybe(fault) => match fault.kind() {
            FaultKind::Connect => "check host and port, and that the server runs and may be reached from here",
            FaultKind::Tls => "check that the port speaks TLS, and REDKIT_TLS_CA_FILE for a private authority",
            FaultKind::Handshake => "check the user and password in REDIS_URL, and that the address is a Redis or Valkey",
            FaultKind::Timeout => "the server does not answer: look at its load and at the network, or raise --timeout",
            FaultKind::BreakerOpen | FaultKind::Disconnected => "look at the server's log, and try again",
            _ => "try again; `redkit doctor` looks at the server as a whole",
        }
        .to_owned(),
        _ => "`redkit doctor` looks at the server as a whole".to_owned(),
    }
}

macro_rules! from_pattern {
    ($($pattern:ident),*) => {$(
        impl From<$pattern::Error> for Failure {
            fn from(error: $pattern::Error) -> Self {
                match error {
                    $pattern::Error::Core(error) => error.into(),
                    error => Self::new(error.to_string(), ""),
                }
            }
        }
    )*};
}
from_pattern!(redkit_lock, redkit_pubsub, redkit_ratelimit, redkit_session);

impl From<redkit_monitor::Error> for Failure {
    fn from(error: redkit_monitor::Error) -> Self {
        match error {
            redkit_monitor::Error::Core(error) => error.into(),
            redkit_monitor::Error::NoServer { first, .. } => first.into(),
            error => Self::new(error.to_string(), ""),
        }
    }
}
