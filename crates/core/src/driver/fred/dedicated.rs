//! A connection of one's own: for blocking commands, `WATCH`, `WAIT`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::link::{FredConnector, FredLink};
use super::sequence::Sequence;
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::command::Command;
use crate::driver::supervisor::{Connector, Link};
use crate::error::{CallError, Fault, FaultKind};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// Refuses what fred cannot count the replies of, and what would change the protocol under it.
fn check_countable(command: &Command) -> Result<(), CallError> {
    let name = command.name();
    let is_any_of = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    let first_is = |word: &[u8]| {
        command
            .get(0)
            .is_some_and(|sub| sub.eq_ignore_ascii_case(word))
    };
    let of_client = is_any_of(&["CLIENT"]) && (first_is(b"REPLY") || first_is(b"TRACKING"));
    let of_protocol = is_any_of(&["HELLO"]) && command.arg_count() > 0;
    let uncounted = [
        "MONITOR",
        "RESET",
        "QUIT",
        "SUBSCRIBE",
        "PSUBSCRIBE",
        "SSUBSCRIBE",
        "UNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "SUNSUBSCRIBE",
    ];
    if !of_client && !of_protocol && !is_any_of(&uncounted) {
        return Ok(());
    }
    let message = format!(
        "{name} is not carried by the `fred` driver, because its replies cannot be told apart; \
         use `subscribe` for subscriptions"
    );
    Err(Fault::new(FaultKind::Unsupported, message).not_sent())
}

/// How long its calls and connections may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) command: Duration,
    pub(super) connect: Duration,
}

/// One connection for one user. When it breaks it stays broken: what was set on it is gone.
pub(super) struct Dedicated {
    open: Mutex<Option<Open>>,
    connector: FredConnector,
    limits: Limits,
    state: watch::Sender<ConnectionState>,
}

#[derive(Clone)]
struct Open {
    link: Arc<FredLink>,
    /// Whether `MULTI` was sent and `EXEC` was not.
    is_queueing: bool,
}

impl Dedicated {
    pub(super) async fn open(connector: &FredConnector, limits: Limits) -> Result<Self, CallError> {
        let connected = timeout(limits.connect, connector.connect())
            .await
            .unwrap_or_else(|_| {
                let message = "no dedicated connection within `connect_timeout`";
                Err(Fault::new(FaultKind::Timeout, message))
            });
        let link = Arc::new(connected.map_err(Fault::not_sent)?);
        Ok(Self {
            open: Mutex::new(Some(Open {
                link,
                is_queueing: false,
            })),
            connector: connector.clone(),
            limits,
            state: watch::Sender::new(ConnectionState::Connected(1)),
        })
    }

    async fn run(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let (link, sequence) = {
            let mut open = self.open.lock();
            let Some(open) = &mut *open else {
                let message = "the dedicated connection was closed or given up after a call \
                               without a reply; open another";
                return Err(Fault::new(FaultKind::Disconnected, message).not_sent());
            };
            let sequence = Sequence::dedicated(commands, &mut open.is_queueing);
            (Arc::clone(&open.link), sequence)
        };
        let unanswered = Unanswered(Some(self));
        unanswered.settle(timeout_at(deadline, link.run(&sequence, deadline)).await)
    }

    fn deadline(&self, command: &Command) -> Instant {
        command
            .deadline_at()
            .unwrap_or_else(|| Instant::now() + self.limits.command)
    }

    /// After a call without a reply nobody knows the connection's state (a transaction half
    /// queued, a blocking pop still waiting to take an item that nobody would see): it ends.
    fn give_up(&self) {
        if let Some(open) = self.open.lock().take() {
            open.link.close();
        }
        self.state.send_replace(ConnectionState::Closed);
    }
}

/// Ends the connection when a call on it is dropped before its reply came.
struct Unanswered<'d>(Option<&'d Dedicated>);

impl Unanswered<'_> {
    fn settle<T>(mut self, outcome: Result<Result<T, CallError>, Elapsed>) -> Result<T, CallError> {
        let result = outcome.unwrap_or_else(|_| {
            Err(Fault::new(FaultKind::Timeout, "no reply within the deadline").maybe())
        });
        if !matches!(result, Err(CallError::Maybe(_))) {
            self.0 = None;
        }
        result
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(dedicated) = self.0 {
            dedicated.give_up();
        }
    }
}

#[async_trait]
impl Backend for Dedicated {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        check_countable(command)?;
        let commands = std::slice::from_ref(command);
        let replies = self.run(commands, self.deadline(command)).await?;
        replies
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(Fault::new(FaultKind::Protocol, "the reply is missing").maybe()))
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        commands.iter().try_for_each(check_countable)?;
        match commands.iter().map(|command| self.deadline(command)).max() {
            Some(deadline) => self.run(commands, deadline).await,
            None => Ok(Vec::new()),
        }
    }

    async fn subscribe(&self, _: Interest) -> Result<PushStream, CallError> {
        let message =
            "a dedicated connection takes no subscriptions; subscribe on the shared client";
        Err(Fault::new(FaultKind::Unsupported, message).not_sent())
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Ok(Arc::new(Self::open(&self.connector, self.limits).await?))
    }

    fn topology(&self) -> Topology {
        Topology::Standalone
    }

    fn capabilities(&self) -> Capabilities {
        let open = self.open.lock();
        let link = open.as_ref().map(|open| &open.link);
        link.map_or(Capabilities::UNKNOWN, |link| link.capabilities())
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    async fn shutdown(&self) {
        self.give_up();
    }
}
