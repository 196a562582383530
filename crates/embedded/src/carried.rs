//! What no connection of this engine carries, not even one's own.

use redkit_core::{CallError, Command, Fault, FaultKind};

const SUBSCRIBES: &[&str] = &[
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "MONITOR",
];

/// Refuses subscriptions: they have a method of their own.
pub(crate) fn check_any(command: &Command) -> Result<(), CallError> {
    let name = command.name();
    if !SUBSCRIBES.iter().any(|one| name.eq_ignore_ascii_case(one)) {
        return Ok(());
    }
    let message =
        format!("{name} is not carried by the embedded engine; use `subscribe` for subscriptions");
    Err(Fault::new(FaultKind::Unsupported, message).not_sent())
}
