//! [`ClusterOptions`]: how a cluster is set up.

use std::time::Duration;

use crate::ServerOptions;

/// How a [`Cluster`](crate::Cluster) is set up. The default has no password, no TLS, and a node
/// timeout of 1.5 s.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    pub(super) node: ServerOptions,
    pub(super) node_timeout: Duration,
    pub(super) tls: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            node: ServerOptions::new(),
            node_timeout: Duration::from_millis(1500),
            tls: false,
        }
    }
}

impl ClusterOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every node demands this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.node = self.node.password(password);
        self
    }

    /// The nodes speak TLS and nothing else, with clients and with one another. They have one
    /// certificate.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// After how long a silent node is taken for dead: its replica takes over within about another
    /// second.
    #[must_use]
    pub fn node_timeout(mut self, timeout: Duration) -> Self {
        self.node_timeout = timeout;
        self
    }

    /// Adds a line to every node's configuration file, such as `cluster-require-full-coverage no`:
    /// without it a cluster that has lost one master's slots refuses commands for all slots, as
    /// the servers' own default has it. A later line wins.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.node = self.node.config(line);
        self
    }

    /// How each node is set up.
    pub(super) fn node_options(&self) -> ServerOptions {
        let own = [
            format!("cluster-node-timeout {}", self.node_timeout.as_millis()),
            // A replica takes over however long its link was down before.
            "cluster-replica-validity-factor 0".to_owned(),
            // A replica stays with its master until a test moves it.
            "cluster-allow-replica-migration no".to_owned(),
            // The server waits five seconds for more replicas before it sends its data.
            "repl-diskless-sync-delay 0".to_owned(),
        ];
        let tls = ["tls-cluster yes", "tls-replication yes"].map(str::to_owned);
        let tls = tls.into_iter().filter(|_| self.tls);
        // The test's own lines come after these, so that they win.
        self.node
            .clone()
            .cluster_node()
            .first(own.into_iter().chain(tls))
    }
}
