//! Core against real servers and the embedded engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[macro_use]
mod drivers;

mod answers;
mod bad_input;
mod batches;
mod bounded;
mod budgets;
mod calls;
#[cfg(all(
    feature = "encryption",
    feature = "lz4",
    feature = "messagepack",
    feature = "postcard",
    feature = "zstd"
))]
mod codec;
mod coordination;
mod fred;
mod hints;
mod hostile;
mod inspection;
mod invalidations;
mod keys;
mod lateness;
mod made_up;
mod never_twice;
mod outcomes;
mod recovery;
mod redirected;
mod scans;
mod scripts;
mod sentinel;
mod servers;
mod silence;
mod spans;
mod strays;
mod subscriptions;
#[cfg(all(feature = "encryption", feature = "messagepack"))]
mod swaps;
mod tls;
mod unanswered;
mod values;
