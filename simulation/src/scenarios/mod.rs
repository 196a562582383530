//! The scenarios, by pattern.

mod cache;
mod core;
mod write_behind;

use redkit_testkit::simulation::Scenario;

/// All scenarios.
pub fn all() -> Vec<Box<dyn Scenario>> {
    [core::all(), cache::all(), write_behind::all()]
        .into_iter()
        .flatten()
        .collect()
}
