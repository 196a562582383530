//! Topics with a fleet of consumer processes that are killed, paused and replaced. `cargo xtask chaos pubsub --list` names
//! the scenarios; each prints its figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../it/clocks.rs"]
mod clocks;
mod fleet;
mod judge;
mod processes;
mod schedules;
