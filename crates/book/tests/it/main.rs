//! The documents' code and files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

/// Every block of Rust in the documents.
#[allow(
    warnings,
    clippy::all,
    clippy::restriction,
    reason = "a document's code leaves away what its reader need not see"
)]
mod blocks {
    include!(concat!(env!("OUT_DIR"), "/blocks.rs"));
}
mod profiles;
mod settings;
mod sizes;
