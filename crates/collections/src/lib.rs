//! Typed handles over the data structures of Redis: hashes, lists, sets, sorted sets and counters.
//!
//! This crate holds nothing yet: its first operation lands with its own issue.
