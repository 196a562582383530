//! Locks: mutual exclusion, what a failover may lose, semaphores, readers and writers, elections, locks on several servers.

mod callers;
mod election;
mod exclusion;
mod failover;
mod fair;
mod permits;
mod read_write;
mod redlock;
mod rolling;
mod work;

use redkit_testkit::simulation::Scenario;

/// The scenarios of locks.
pub(super) fn all() -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(exclusion::Exclusion),
        Box::new(failover::Failover),
        Box::new(permits::SemaphorePermits),
        Box::new(read_write::ReadWrite),
        Box::new(election::Elections { loses_data: false }),
        Box::new(election::Elections { loses_data: true }),
        Box::new(fair::Fair),
        Box::new(redlock::OnSeveral { loses_data: false }),
        Box::new(redlock::OnSeveral { loses_data: true }),
        Box::new(rolling::Rolling),
    ]
}
