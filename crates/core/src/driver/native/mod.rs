//! The driver of our own: RESP3 over one socket for many callers, under a supervisor for each server,
//! and one more for subscriptions when there are any.
//!
//! From top to bottom: [`connector`](self::connector) and [`handshake`](self::handshake) make a
//! [`link`](self::link); it carries calls over a [`connection`](self::connection), whose callers,
//! writer and reader meet in [`exchanges`](self::exchanges). [`encode`](self::encode) and
//! [`decoder`](self::decoder) know the protocol.

mod connection;
mod connector;
pub(crate) mod decoder;
mod encode;
mod exchanges;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handshake;
mod link;
mod slots;
#[cfg(any(feature = "tls", test))]
mod split;
mod subscriptions;
mod tracking;
mod wire;

pub(super) use self::connector::NativeConnector;
pub(super) use self::link::NativeLink;
pub(super) use self::subscriptions::PushedLink;

use std::sync::Arc;

use super::cluster::ClusterBackend;
use super::link::ServerConnector;
use super::sentinel::Route;
use super::server::OneServer;
use super::subscriptions::Subscriptions;
use crate::backend::Backend;
use crate::config::{ClientConfig, Endpoint};
use crate::error::Error;

/// Connects to where `config` says.
pub(crate) async fn connect(config: &ClientConfig) -> Result<Arc<dyn Backend>, Error> {
    let base = NativeConnector::new(config)?;
    let route = match &config.endpoint {
        Endpoint::Cluster(seeds) => {
            let cluster = ClusterBackend::connect(config, base, seeds).await?;
            return Ok(Arc::new(cluster));
        }
        Endpoint::Sentinel { sentinels, master } => {
            let ask = base.for_sentinel(config);
            let sentinels = sentinels
                .iter()
                .map(|address| Route::Fixed(ask.at(address)))
                .collect();
            Route::named(base, master, sentinels, config.connect_timeout)
        }
        _ => Route::Fixed(base),
    };
    Ok(Arc::new(
        OneServer::start(route, config, Subscriptions::start).await?,
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::link::Connector;
    use crate::error::FaultKind;

    #[tokio::test]
    async fn after_shutdown_sentinels_name_no_master() {
        let config = ClientConfig::from_url("redis-sentinel://127.0.0.1:1/m").unwrap();
        let base = NativeConnector::new(&config).unwrap();
        let sentinels: Vec<Route<NativeConnector>> = Vec::new();
        let route = Route::named(base, "m", sentinels, Duration::from_secs(1));
        let kind = async || {
            Connector::connect(&route)
                .await
                .map(drop)
                .unwrap_err()
                .kind()
        };
        assert_eq!(kind().await, FaultKind::Connect);
        route.shutdown();
        assert_eq!(kind().await, FaultKind::Shutdown);
    }
}
