//! [`Cause`]: why a check failed.

use std::error::Error as StdError;
use std::fmt;

use redkit_core::{CallError, Error, Fault, FaultKind, ServerError};

/// Why a check did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// The kind of trouble.
    pub kind: CauseKind,
    /// What is missing or out of bounds, when the kind does not say it all: the missing right, the part of a
    /// limit that is used. It holds no key and no value.
    pub detail: Option<Box<str>>,
    /// What the connection or the server said. It may hold addresses.
    pub error: Option<Box<str>>,
}

/// The kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CauseKind {
    /// There is no connection to the server.
    Unreachable,
    /// The server was asked, and did not answer in time.
    Silent,
    /// The server does not take the user's name and password, or the TLS handshake failed.
    Unauthorized,
    /// The user may not do this; [`Cause::detail`] names the right.
    MissingRight,
    /// It is a replica, which takes no writes.
    ReadOnly,
    /// Its memory is full, and its policy is to evict nothing.
    OutOfMemory,
    /// It loads its data.
    Loading,
    /// The cluster, or a part of it, serves nobody.
    ClusterDown,
    /// It takes no writes because it could not save its data.
    NotPersisting,
    /// It takes no writes because too few replicas are in sync.
    TooFewReplicas,
    /// It is a replica without a connection to its master.
    MasterDown,
    /// It is busy with a script.
    Busy,
    /// The circuit breaker refuses calls.
    BreakerOpen,
    /// A figure is out of bounds.
    OutOfBounds,
    /// A message did not come back.
    NotDelivered,
    /// A task of the program has ended that should run.
    TaskEnded,
    /// A task of the program has not beaten in time.
    TaskSilent,
    /// The program has not finished starting.
    NotStarted,
    /// The check itself failed.
    CheckFailed,
    /// The server answered with another error.
    Refused,
}

impl CauseKind {
    /// A short name, for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            CauseKind::Unreachable => "unreachable",
            CauseKind::Silent => "silent",
            CauseKind::Unauthorized => "unauthorized",
            CauseKind::MissingRight => "missing_right",
            CauseKind::ReadOnly => "read_only",
            CauseKind::OutOfMemory => "out_of_memory",
            CauseKind::Loading => "loading",
            CauseKind::ClusterDown => "cluster_down",
            CauseKind::NotPersisting => "not_persisting",
            CauseKind::TooFewReplicas => "too_few_replicas",
            CauseKind::MasterDown => "master_down",
            CauseKind::Busy => "busy",
            CauseKind::BreakerOpen => "breaker_open",
            CauseKind::OutOfBounds => "out_of_bounds",
            CauseKind::NotDelivered => "not_delivered",
            CauseKind::TaskEnded => "task_ended",
            CauseKind::TaskSilent => "task_silent",
            CauseKind::NotStarted => "not_started",
            CauseKind::CheckFailed => "check_failed",
            CauseKind::Refused => "refused",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            CauseKind::Unreachable => "there is no connection to the server",
            CauseKind::Silent => "the server does not answer",
            CauseKind::Unauthorized => {
                "the server refuses the credentials or the TLS handshake failed"
            }
            CauseKind::MissingRight => "the user lacks a right",
            CauseKind::ReadOnly => "the server is a replica and takes no writes",
            CauseKind::OutOfMemory => "the server's memory is full and nothing is evicted",
            CauseKind::Loading => "the server is loading its data",
            CauseKind::ClusterDown => "the cluster or a part of it does not serve",
            CauseKind::NotPersisting => "the server could not save its data and takes no writes",
            CauseKind::TooFewReplicas => {
                "too few replicas are in sync and the server takes no writes"
            }
            CauseKind::MasterDown => "the replica has lost its master",
            CauseKind::Busy => "the server is busy with a script",
            CauseKind::BreakerOpen => "the circuit breaker refuses calls",
            CauseKind::OutOfBounds => "a figure is out of bounds",
            CauseKind::NotDelivered => "a published message did not come back",
            CauseKind::TaskEnded => "a task has ended that should run",
            CauseKind::TaskSilent => "a task has not beaten in time",
            CauseKind::NotStarted => "the program has not finished starting",
            CauseKind::CheckFailed => "the check itself failed",
            CauseKind::Refused => "the server answered with an error",
        }
    }
}

impl fmt::Display for CauseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Cause {
    pub(crate) fn new(kind: CauseKind) -> Self {
        Self {
            kind,
            detail: None,
            error: None,
        }
    }

    pub(crate) fn detailed(kind: CauseKind, detail: impl Into<Box<str>>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..Self::new(kind)
        }
    }

    /// Why a call failed. `needs` is what the rights on keys and channels would have to cover.
    pub(crate) fn of(error: &Error, needs: &Needs) -> Self {
        let (kind, detail) = match error {
            Error::Call { error, .. } => match error {
                CallError::Replied(error) => of_reply(error, needs),
                CallError::NotSent(fault) => (of_fault(fault, false), None),
                CallError::Maybe(fault) => (of_fault(fault, true), None),
                _ => (CauseKind::Refused, None),
            },
            _ => (CauseKind::Refused, None),
        };
        Self {
            kind,
            detail,
            error: Some(error.to_string().into()),
        }
    }
}

/// One sentence, without what the server said.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.sentence())?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// The rights that a check's keys and channels need, as they stand in `ACL SETUSER`.
#[derive(Debug, Clone)]
pub(crate) struct Needs {
    pub(crate) keys: String,
    pub(crate) channels: String,
}

fn of_reply(error: &ServerError, needs: &Needs) -> (CauseKind, Option<Box<str>>) {
    let kind = match error.code() {
        "LOADING" => CauseKind::Loading,
        "READONLY" => CauseKind::ReadOnly,
        "OOM" => CauseKind::OutOfMemory,
        "CLUSTERDOWN" => CauseKind::ClusterDown,
        "MISCONF" => CauseKind::NotPersisting,
        "NOREPLICAS" => CauseKind::TooFewReplicas,
        "MASTERDOWN" => CauseKind::MasterDown,
        "BUSY" => CauseKind::Busy,
        "NOAUTH" | "WRONGPASS" => CauseKind::Unauthorized,
        "NOPERM" => return (CauseKind::MissingRight, Some(missing_right(error, needs))),
        _ => CauseKind::Refused,
    };
    (kind, None)
}

/// `NOPERM … no permissions to run the 'set' command`, `… to access one of the keys …`, `… a channel …`.
fn missing_right(error: &ServerError, needs: &Needs) -> Box<str> {
    let message = error.message();
    // The user's name may stand before it, with a quote of its own.
    let command = message.split_once("to run the '");
    let right = match command.and_then(|(_, rest)| rest.split('\'').next()) {
        Some(command) => format!("+{command}"),
        None if message.contains("channel") => format!("&{}", needs.channels),
        None => format!("~{}", needs.keys),
    };
    format!("grant the user `{right}`").into()
}

fn of_fault(fault: &Fault, was_sent: bool) -> CauseKind {
    // A call that found no connection says why as the source of its timeout.
    let below = fault
        .source()
        .and_then(<dyn StdError>::downcast_ref::<Fault>);
    let fault = match (fault.kind(), below) {
        (FaultKind::Timeout, Some(below)) => below,
        _ => fault,
    };
    match fault.kind() {
        FaultKind::Handshake if is_refused_otherwise(fault) => CauseKind::Refused,
        FaultKind::Handshake | FaultKind::Tls => CauseKind::Unauthorized,
        FaultKind::BreakerOpen => CauseKind::BreakerOpen,
        FaultKind::Timeout if was_sent => CauseKind::Silent,
        FaultKind::Invalid | FaultKind::Unsupported | FaultKind::Overloaded => {
            CauseKind::CheckFailed
        }
        _ => CauseKind::Unreachable,
    }
}

/// Whether a server takes no connection for another reason than the credentials: it has as many as it may have, or
/// there is no such database.
fn is_refused_otherwise(handshake: &Fault) -> bool {
    let said = handshake
        .source()
        .and_then(<dyn StdError>::downcast_ref::<ServerError>);
    said.is_some_and(|error| {
        let message = error.message().to_ascii_lowercase();
        let is_of_credentials = message.contains("password") || message.contains("auth");
        error.code() == "ERR" && !is_of_credentials
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(error: CallError) -> Cause {
        let needs = Needs {
            keys: "shop:monitor:*".to_owned(),
            channels: "shop:monitor:*".to_owned(),
        };
        let error = Error::Call {
            command: "SET".into(),
            error,
        };
        Cause::of(&error, &needs)
    }

    #[test]
    fn a_missing_right_is_named_as_it_is_granted() {
        for (message, right) in [
            (
                "this user has no permissions to run the 'set' command",
                "`+set`",
            ),
            (
                "User web has no permissions to run the 'config|get' command",
                "`+config|get`",
            ),
            ("No permissions to access a key", "`~shop:monitor:*`"),
            (
                "this user has no permissions to access one of the keys used as arguments",
                "`~shop:monitor:*`",
            ),
            ("No permissions to access a channel", "`&shop:monitor:*`"),
        ] {
            let cause = cause(CallError::Replied(ServerError::new("NOPERM", message)));
            assert_eq!(cause.kind, CauseKind::MissingRight);
            assert!(cause.to_string().contains(right), "{cause}");
        }
    }

    #[test]
    fn what_was_sent_and_not_answered_is_silence_and_the_rest_is_no_connection() {
        let timeout = || Fault::new(FaultKind::Timeout, "late");
        assert_eq!(cause(timeout().maybe()).kind, CauseKind::Silent);
        assert_eq!(cause(timeout().not_sent()).kind, CauseKind::Unreachable);
        let refused = timeout().with_source(Fault::new(FaultKind::Handshake, "WRONGPASS"));
        assert_eq!(cause(refused.not_sent()).kind, CauseKind::Unauthorized);
        for (code, message, kind) in [
            ("ERR", "max number of clients reached", CauseKind::Refused),
            ("ERR", "DB index is out of range", CauseKind::Refused),
            ("ERR", "invalid password", CauseKind::Unauthorized),
            (
                "WRONGPASS",
                "invalid username-password pair",
                CauseKind::Unauthorized,
            ),
            (
                "NOAUTH",
                "Authentication required.",
                CauseKind::Unauthorized,
            ),
        ] {
            let handshake = Fault::new(FaultKind::Handshake, "not accepted");
            let handshake = handshake.with_source(ServerError::new(code, message));
            let refused = timeout().with_source(handshake);
            assert_eq!(cause(refused.not_sent()).kind, kind, "{message}");
        }
    }
}
