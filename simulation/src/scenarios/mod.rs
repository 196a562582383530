//! The scenarios, by pattern.

mod cache;
mod core;
mod faults;
mod lock;
mod ratelimit;
mod session;
mod topic;
mod write_behind;

use redkit_testkit::simulation::Scenario;

/// All scenarios.
pub fn all() -> Vec<Box<dyn Scenario>> {
    [
        core::all(),
        cache::all(),
        write_behind::all(),
        ratelimit::all(),
        lock::all(),
        session::all(),
        topic::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
