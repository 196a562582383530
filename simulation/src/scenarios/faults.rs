//! Which faults the scenarios of locks, limits, sessions and topics can stand, and what every run must come to.

use std::time::Duration;

use redkit_testkit::simulation::{FaultKind, FaultMenu, Violation, World};

/// How long a fault lasts at most.
pub(super) const LONGEST: Duration = Duration::from_millis(2_500);

/// Faults of processes, clocks of processes, network, and servers that keep their data.
pub(super) fn that_keep_data() -> FaultMenu {
    FaultMenu::all()
        .without(&[
            FaultKind::RestartServer,
            FaultKind::Failover,
            FaultKind::FlushAll,
            FaultKind::JumpServerClock,
        ])
        .longest(LONGEST)
}

/// The same, and servers that lose their data, or some of them. Their clocks go on.
pub(super) fn that_lose_data() -> FaultMenu {
    FaultMenu::all()
        .without(&[FaultKind::JumpServerClock])
        .longest(LONGEST)
}

/// # Errors
/// A process that has not ended, long after its work should have been done.
pub(super) fn ends(is_done: bool, world: &World) -> Result<(), Violation> {
    match is_done {
        true => Ok(()),
        false => Err(Violation::new("every call ends", world.now())
            .fact(world.now(), "a process is still at work, or waits for ever")),
    }
}
