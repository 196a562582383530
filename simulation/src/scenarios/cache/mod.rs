//! Caches: no read is older than an acknowledged invalidation, and a key is loaded once.
//!
//! The source holds a number for each key, which only grows. A process raises it and then tells the cache, in each
//! of the ways that there are; once that is acknowledged, a caller of whatever process that asks later must be given
//! that number or a higher one. With a local cache "later" is by its bound.

mod freshness;
mod loads;
mod settings;
mod source;
mod worker;
mod writes;

use redkit_testkit::simulation::Scenario;

/// The scenarios of the cache.
pub(super) fn all() -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(freshness::CacheFreshness { has_l1: false }),
        Box::new(freshness::CacheFreshness { has_l1: true }),
        Box::new(loads::SingleLoads),
        Box::new(writes::WritesThrough),
    ]
}
