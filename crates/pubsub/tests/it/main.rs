//! Channels and inboxes on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod acknowledgements;
mod bad_input;
mod batches;
mod cancels;
mod channels;
mod clocks;
mod consumer_pages;
mod consumers;
mod endings;
mod fault_topologies;
mod faults;
mod full_servers;
mod groups;
mod handling;
mod inbox_losses;
mod inbox_subscriptions;
mod inboxes;
mod inspection;
mod listening;
mod logs;
mod lost_replies;
mod ordered;
mod ordered_slots;
mod outcomes;
mod records;
mod replay;
mod replay_away;
mod replay_pages;
mod replay_trimmed;
mod schedules;
mod shutdowns;
mod spans;
mod sse;
mod topic_processes;
mod topics;
mod uncertain;
mod universal;
mod watches;
mod web_socket_times;
mod web_sockets;
