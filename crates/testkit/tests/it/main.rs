//! The test kit's tests of itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cluster;
mod faulty;
mod own_check;
mod proxy;
mod sentinels;
mod server;
mod suite;
