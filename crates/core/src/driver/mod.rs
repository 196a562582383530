//! Networked drivers: ways to carry commands to servers, kept alive by one supervisor.

#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "redis")]
mod stream;
#[cfg(feature = "redis")]
mod subscriptions;
#[cfg(feature = "redis")]
mod supervisor;
#[cfg(all(feature = "redis", feature = "tls"))]
mod tls;
