//! Acquisitions that replicas or disks confirm before the caller has the lock: `WAIT` and `WAITAOF`.
//!
//! Both wait for what was written *on their own connection*; on another they are satisfied at once and say nothing.
//! So the script that takes a lock goes over a connection of its own, which then waits.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{
    CallError, Client, Command, ConfigError, ConnectionState, Error as CoreError, FaultKind,
    Invocation, Key, Topology, Value,
};
use tokio::time::Instant;

use crate::error::Error;
use crate::time::millis;

/// What confirms an acquisition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Confirmation {
    pub(crate) by: ConfirmedBy,
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfirmedBy {
    /// So many replicas have it in memory.
    Replicas(u32),
    /// The master (if so) and so many replicas have it on disk.
    Disks { is_local: bool, replicas: u32 },
}

/// Connections of a manager that wait for confirmations.
#[derive(Default)]
pub(crate) struct Connections {
    idle: Mutex<Vec<Client>>,
}

/// How many connections stay open without use.
const MOST_IDLE: usize = 16;

/// How long the reply may take beyond the time that the server waits.
const GRACE: Duration = Duration::from_secs(1);

/// How the calls of one acquisition go to the server.
pub(crate) struct Wire<'a> {
    client: &'a Client,
    confirmation: Option<&'a Confirmation>,
    connections: &'a Connections,
    /// The connection that the last call went over.
    used: Mutex<Option<Client>>,
}

impl Confirmation {
    /// # Errors
    /// [`ConfigError`] for what could never be confirmed, or not in time.
    pub(crate) fn check(&self, ttl: Duration, topology: Topology) -> Result<(), ConfigError> {
        let wrong = |problem: &'static str, fix: &'static str| {
            Err(ConfigError::new("confirmation", problem, fix))
        };
        if topology == Topology::Embedded {
            return wrong(
                "the engine in this process has no replicas and no disk",
                "leave it out for `embedded://`",
            );
        }
        if matches!(
            self.by,
            ConfirmedBy::Replicas(0)
                | ConfirmedBy::Disks {
                    is_local: false,
                    replicas: 0
                }
        ) {
            return wrong("it names no server", "name at least one");
        }
        if self.timeout < Duration::from_millis(1) || self.timeout > ttl / 2 {
            return wrong(
                "its time is under a millisecond, or more than half of `ttl` (of an execution, `lease`)",
                "choose what replication takes at most, such as 100 ms, or a longer time to live",
            );
        }
        Ok(())
    }

    /// # Errors
    /// [`ConfigError`] for a server that is known to be too old.
    pub(crate) fn check_version(&self, version: (u16, u16, u16)) -> Result<(), ConfigError> {
        let needs = match self.by {
            ConfirmedBy::Replicas(_) => return Ok(()),
            ConfirmedBy::Disks { .. } => (7, 2, 0),
        };
        match version != (0, 0, 0) && version < needs {
            true => Err(ConfigError::new(
                "confirmation",
                "this server has no `WAITAOF`, which came with Redis 7.2",
                "use `confirmed_by_replicas`, or a later server",
            )),
            false => Ok(()),
        }
    }

    /// Asks a server whether it can confirm at all. `key` says which one, on a cluster.
    ///
    /// # Errors
    /// [`Error::Core`]: as a [`ConfigError`] with what the server said when it cannot, otherwise when it could not be
    /// asked.
    pub(crate) async fn probe(&self, client: &Client, key: &Key) -> Result<(), Error> {
        let connection = client.dedicated().await?;
        // The first command says to which node the connection is.
        connection
            .call::<u64>(Command::new("EXISTS").key(key))
            .await?;
        let brief = Self {
            timeout: Duration::from_millis(1),
            ..*self
        };
        let refused = match connection.call::<Value>(brief.command()).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match refused.call_error().and_then(|error| error.server_error()) {
            Some(said) => {
                let problem = format!("the server cannot confirm: {said}");
                let fix = "use `confirmed_by_replicas`, or a server of Redis 7.2 or later with `appendonly yes`";
                Err(ConfigError::new("confirmation", problem, fix).into())
            }
            None => Err(refused.into()),
        }
    }

    fn wanted(&self) -> u32 {
        match self.by {
            ConfirmedBy::Replicas(replicas) => replicas,
            ConfirmedBy::Disks { is_local, replicas } => replicas.saturating_add(is_local.into()),
        }
    }

    fn command(&self) -> Command {
        let command = match self.by {
            ConfirmedBy::Replicas(replicas) => Command::new("WAIT").arg(replicas),
            ConfirmedBy::Disks { is_local, replicas } => Command::new("WAITAOF")
                .arg(u32::from(is_local))
                .arg(replicas),
        };
        command
            .arg(millis(self.timeout))
            .deadline(Instant::now() + self.timeout + GRACE)
    }

    /// How many servers have confirmed, of those that are wanted.
    fn confirmed(&self, reply: Value) -> Result<u32, CoreError> {
        let counts = match (self.by, reply) {
            (ConfirmedBy::Replicas(wanted), reply) => vec![(reply.to::<u32>(), wanted)],
            (ConfirmedBy::Disks { is_local, replicas }, Value::Array(counts)) => {
                let counts = counts.into_iter().map(Value::to::<u32>);
                counts.zip([is_local.into(), replicas]).collect()
            }
            (ConfirmedBy::Disks { .. }, other) => vec![(other.to::<u32>(), 0)],
        };
        let mut confirmed = 0;
        for (count, wanted) in counts {
            let count = count.map_err(|error| CoreError::Reply {
                command: "WAIT".into(),
                error,
            })?;
            confirmed += count.min(wanted);
        }
        Ok(confirmed)
    }
}

impl Connections {
    /// Keeps a connection for a later call, as long as the client is not shut down.
    fn put(&self, client: &Client, connection: Client) {
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE && !is_closed(client) {
            idle.push(connection);
        }
    }

    /// A connection without use; none, and none is left, when the client was shut down, whose calls they would outlive.
    fn take(&self, client: &Client) -> Option<Client> {
        let mut idle = self.idle.lock();
        if is_closed(client) {
            idle.clear();
        }
        idle.pop()
    }

    /// Runs a script on an idle connection that can, or a new one. Gives the connection when it is known to be
    /// in order.
    async fn eval(&self, client: &Client, call: Invocation) -> Result<(Value, Client), CoreError> {
        let mut of_other_nodes = Vec::new();
        let result = loop {
            let idle = self.take(client);
            let is_new = idle.is_none();
            let connection = match idle {
                Some(connection) => connection,
                // A client that was shut down refuses.
                None => client.dedicated().await?,
            };
            match connection.eval::<Value>(call.clone()).await {
                Ok(reply) => break Ok((reply, connection)),
                Err(error) if is_new => break Err(error),
                Err(error) => match not_sent(&error) {
                    // On a cluster a connection is to one node.
                    Some(FaultKind::Invalid) => of_other_nodes.push(connection),
                    // It broke while it was idle.
                    Some(_) => {}
                    None => break Err(error),
                },
            }
        };
        for connection in of_other_nodes {
            self.put(client, connection);
        }
        result
    }
}

impl<'a> Wire<'a> {
    pub(crate) fn new(
        client: &'a Client,
        confirmation: Option<&'a Confirmation>,
        connections: &'a Connections,
    ) -> Self {
        Self {
            client,
            confirmation,
            connections,
            used: Mutex::new(None),
        }
    }

    /// Runs the script of an acquisition.
    pub(crate) async fn eval(&self, call: Invocation) -> Result<Value, CoreError> {
        if self.confirmation.is_none() {
            return self.client.eval(call).await;
        }
        self.put_back();
        let (reply, connection) = self.connections.eval(self.client, call).await?;
        *self.used.lock() = Some(connection);
        Ok(reply)
    }

    /// The last call took nothing: others may use its connection.
    pub(crate) fn put_back(&self) {
        if let Some(connection) = self.used.lock().take() {
            self.connections.put(self.client, connection);
        }
    }

    /// Waits until what the last call took is confirmed.
    ///
    /// # Errors
    /// [`Error::NotConfirmed`] when it was not in time; [`Error::Core`] when the server could not be asked, or cannot
    /// wait.
    pub(crate) async fn confirm(&self) -> Result<(), Error> {
        let Some(confirmation) = self.confirmation else {
            return Ok(());
        };
        let connection = self.used.lock().take();
        let (wanted, mut confirmed) = (confirmation.wanted(), 0);
        if let Some(connection) = connection {
            let reply = connection.call::<Value>(confirmation.command()).await?;
            self.connections.put(self.client, connection);
            confirmed = confirmation.confirmed(reply)?;
        }
        match confirmed >= wanted {
            true => Ok(()),
            false => Err(Error::NotConfirmed { confirmed, wanted }),
        }
    }
}

impl Drop for Wire<'_> {
    fn drop(&mut self) {
        self.put_back();
    }
}

fn is_closed(client: &Client) -> bool {
    matches!(*client.state().borrow(), ConnectionState::Closed)
}

fn not_sent(error: &CoreError) -> Option<FaultKind> {
    match error.call_error() {
        Some(CallError::NotSent(fault)) => Some(fault.kind()),
        _ => None,
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("idle", &self.idle.lock().len())
            .finish()
    }
}
