//! Networked drivers: ways to carry commands to servers, kept alive by one supervisor.

#[cfg(any(feature = "native", feature = "fred"))]
mod activity;
#[cfg(any(feature = "native", feature = "fred"))]
mod certificate;
#[cfg(feature = "native")]
mod cluster;
#[cfg(any(feature = "native", feature = "fred"))]
mod dedicated;
#[cfg(feature = "fred")]
pub mod fred;
#[cfg(any(feature = "native", feature = "fred"))]
mod hello;
#[cfg(any(feature = "native", feature = "fred"))]
mod link;
#[cfg(feature = "native")]
pub(crate) mod native;
#[cfg(any(feature = "native", feature = "fred"))]
mod sentinel;
#[cfg(any(feature = "native", feature = "fred"))]
mod server;
#[cfg(feature = "native")]
mod stream;
#[cfg(any(feature = "native", feature = "fred"))]
mod subscriptions;
#[cfg(any(feature = "native", feature = "fred"))]
mod supervisor;
#[cfg(all(any(feature = "native", feature = "fred"), feature = "tls"))]
mod tls;

use std::sync::Arc;

use crate::backend::Backend;
use crate::config::ClientConfig;
#[cfg(not(all(feature = "native", feature = "fred")))]
use crate::config::ConfigError;
#[cfg(any(feature = "native", feature = "fred"))]
use crate::config::Driver;
use crate::error::Error;

/// Connects through the driver that the configuration names.
#[cfg_attr(
    not(any(feature = "native", feature = "fred")),
    expect(
        clippy::unused_async,
        reason = "the same signature with and without a driver"
    )
)]
pub(crate) async fn connect(config: &ClientConfig) -> Result<Arc<dyn Backend>, Error> {
    match config.driver {
        #[cfg(feature = "native")]
        Driver::Native => native::connect(config).await,
        #[cfg(feature = "fred")]
        Driver::Fred => Ok(Arc::new(fred::FredBackend::connect(config).await?)),
        #[cfg(not(all(feature = "native", feature = "fred")))]
        absent => Err(ConfigError::new(
            "driver",
            format!("this build of redkit-core has no driver {absent:?}"),
            "enable its feature `native` or `fred`, name the other driver, or use \
             `Client::from_backend`",
        )
        .into()),
    }
}
