//! The cache on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod across_processes;
mod codecs;
mod damaged;
mod entries;
mod extend;
mod faults;
mod foreign;
mod history;
mod inspection;
mod level;
mod memory;
mod obsolete;
mod obstructed;
mod overtaken;
mod processes;
mod seen;
mod several;
mod single_flight;
mod spawned;
mod staleness;
mod tagged;
mod told;
mod tracked;
mod waits;
mod write_behind;
mod write_behind_crashes;
mod write_behind_database;
mod write_behind_failures;
mod write_behind_leases;
mod write_behind_link;
mod write_behind_outages;
mod write_behind_wake_ups;
mod written_through;

/// For look-ups in tests that are not about it: the machine may be busy.
const PATIENT: std::time::Duration = std::time::Duration::from_secs(20);
