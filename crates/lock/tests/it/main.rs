//! Locks and what stands on them, on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod latches;
mod redlock;
mod semaphores;
