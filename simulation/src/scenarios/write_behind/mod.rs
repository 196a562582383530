//! Write-behind: accepted changes reach the database in order, none is lost, and readers never go back.

mod database;
mod queue;
mod writers;

use redkit_testkit::simulation::Scenario;

/// The scenarios of write-behind.
pub(super) fn all() -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(queue::Queue {
            compares_versions: false,
        }),
        Box::new(queue::Queue {
            compares_versions: true,
        }),
    ]
}
