//! Health, statistics and alerts. The name has nothing to do with the `MONITOR` command, which is never sent.
//!
//! This crate holds nothing yet: its first operation lands with its own issue.
