//! The scenarios: each starts what it needs, and fails with what was wrong.

pub(crate) mod dashboard;
pub(crate) mod storefront;
