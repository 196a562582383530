//! The response cache in front of axum, on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod attacks;
mod bodies;
mod changes;
mod lists;
mod responses;
mod site;
mod validation;
mod waiting;
