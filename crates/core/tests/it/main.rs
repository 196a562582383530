//! Core against real servers and the embedded engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[macro_use]
mod drivers;

mod bad_input;
mod bounded;
mod calls;
mod fred;
mod hostile;
mod invalidations;
mod lateness;
mod never_twice;
mod recovery;
mod scripts;
mod sentinel;
mod subscriptions;
mod tls;
