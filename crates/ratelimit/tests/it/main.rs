//! Limiters on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod admission;
mod basics;
mod clocks;
mod denials;
mod faults;
#[cfg(feature = "axum")]
mod grpc;
mod handover;
#[cfg(feature = "axum")]
mod http;
mod inspection;
mod known_failures;
#[cfg(feature = "axum")]
mod layer;
mod leases;
mod limit_set;
mod model;
mod outage;
mod paced;
mod partial_outage;
mod processes;
mod properties;
mod recovery;
mod said;
#[cfg(feature = "axum")]
mod service_setup;
mod state;
mod waiting;

/// A decision timeout for tests that are not about it, on machines that have much else to do.
const PATIENT: std::time::Duration = std::time::Duration::from_secs(10);
