//! Channels that report gaps, durable topics on streams, and inboxes.
//!
//! This crate holds nothing yet: its first operation lands with its own issue.
