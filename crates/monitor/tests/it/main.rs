//! Monitoring on every backend, and of servers in every state that a test can force.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod alerts;
mod analysis;
#[cfg(feature = "dashboard")]
mod dashboard;
mod deliveries;
#[cfg(feature = "prometheus")]
mod documents;
mod ends;
#[cfg(feature = "prometheus")]
mod exporter;
mod fleet;
mod health;
mod masters;
#[cfg(feature = "axum")]
mod routes;
mod states;
mod statistics;
#[cfg(feature = "webhook")]
mod webhook;

use redkit_monitor::{Check, Report};

/// The check of this component and measurement.
pub(crate) fn check<'r>(report: &'r Report, component: &str, measurement: &str) -> &'r Check {
    let found = report
        .checks
        .iter()
        .find(|check| &*check.component == component && check.measurement == measurement);
    found.unwrap_or_else(|| panic!("no {component}:{measurement} in {report:?}"))
}
