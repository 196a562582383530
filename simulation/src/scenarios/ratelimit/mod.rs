//! Rate limits: every algorithm over every window, and permits.

mod concurrency;
mod rates;

use redkit_testkit::simulation::Scenario;

/// The scenarios of rate limits.
pub(super) fn all() -> Vec<Box<dyn Scenario>> {
    let rates = rates::Rates::ALL.into_iter();
    let rates = rates.map(|rates| Box::new(rates) as Box<dyn Scenario>);
    let concurrency = Box::new(concurrency::Concurrency) as Box<dyn Scenario>;
    rates.chain([concurrency]).collect()
}
