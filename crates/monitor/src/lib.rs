//! Health, statistics and alerts for services on Redis. The name has nothing to do with the `MONITOR` command,
//! which is never sent.
//!
//! ```
//! use redkit_monitor::{Dependency, Health, Statistics};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let config = redkit_core::ClientConfig::from_url("embedded://")?;
//! # let client = redkit_core::Client::from_backend(std::sync::Arc::new(redkit_embedded::Embedded::new()), &config)?;
//! // May this process be given work? A cache that is down is no reason against it.
//! let health = Health::builder().dependency(Dependency::soft("cache", &client)).build()?;
//! assert_eq!(health.ready().await.status.http_status(), 200);
//!
//! // How do the servers stand?
//! let servers = Statistics::new(&client).servers().await?;
//! println!("{} bytes of {}", servers.total.used_memory, servers.total.maxmemory);
//! # Ok(()) }
//! ```
//!
//! # Parts
//! - [`Health`]: liveness, readiness by criticality, startup, a deep check; health+json.
//! - [`Statistics`]: this process's patterns, the servers' figures in types, slow and hot commands, clients,
//!   and what takes the memory.
//! - [`alerts`]: rules with a duration and hysteresis, told once in a fleet.
//! - `prometheus` (feature): the exporter.
//! - `dashboard` (feature): a page for people, of all instances that share the Redis, with rights and an audit.
//! - [`Scheduler`]: jobs that run again and again, are owned, and stop cleanly.
//!
//! What it asks of servers goes past the circuit breaker, so that it says how they are. It asks little, and
//! shares the answers: however many probes come, the servers notice a few commands in a second.
//!
//! `docs/guarantees/monitor.md` lists every promise with the test that fails when it is broken.
//!
//! # Features
//! - `axum`: routes.
//! - `dashboard`: the page.
//! - `prometheus`: the exporter.
//! - `webhook`: alerts by HTTP.

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod alerts;
#[cfg(feature = "dashboard")]
pub mod dashboard;
mod error;
mod health;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod scheduler;
mod shared_answer;
mod statistics;

pub use error::Error;
pub use health::{
    Cause, CauseKind, Check, Dependency, Detail, Health, HealthBuilder, Heartbeat, Observed,
    Report, StartupStep, Status,
};
pub use scheduler::{Job, JobStatus, Scheduler};
pub use statistics::{
    Analysis, AnalysisConfig, BigKey, ClientConnection, CommandInfo, DatabaseInfo, HitRate, HotKey,
    KeyspaceReport, LogEntry, LogKind, PatternStats, PrefixStats, Progress, ReplicaInfo, Role,
    ServerInfo, ServerLatency, ServerStatistics, SlotStats, Statistics, TTL_BOUNDS,
};
