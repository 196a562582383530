//! Where a backend's one server is: at the address configured, or where sentinels say.

mod election;
mod monitor;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::monitor::SentinelMonitor;
use super::hello::Role;
use super::link::{CommandLink, Connector, ServerConnector};
use super::subscriptions::PushConnector;
use crate::backend::Topology;
use crate::error::{Fault, FaultKind};

/// The way to the server.
#[derive(Clone)]
pub(super) enum Route<C> {
    /// It is always the same.
    Fixed(C),
    /// It is the master of a name, whichever server that is.
    Named {
        servers: C,
        monitor: Arc<SentinelMonitor>,
    },
}

impl<C: ServerConnector> Route<C> {
    /// The master `name` by what `sentinels` say; each of those makes connections to one sentinel.
    /// Nothing is connected before it is needed.
    pub(super) fn named<P: PushConnector>(
        servers: C,
        name: &str,
        sentinels: Vec<P>,
        connect_timeout: Duration,
    ) -> Self {
        Route::Named {
            servers,
            monitor: Arc::new(SentinelMonitor::new(name, sentinels, connect_timeout)),
        }
    }

    pub(super) fn topology(&self) -> Topology {
        match self {
            Route::Fixed(_) => Topology::Standalone,
            Route::Named { .. } => Topology::Sentinel,
        }
    }

    /// Connects to the server, by `connect`. A connection to a master ends when the sentinels name
    /// another: nothing more is written to the old one.
    pub(super) async fn connect_by<F>(&self, connect: impl FnOnce(C) -> F) -> Result<C::Link, Fault>
    where
        F: Future<Output = Result<C::Link, Fault>>,
    {
        let (servers, monitor) = match self {
            Route::Fixed(connector) => return connect(connector.clone()).await,
            Route::Named { servers, monitor } => (servers, monitor),
        };
        let address = monitor.find().await?;
        let connected = connect(servers.at(&address)).await;
        let mut link = connected.inspect_err(|_| monitor.judge(&address, false))?;
        let serves = link.role() != Role::Replica;
        monitor.judge(&address, serves);
        if !serves {
            // The sentinels are behind, or the failover has not got there yet.
            let message = format!(
                "{address} is named as master of `{}`, and is a replica",
                monitor.name()
            );
            return Err(Fault::new(FaultKind::Connect, message));
        }
        let (closer, superseded) = (link.closer(), monitor.superseded(&address));
        link.keep(async move {
            tokio::select! {
                () = superseded => closer.cancel(),
                () = closer.cancelled() => {}
            }
        });
        Ok(link)
    }

    /// What each sentinel says of whether a failover could be agreed on now; nothing where there are none.
    pub(super) async fn check_quorum(&self, limit: Duration) -> Vec<monitor::Said> {
        match self {
            Route::Fixed(_) => Vec::new(),
            Route::Named { monitor, .. } => monitor.check_quorum(limit).await,
        }
    }

    /// Asks no sentinel any more.
    pub(super) fn shutdown(&self) {
        if let Route::Named { monitor, .. } = self {
            monitor.shutdown();
        }
    }
}

#[async_trait]
impl<C: ServerConnector> Connector for Route<C> {
    type Link = C::Link;

    async fn connect(&self) -> Result<C::Link, Fault> {
        self.connect_by(|server| async move { server.connect().await })
            .await
    }

    fn target(&self) -> String {
        match self {
            Route::Fixed(connector) => connector.target(),
            Route::Named { monitor, .. } => format!("the master `{}`", monitor.name()),
        }
    }
}
