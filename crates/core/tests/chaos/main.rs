//! Clusters and masters that break under load. `cargo xtask chaos core --list` names the
//! scenarios; each prints its figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cluster;
mod load;
mod sentinel;
mod subscriptions;

/// One scenario at a time: each needs the machine for itself to keep its time bounds.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
