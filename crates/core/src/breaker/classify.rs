//! Which errors speak against the server, and which are the caller's own affair.

use super::state::Outcome;
use crate::error::{CallError, FaultKind, ServerError};

/// What a failed call says about the server. `count_refused_writes` is the field of
/// [`BreakerConfig`](super::BreakerConfig).
pub(super) fn classify(error: &CallError, count_refused_writes: bool) -> Outcome {
    match error {
        CallError::NotSent(fault) | CallError::Maybe(fault) => match fault.kind() {
            FaultKind::Connect
            | FaultKind::Tls
            | FaultKind::Handshake
            | FaultKind::Disconnected
            | FaultKind::Timeout
            | FaultKind::Protocol => Outcome::Failure,
            // Decided on this side, without asking the server.
            FaultKind::BreakerOpen
            | FaultKind::Overloaded
            | FaultKind::Shutdown
            | FaultKind::Invalid
            | FaultKind::Unsupported
            | FaultKind::LayoutChanged => Outcome::Neutral,
        },
        CallError::Replied(error) => reply(error, count_refused_writes),
    }
}

fn reply(error: &ServerError, count_refused_writes: bool) -> Outcome {
    match error.code() {
        // The server serves nobody, or not what it should.
        "LOADING" | "BUSY" | "MASTERDOWN" => Outcome::Failure,
        "CLUSTERDOWN" | "READONLY" => Outcome::Refusal,
        // It answers reads.
        "OOM" | "MISCONF" | "NOREPLICAS" if count_refused_writes => Outcome::Refusal,
        // It answered: what is wrong is the command, its keys or its timing.
        _ => Outcome::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    #[test]
    fn only_the_transport_time_and_the_servers_state_speak_against_it() {
        let fault = |kind| Fault::new(kind, "x");
        for kind in [
            FaultKind::Connect,
            FaultKind::Tls,
            FaultKind::Handshake,
            FaultKind::Disconnected,
            FaultKind::Timeout,
            FaultKind::Protocol,
        ] {
            assert_eq!(classify(&fault(kind).maybe(), false), Outcome::Failure);
            assert_eq!(classify(&fault(kind).not_sent(), true), Outcome::Failure);
        }
        for kind in [
            FaultKind::BreakerOpen,
            FaultKind::Overloaded,
            FaultKind::Shutdown,
            FaultKind::Invalid,
            FaultKind::Unsupported,
            FaultKind::LayoutChanged,
        ] {
            assert_eq!(classify(&fault(kind).not_sent(), true), Outcome::Neutral);
        }
        let reply = |line, choice| classify(&CallError::Replied(ServerError::parse(line)), choice);
        for line in ["LOADING x", "BUSY x", "MASTERDOWN x"] {
            assert_eq!(reply(line, false), Outcome::Failure, "{line}");
        }
        for line in ["CLUSTERDOWN x", "READONLY x"] {
            assert_eq!(reply(line, false), Outcome::Refusal, "{line}");
        }
        for line in ["OOM x", "MISCONF x", "NOREPLICAS x"] {
            assert_eq!(reply(line, false), Outcome::Success, "{line}");
            assert_eq!(reply(line, true), Outcome::Refusal, "{line}");
        }
        for line in [
            "WRONGTYPE x",
            "ERR x",
            "NOSCRIPT x",
            "NOPERM x",
            "TRYAGAIN x",
        ] {
            assert_eq!(reply(line, true), Outcome::Success, "{line}");
        }
    }
}
