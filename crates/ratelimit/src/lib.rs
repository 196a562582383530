//! Rate limits that are exact about what they promise, decided on the server's clock.
//!
//! A [`RateLimiter`] says whether a call may go on, by key: a user, an address, a token.
//!
//! ```
//! # use std::sync::Arc;
//! use std::time::Duration;
//! use redkit_ratelimit::{OnOutage, Policy, Quota, RateLimiter};
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
//! let limiter = RateLimiter::builder(&client, "api")
//!     .policy(Policy::gcra(Quota::per_minute(100).burst(20)))
//!     .on_outage(OnOutage::Open)
//!     .build()?;
//!
//! let decision = limiter.check("alice").await?;
//! if decision.is_allowed() {
//!     println!("{} of {} left", decision.remaining(), decision.limit());
//! } else {
//!     println!("again in {:?}", decision.retry_after()); // to the µs
//! }
//!
//! let expensive = limiter.check_n("alice", 5).await?; // all of it or nothing
//! if let Some(receipt) = expensive.receipt() {
//!     limiter.refund(receipt).await?; // once, however often
//! }
//!
//! // Waits for its turn, first come, first served.
//! let decision = limiter.acquire("alice", Duration::from_secs(2)).await?;
//! # assert!(decision.is_allowed()); Ok(()) }
//! ```
//!
//! - [`Algorithm`] compares the ways to count: windows, logs, rates, queues.
//! - Several [policies](RateLimiterBuilder::policy) of one limiter are tiers; a [`LimitSet`] asks
//!   several limiters, with several keys, in one step, all or nothing.
//! - [`ConcurrencyLimiter`] limits how many do something at the same time.
//! - Both are core's [`Admission`](redkit_core::Admission), which consumers of topics and other
//!   workers take.
//! - [`OnOutage`] says what happens while Redis is down: an error, open, closed, or this process's
//!   share.
//! - `tower` (a feature) is a layer for HTTP services; `Limiters` (feature `serde`) come from
//!   configuration files.
//!
//! Everything is decided by scripts on the server's clock, in whole µs: one call is one round trip, a
//! denied call writes nothing, and no key stays without a time to live. `docs/guarantees/ratelimit.md` has
//! what is promised, each line with the test that fails when it is broken.
//!
//! # Features
//! - `tower`: the layer. `axum`: what axum's handlers get from it.
//! - `serde`: limiters from configuration files.

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod acquire;
mod admission;
mod builder;
mod concurrency;
#[cfg(feature = "serde")]
mod config;
mod core;
mod decision;
mod deny_cache;
mod error;
mod inspect;
mod limit;
mod limit_set;
mod limiter;
mod metrics;
mod outage;
mod permit;
mod plan;
mod policy;
mod quota;
mod receipt;
mod scripts;
#[cfg(feature = "tower")]
pub mod tower;
mod verdict;

pub use builder::RateLimiterBuilder;
pub use concurrency::{ConcurrencyBuilder, ConcurrencyLimiter};
#[cfg(feature = "serde")]
pub use config::{AlgorithmConfig, LimiterConfig, Limiters, OutageConfig, PolicyConfig};
pub use decision::{DecidedBy, Decision};
pub use error::Error;
pub use limit_set::{LimitSet, LimitSetDecision};
pub use limiter::RateLimiter;
pub use metrics::LimiterStats;
pub use outage::OnOutage;
pub use permit::Permit;
pub use policy::{Algorithm, Policy};
pub use quota::Quota;
pub use receipt::Receipt;
pub use verdict::Verdict;
