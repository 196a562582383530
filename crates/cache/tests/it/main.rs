//! The cache on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod across_processes;
mod entries;
mod faults;
mod overtaken;
mod single_flight;
mod staleness;
mod tagged;
