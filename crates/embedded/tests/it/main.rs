//! The embedded engine from outside: through `Backend`, and against real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod backend;
mod blocking;
mod differential;
mod expiry;
mod field_expiry;
#[cfg(feature = "listen")]
mod listen;
mod pubsub;
mod scans;
mod scripts;
mod server;
mod shell;
mod streams;
mod tracking;
mod transactions;
mod types;
