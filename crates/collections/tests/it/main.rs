//! The collections on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cluster;
mod codecs;
mod consumers;
mod counters;
mod faults;
mod field_expiry;
mod hashes;
mod hostile;
mod large;
mod lists;
mod model;
mod sets;
mod sorted_sets;
mod times;
mod watched;
