//! Server-side sessions: hashed ids, idle and absolute timeouts, revocation.
//!
//! This crate holds nothing yet: its first operation lands with its own issue.
