//! Rate limits that are exact about what they promise, decided on the server's clock.

mod builder;
mod concurrency;
#[cfg(feature = "serde")]
mod config;
mod deciding;
mod decision;
mod deny_cache;
mod errands;
mod error;
mod joint;
mod leases;
mod limit;
mod limiter;
mod line;
mod outage;
mod permit;
mod plan;
mod policy;
mod quota;
mod receipt;
mod scripts;
mod stats;
mod together;
#[cfg(feature = "tower")]
pub mod tower;

pub use builder::RateLimiterBuilder;
pub use concurrency::{ConcurrencyBuilder, ConcurrencyLimiter};
#[cfg(feature = "serde")]
pub use config::{AlgorithmConfig, LimiterConfig, Limiters, OutageConfig, PolicyConfig};
pub use decision::{DecidedBy, Decision, Verdict};
pub use error::Error;
pub use limiter::RateLimiter;
pub use outage::OnOutage;
pub use permit::Permit;
pub use policy::{Algorithm, Policy};
pub use quota::Quota;
pub use receipt::Receipt;
pub use stats::LimiterStats;
pub use together::{Joint, Together};
