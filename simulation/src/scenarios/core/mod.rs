//! What every pattern stands on: calls that are repeated only when that is safe, and leases.

mod increments;
mod leases;

use redkit_testkit::simulation::Scenario;

/// The scenarios of core.
pub(super) fn all() -> Vec<Box<dyn Scenario>> {
    vec![Box::new(increments::Increments), Box::new(leases::Leases)]
}
