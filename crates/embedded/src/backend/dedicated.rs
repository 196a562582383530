//! A session of its own on the data of an [`Embedded`](super::Embedded): names, transactions, and
//! commands that wait.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::{
    Backend, CallError, Capabilities, Command, ConnectionState, Fault, FaultKind, Interest,
    PushStream, Topology, Value,
};
use tokio::sync::{Mutex as Turns, MutexGuard as Turn, watch};
use tokio::time::{Instant, timeout_at};

use super::{Shared, capabilities, execute, shut_down};
use crate::blocking::Ticket;
use crate::engine::{Engine, Outcome};
use crate::session::Session;
#[cfg(feature = "listen")]
use crate::state::Protocol;
use crate::unsupported::refuse_subscriptions;

pub(crate) struct Dedicated {
    shared: Arc<Shared>,
    session: Mutex<Session>,
    id: i64,
    state: watch::Sender<ConnectionState>,
    /// Commands of one connection run one after the other, also behind a command that waits.
    turns: Turns<()>,
}

impl Dedicated {
    pub(super) fn new(
        shared: Arc<Shared>,
        session: Session,
        state: watch::Sender<ConnectionState>,
    ) -> Self {
        Self {
            shared,
            id: session.id,
            session: Mutex::new(session),
            state,
            turns: Turns::new(()),
        }
    }
}

#[async_trait]
impl Backend for Dedicated {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        tokio::task::coop::consume_budget().await;
        refuse_subscriptions(command)?;
        let _turn = self.turn(command.deadline_at()).await?;
        let deadline = command.deadline_at();
        match self.run(deadline, |engine, session| {
            execute(engine, session, command)
        })? {
            Outcome::Done(reply) => reply.map_err(CallError::Replied),
            Outcome::Waiting(ticket) => self.wait(ticket, deadline).await,
        }
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        tokio::task::coop::consume_budget().await;
        commands.iter().try_for_each(refuse_subscriptions)?;
        // The latest deadline counts; a command without a deadline waits for ever.
        let deadlines = commands.iter().map(Command::deadline_at);
        let deadline = deadlines.max_by_key(|at| (at.is_none(), *at)).flatten();
        let _turn = self.turn(deadline).await?;
        let mut replies = Vec::with_capacity(commands.len());
        while replies.len() < commands.len() {
            let left = commands.get(replies.len()..).unwrap_or_default();
            let waiting = self.run(deadline, |engine, session| {
                for command in left {
                    match execute(engine, session, command) {
                        Outcome::Done(reply) => replies.push(reply.map_err(CallError::Replied)),
                        Outcome::Waiting(ticket) => return Some(ticket),
                    }
                }
                None
            });
            match waiting {
                Ok(None) => {}
                Ok(Some(ticket)) => replies.push(self.wait(ticket, deadline).await),
                Err(refused) if replies.is_empty() => return Err(refused),
                // It was shut down in the middle, or the time is up: what follows must not overtake what is left out.
                Err(refused) => replies.resize(commands.len(), Err(refused)),
            }
        }
        Ok(replies)
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.refuse_if_closed()?;
        self.shared.subscribe(interest)
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.refuse_if_closed()?;
        self.shared.dedicated()
    }

    fn topology(&self) -> Topology {
        Topology::Embedded
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// Ends this session only, as closing a connection would.
    async fn shutdown(&self) {
        self.state.send_replace(ConnectionState::Closed);
        self.leave();
    }
}

impl Dedicated {
    fn run<R>(
        &self,
        deadline: Option<Instant>,
        action: impl FnOnce(&mut Engine, &mut Session) -> R,
    ) -> Result<R, CallError> {
        self.refuse_if_closed()?;
        // The order of the locks is session, then engine, everywhere.
        let mut session = self.session.lock();
        self.shared
            .run(deadline, |engine| action(engine, &mut session))
    }

    async fn turn(&self, deadline: Option<Instant>) -> Result<Turn<'_, ()>, CallError> {
        if let Ok(turn) = self.turns.try_lock() {
            return Ok(turn);
        }
        match deadline {
            None => Ok(self.turns.lock().await),
            Some(deadline) => timeout_at(deadline, self.turns.lock())
                .await
                .map_err(|_| too_late()),
        }
    }

    /// Waits for the reply until the command's own timeout, which is the reply `nil`, or the
    /// deadline, which is an error. Dropped, it leaves the queue.
    pub(crate) async fn wait(
        &self,
        mut ticket: Ticket,
        deadline: Option<Instant>,
    ) -> Result<Value, CallError> {
        let position = QueuePosition {
            shared: &self.shared,
            number: ticket.number,
        };
        // A timeout that no clock reaches is none.
        let until = ticket
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let end = match (until, deadline) {
            (Some(until), Some(deadline)) => Some(until.min(deadline)),
            (one, other) => one.or(other),
        };
        let answered = match end {
            None => (&mut ticket.reply).await.ok(),
            Some(end) => match timeout_at(end, &mut ticket.reply).await {
                Ok(answered) => answered.ok(),
                Err(_) => {
                    drop(position);
                    // It may have been served in the last moment.
                    match ticket.reply.try_recv() {
                        Ok(reply) => Some(reply),
                        Err(_) if self.refuse_if_closed().is_err() => None,
                        Err(_) if until == Some(end) => Some(Ok(Value::Nil)),
                        Err(_) => return Err(too_late()),
                    }
                }
            },
        };
        match answered {
            Some(reply) => reply.map_err(CallError::Replied),
            None => Err(shut_down()),
        }
    }

    fn refuse_if_closed(&self) -> Result<(), CallError> {
        match *self.state.borrow() {
            ConnectionState::Closed => Err(shut_down()),
            _ => Ok(()),
        }
    }

    fn leave(&self) {
        let mut session = self.session.lock();
        session.transaction = None;
        let engine = self.shared.engine.lock();
        engine.with_state(|state| {
            session.unwatch(&mut state.db);
            state.unblock(self.id, None);
            state.connections.remove(&self.id);
        });
        self.shared.dedicated.lock().remove(&self.id);
    }
}

/// For connections from outside.
#[cfg(feature = "listen")]
impl Dedicated {
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Carries out a command, which is its name and its arguments.
    pub(crate) fn execute(&self, argv: &[&[u8]]) -> Result<Outcome, CallError> {
        self.run(None, |engine, session| engine.execute(session, argv))
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.session.lock().protocol
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        self.session.lock().transaction.is_some()
    }

    /// Waits for the end of the session.
    pub(crate) async fn closed(&self) {
        let mut state = self.state.subscribe();
        let closed = state.wait_for(|state| matches!(state, ConnectionState::Closed));
        // The sender lives as long as this session.
        let _ = closed.await;
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A position in the queue of waiters, which is given up when it is dropped.
struct QueuePosition<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        let engine = self.shared.engine.lock();
        engine.with_state(|state| state.dequeue(self.number));
    }
}

/// Nothing was taken: the waiter left the queue, or never entered it.
pub(super) fn too_late() -> CallError {
    Fault::new(
        FaultKind::Timeout,
        "the command's deadline passed while it waited",
    )
    .not_sent()
}
