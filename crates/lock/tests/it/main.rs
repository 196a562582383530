//! Locks and what stands on them, on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[cfg(feature = "tower")]
mod idempotency_layer;
mod idempotent;
mod latches;
mod redlock;
mod semaphores;
