//! Networked drivers: ways to carry commands to servers, kept alive by one supervisor.

#[cfg(any(feature = "redis", feature = "fred"))]
mod certificate;
#[cfg(any(feature = "redis", feature = "fred"))]
mod dedicated;
#[cfg(feature = "fred")]
pub mod fred;
#[cfg(any(feature = "redis", feature = "fred"))]
mod hello;
#[cfg(any(feature = "redis", feature = "fred"))]
mod link;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(any(feature = "redis", feature = "fred"))]
mod sentinel;
#[cfg(any(feature = "redis", feature = "fred"))]
mod server;
#[cfg(feature = "redis")]
mod stream;
#[cfg(any(feature = "redis", feature = "fred"))]
mod subscriptions;
#[cfg(any(feature = "redis", feature = "fred"))]
mod supervisor;
#[cfg(all(any(feature = "redis", feature = "fred"), feature = "tls"))]
mod tls;

use std::sync::Arc;

use crate::backend::Backend;
use crate::config::ClientConfig;
#[cfg(not(all(feature = "redis", feature = "fred")))]
use crate::config::ConfigError;
#[cfg(any(feature = "redis", feature = "fred"))]
use crate::config::Driver;
use crate::error::Error;

/// Connects through the driver that the configuration names.
#[cfg_attr(
    not(any(feature = "redis", feature = "fred")),
    expect(
        clippy::unused_async,
        reason = "the same signature with and without a driver"
    )
)]
pub(crate) async fn connect(config: &ClientConfig) -> Result<Arc<dyn Backend>, Error> {
    match config.driver {
        #[cfg(feature = "redis")]
        Driver::Redis => redis::connect(config).await,
        #[cfg(feature = "fred")]
        Driver::Fred => Ok(Arc::new(fred::FredBackend::connect(config).await?)),
        #[cfg(not(all(feature = "redis", feature = "fred")))]
        absent => Err(ConfigError::new(
            "driver",
            format!("this build of redkit-core has no driver {absent:?}"),
            "enable its feature `redis` or `fred`, name the other driver, or use \
             `Client::from_backend`",
        )
        .into()),
    }
}
