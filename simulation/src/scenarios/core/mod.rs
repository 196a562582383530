//! What every pattern stands on: calls that are repeated only when that is safe, leases, wake-ups and wait queues.

mod increments;
mod leases;
mod queue;
mod wake_ups;

use redkit_testkit::simulation::Scenario;

/// The scenarios of core.
pub(super) fn all() -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(increments::Increments),
        Box::new(leases::Leases),
        Box::new(wake_ups::WakeUps),
        Box::new(queue::Queue),
    ]
}
