//! Sentinel: finds the master of a name, and notices when it is another one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::link::{RedisConnector, RedisLink};
use crate::command::Command;
use crate::config::Address;
use crate::driver::hello::Role;
use crate::driver::subscriptions::{PushConnector, Registry};
use crate::driver::supervisor::Connector;
use crate::error::{CallError, Fault, FaultKind};

/// How long one sentinel may take to answer before the next is asked.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often the sentinels are asked whether the master is still the same.
const WATCH: Duration = Duration::from_millis(500);

/// Makes connections to the master that the sentinels name.
#[derive(Clone)]
pub(super) struct SentinelConnector {
    sentinels: Arc<[RedisConnector]>,
    master: Arc<str>,
    servers: RedisConnector,
}

impl SentinelConnector {
    pub(super) fn new(
        sentinels: Vec<RedisConnector>,
        master: &str,
        servers: RedisConnector,
    ) -> Self {
        Self {
            sentinels: sentinels.into(),
            master: master.into(),
            servers,
        }
    }

    /// Asks the sentinels, all at once; the first that knows the master decides. It may be behind
    /// the others: whoever connects checks the role.
    async fn find(&self) -> Result<Address, Fault> {
        use futures_util::StreamExt;
        use futures_util::stream::FuturesUnordered;

        let mut answers: FuturesUnordered<_> = self
            .sentinels
            .iter()
            .map(|sentinel| self.ask(sentinel))
            .collect();
        let mut last = Fault::new(FaultKind::Connect, "no sentinel is configured");
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(address) => return Ok(address),
                // That a sentinel does not know the name says more than that another is down.
                Err(fault) if last.kind() == FaultKind::Handshake => drop(fault),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn ask(&self, sentinel: &RedisConnector) -> Result<Address, Fault> {
        let target = sentinel.target();
        let answer = timeout(PATIENCE, async {
            let link = sentinel.connect_with(None).await?;
            let ask = Command::new("SENTINEL")
                .arg("get-master-addr-by-name")
                .arg(&*self.master);
            match link.send(&ask).await {
                Ok(reply) => Ok(reply),
                Err(CallError::Replied(error)) => {
                    let message = format!(
                        "sentinel {target} refused: {error}; check \
                        `sentinel_username` and `sentinel_password`"
                    );
                    Err(Fault::new(FaultKind::Handshake, message))
                }
                Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => Err(fault),
            }
        });
        let reply = answer.await.unwrap_or_else(|_| {
            let message = format!("sentinel {target} did not answer; check `sentinels`");
            Err(Fault::new(FaultKind::Connect, message))
        })?;
        let address: Option<(String, u16)> = reply.to().map_err(|error| {
            Fault::new(FaultKind::Protocol, format!("sentinel {target}: {error}"))
        })?;
        match address {
            Some((host, port)) => Ok(Address { host, port }),
            None => {
                let message = format!(
                    "sentinel {target} knows no master named `{}`; check `master`",
                    self.master
                );
                Err(Fault::new(FaultKind::Handshake, message))
            }
        }
    }

    /// Whether a server says itself that it is a master: one sentinel that is behind, or calls the
    /// servers by other names, must not cut a connection that works.
    async fn is_master(&self, address: &Address) -> bool {
        let link = timeout(PATIENCE, self.servers.at(address).connect_with(None)).await;
        matches!(link, Ok(Ok(link)) if link.role() == Role::Master)
    }

    /// Finds the master and connects to it, with what is done to pushed frames left to `connect`.
    async fn connect_by<F>(
        &self,
        connect: impl FnOnce(RedisConnector) -> F,
    ) -> Result<RedisLink, Fault>
    where
        F: Future<Output = Result<RedisLink, Fault>>,
    {
        let address = self.find().await?;
        let mut link = connect(self.servers.at(&address)).await?;
        if link.role() == Role::Replica {
            // The sentinel is behind, or the failover has not got there yet.
            let message = format!(
                "{address} is named as master of `{}`, and is a replica",
                self.master
            );
            return Err(Fault::new(FaultKind::Connect, message));
        }
        let watcher = watch(self.clone(), address, link.closer());
        link.keep(watcher);
        Ok(link)
    }
}

/// Ends a connection once the sentinels name another master, so that nothing more is written to
/// the old one. It ends with the connection.
async fn watch(connector: SentinelConnector, address: Address, closer: CancellationToken) {
    loop {
        tokio::select! {
            () = sleep(WATCH) => {}
            () = closer.cancelled() => return,
        }
        if let Ok(now) = connector.find().await
            && now != address
            && connector.is_master(&now).await
        {
            tracing::info!(
                target: "redkit::connection",
                master = %connector.master, from = %address, to = %now, "the master has changed"
            );
            closer.cancel();
            return;
        }
    }
}

#[async_trait]
impl Connector for SentinelConnector {
    type Link = RedisLink;

    async fn connect(&self) -> Result<RedisLink, Fault> {
        self.connect_by(|master| async move { master.connect_with(None).await })
            .await
    }

    fn target(&self) -> String {
        format!("the master `{}`", self.master)
    }
}

#[async_trait]
impl PushConnector for SentinelConnector {
    type Link = RedisLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<RedisLink, Fault> {
        let registry = Arc::clone(registry);
        self.connect_by(|master| async move { PushConnector::connect(&master, &registry).await })
            .await
    }
}
