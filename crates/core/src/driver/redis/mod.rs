//! The driver on the `redis` crate: a multiplexed RESP3 connection under a supervisor for each
//! server, and one more for subscriptions when there are any.

mod cluster;
mod connector;
mod convert;
mod link;
mod subscriptions;
mod tracking;

use std::sync::Arc;

use self::cluster::ClusterBackend;
use self::connector::RedisConnector;
use super::link::ServerConnector;
use super::sentinel::Route;
use super::server::OneServer;
use super::subscriptions::Subscriptions;
use crate::backend::Backend;
use crate::config::{ClientConfig, Endpoint};
use crate::error::Error;

/// Connects to where `config` says.
pub(crate) async fn connect(config: &ClientConfig) -> Result<Arc<dyn Backend>, Error> {
    let base = RedisConnector::new(config)?;
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
        let base = RedisConnector::new(&config).unwrap();
        let sentinels: Vec<Route<RedisConnector>> = Vec::new();
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
