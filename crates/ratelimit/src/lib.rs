//! Rate limits that are exact about what they promise, decided on the server's clock.
//!
//! This crate holds nothing yet: its first operation lands with its own issue.
