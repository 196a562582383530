//! The code of the documents, compiled and run.
//!
//! The build script finds every block of Rust in `README.md`, `docs/**` and the crates' own `README.md`, and makes a test
//! of it: `cargo test -p redkit-book`. A test is named after its page and the line at which the block stands. Documents
//! about redkit's own tests are left out.
//!
//! A block is the body of an asynchronous function that gives a `Result`, or a program when it has a `main`. Blocks marked
//! `rust,no_run` are compiled and not run. What a reader need not see (a client, types of the example) stands
//! before the block in a comment, which holds for the blocks after it up to the next such comment:
//!
//! ```text
//! <!-- setup
//! let client = redkit::connect("embedded://").await?;
//! -->
//! ```
//!
//! This crate is never published.
