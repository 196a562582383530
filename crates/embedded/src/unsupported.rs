//! Commands that no connection of this engine takes, not even a dedicated one.

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

/// Refuses the commands that subscribe: there is a method for that.
pub(crate) fn refuse_subscriptions(command: &Command) -> Result<(), CallError> {
    let name = command.name();
    if !SUBSCRIBES
        .iter()
        .any(|refused| name.eq_ignore_ascii_case(refused))
    {
        return Ok(());
    }
    let message = format!(
        "{name} is not supported by the embedded engine; use `subscribe` for subscriptions"
    );
    Err(Fault::new(FaultKind::Unsupported, message).not_sent())
}
