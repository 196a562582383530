//! [`SentinelOptions`]: how a master, its replicas and their sentinels are set up.

use std::time::Duration;

use super::MASTER;
use crate::{Server, ServerOptions};

/// How [`Sentinels`](crate::Sentinels) are set up. The default has no passwords and no TLS; a
/// master is taken for dead after two seconds.
#[derive(Debug, Clone)]
pub struct SentinelOptions {
    pub(super) server: ServerOptions,
    pub(super) sentinel_password: Option<String>,
    pub(super) tls: bool,
    down_after: Duration,
}

impl Default for SentinelOptions {
    fn default() -> Self {
        Self {
            server: ServerOptions::new(),
            sentinel_password: None,
            tls: false,
            // After a switch a sentinel takes up to a second to connect to the new master. With
            // less than that added, all may take that one for dead as well, and switch once more.
            down_after: Duration::from_secs(2),
        }
    }
}

impl SentinelOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// The master and the replicas demand this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.server = self.server.password(password);
        self
    }

    /// The sentinels demand this password.
    #[must_use]
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// Servers and sentinels speak TLS and nothing else, with clients and with one another. They
    /// have one certificate.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// After how long a silent master is taken for dead (`down-after-milliseconds`).
    #[must_use]
    pub fn down_after(mut self, time: Duration) -> Self {
        self.down_after = time;
        self
    }

    /// Adds a line to the configuration file of the master and of every replica. A later line
    /// wins.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.server = self.server.config(line);
        self
    }

    /// How the master is set up.
    pub(super) fn master(&self) -> ServerOptions {
        // The server waits five seconds for more replicas before it sends its data.
        let own = ["repl-diskless-sync-delay 0".to_owned()];
        let options = self
            .server
            .clone()
            .first(own.into_iter().chain(self.tls_lines()));
        match self.tls {
            true => options.tls(),
            false => options,
        }
    }

    /// How the replicas of `master` are set up.
    pub(super) fn replica(&self, master: &Server) -> ServerOptions {
        // In the file, so that one which is killed comes back as a replica.
        let of = format!("replicaof 127.0.0.1 {}", master.addr().port());
        let options = self.master().first(std::iter::once(of));
        match master.tls() {
            Some(tls) => options.tls_of(tls.clone()),
            None => options,
        }
    }

    /// How the sentinels that watch over `master` are set up.
    pub(super) fn sentinel(&self, master: &Server, quorum: usize) -> ServerOptions {
        let port = master.addr().port();
        let down_after = self.down_after.as_millis();
        let mut lines = vec![
            format!("sentinel monitor {MASTER} 127.0.0.1 {port} {quorum}"),
            format!("sentinel down-after-milliseconds {MASTER} {down_after}"),
            // An election that fails is repeated after twice this time.
            format!("sentinel failover-timeout {MASTER} 4000"),
            format!("sentinel parallel-syncs {MASTER} 8"),
        ];
        if let Some(password) = master.password() {
            lines.push(format!("sentinel auth-pass {MASTER} \"{password}\""));
        }
        lines.extend(self.tls_lines());
        let mut options = ServerOptions::new().sentinel().first(lines.into_iter());
        if let Some(password) = &self.sentinel_password {
            options = options.password(password);
        }
        match master.tls() {
            Some(tls) => options.tls_of(tls.clone()),
            None => options,
        }
    }

    fn tls_lines(&self) -> Option<String> {
        self.tls.then(|| "tls-replication yes".to_owned())
    }
}
