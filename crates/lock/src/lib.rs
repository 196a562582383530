//! Distributed locks with fencing tokens, renewal and wake-up on release.
//!
//! This crate holds nothing yet: its first operation lands with its own issue.
