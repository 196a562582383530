//! [`Embedded`], the engine as a [`Backend`].

mod active_expiry;
mod control;
mod dedicated;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::{
    Backend, CallError, Capabilities, Command, ConnectionState, Fault, FaultKind, Interest,
    PushStream, ServerKind, Topology, Value, check_pipeline, check_shareable,
};
use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

pub use self::control::Snapshot;
pub(crate) use self::dedicated::Dedicated;
use crate::clock::Clock;
use crate::engine::{Engine, Outcome};
#[cfg(feature = "listen")]
use crate::pubsub::Subscriber;
use crate::session::Session;
use crate::state::Protocol;

/// The version of Redis whose commands and error texts the engine has.
const VERSION: (u16, u16, u16) = (7, 0, 15);

/// A Redis-compatible engine in the process. Clones share their data.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    engine: Mutex<Engine>,
    state: watch::Sender<ConnectionState>,
    /// The states of the dedicated sessions, which end with the engine.
    dedicated: Mutex<HashMap<i64, watch::Sender<ConnectionState>>>,
}

impl Embedded {
    /// An engine without data.
    pub fn new() -> Self {
        Self::with_clock(Clock::new())
    }

    fn with_clock(clock: Clock) -> Self {
        Self {
            shared: Arc::new(Shared {
                engine: Mutex::new(Engine::new(clock)),
                state: watch::Sender::new(ConnectionState::Connected(1)),
                dedicated: Mutex::default(),
            }),
        }
    }
}

#[cfg(feature = "listen")]
impl Embedded {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Default for Embedded {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("state", &*self.shared.state.borrow())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for Embedded {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        // A call never waits; without this a loop of calls would starve the other tasks.
        tokio::task::coop::consume_budget().await;
        check_shareable(command)?;
        self.shared.run(command.deadline_at(), |engine| {
            let mut session = engine.new_session();
            at_once(execute(engine, &mut session, command))
        })?
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        tokio::task::coop::consume_budget().await;
        check_pipeline(commands)?;
        // The latest deadline counts; a command without a deadline waits for ever.
        let deadlines = commands.iter().map(Command::deadline_at);
        let deadline = deadlines.max_by_key(|at| (at.is_none(), *at)).flatten();
        self.shared.run(deadline, |engine| {
            let mut session = engine.new_session();
            commands
                .iter()
                .map(|command| at_once(execute(engine, &mut session, command)))
                .collect()
        })
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.shared.subscribe(interest)
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.shared.dedicated()
    }

    fn topology(&self) -> Topology {
        Topology::Embedded
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.state.subscribe()
    }

    async fn shutdown(&self) {
        let engine = self.shared.engine.lock();
        self.shared.state.send_replace(ConnectionState::Closed);
        for state in self.shared.dedicated.lock().values() {
            state.send_replace(ConnectionState::Closed);
        }
        engine.with_state(|state| {
            state.pubsub.clear();
            state.untrack_all();
            state.unblock_all();
        });
    }
}

impl Shared {
    /// Runs `action` on the engine. While another thread has it, with a long script for one, this waits until the deadline
    /// at most, and then nothing is carried out.
    fn run<R>(
        &self,
        deadline: Option<Instant>,
        action: impl FnOnce(&mut Engine) -> R,
    ) -> Result<R, CallError> {
        let engine = self.engine.try_lock().or_else(|| match deadline {
            None => Some(self.engine.lock()),
            Some(deadline) => self
                .engine
                .try_lock_for(deadline.saturating_duration_since(Instant::now())),
        });
        let mut engine = engine.ok_or_else(dedicated::too_late)?;
        // Read under the lock, so that nothing runs once `shutdown` has had it.
        match self.is_closed() {
            true => Err(shut_down()),
            false => Ok(action(&mut engine)),
        }
    }

    fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), ConnectionState::Closed)
    }

    fn subscribe(self: &Arc<Self>, interest: Interest) -> Result<PushStream, CallError> {
        interest.check()?;
        if let Interest::Invalidations { prefixes } = &interest {
            return self.track(prefixes);
        }
        if !matches!(
            interest,
            Interest::Channels(_) | Interest::Patterns(_) | Interest::Sharded(_)
        ) {
            return Err(unsupported("the embedded engine has no such subscription"));
        }
        let (subscription, stream) = self.run(None, |engine| {
            engine.with_state(|state| state.pubsub.subscribe(&interest))
        })?;
        // A stream must not keep the data alive.
        let shared: Weak<Self> = Arc::downgrade(self);
        Ok(stream.on_drop(move || {
            if let Some(shared) = shared.upgrade() {
                let engine = shared.engine.lock();
                engine.with_state(|state| state.pubsub.unsubscribe(subscription, &interest));
            }
        }))
    }

    fn track(self: &Arc<Self>, prefixes: &[Bytes]) -> Result<PushStream, CallError> {
        let ((subscription, stream), next_expiry) = self.run(None, |engine| {
            engine.with_state(|state| (state.track(prefixes), state.next_expiry()))
        })?;
        let shared: Weak<Self> = Arc::downgrade(self);
        // Without a runtime, near caches hear of an expired key with the next command.
        let active_expiry = Handle::try_current().ok().map(|runtime| {
            let task = active_expiry::run(Weak::clone(&shared), next_expiry);
            AbortOnDropHandle::new(runtime.spawn(task))
        });
        Ok(stream.on_drop(move || {
            drop(active_expiry);
            if let Some(shared) = shared.upgrade() {
                let engine = shared.engine.lock();
                engine.with_state(|state| state.untrack(subscription));
            }
        }))
    }

    fn dedicated(self: &Arc<Self>) -> Result<Arc<dyn Backend>, CallError> {
        Ok(self.connect(Protocol::Resp3)?)
    }

    fn connect(self: &Arc<Self>, protocol: Protocol) -> Result<Arc<Dedicated>, CallError> {
        let state = watch::Sender::new(ConnectionState::Connected(1));
        let session = self.run(None, |engine| {
            let mut session = engine.new_session();
            session.protocol = protocol;
            session.is_from_outside = protocol == Protocol::Resp2;
            engine.with_state(|state| state.connect(session.id, protocol));
            self.dedicated.lock().insert(session.id, state.clone());
            session
        })?;
        Ok(Arc::new(Dedicated::new(Arc::clone(self), session, state)))
    }
}

/// For connections from outside.
#[cfg(feature = "listen")]
impl Shared {
    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// A session as a new connection has it.
    pub(crate) fn dedicated_session(self: &Arc<Self>) -> Result<Arc<Dedicated>, CallError> {
        self.connect(Protocol::Resp2)
    }

    /// A subscriber who listens to nothing yet.
    pub(crate) fn subscriber(&self) -> (Subscriber, PushStream) {
        let engine = self.engine.lock();
        engine.with_state(|state| state.pubsub.subscriber())
    }

    pub(crate) fn add_subscription(&self, subscriber: &Subscriber, interest: &Interest) {
        let engine = self.engine.lock();
        engine.with_state(|state| state.pubsub.add(subscriber, interest));
    }

    pub(crate) fn remove_subscription(&self, subscriber: &Subscriber, interest: &Interest) {
        let engine = self.engine.lock();
        engine.with_state(|state| state.pubsub.unsubscribe(subscriber.number, interest));
    }
}

fn execute(engine: &mut Engine, session: &mut Session, command: &Command) -> Outcome {
    let mut argv: SmallVec<[&[u8]; 8]> = SmallVec::with_capacity(command.arg_count() + 1);
    argv.push(command.name().as_bytes());
    argv.extend(command.iter());
    engine.execute(session, &argv)
}

/// The reply to a command that does not wait; a command that may wait was refused before.
fn at_once(outcome: Outcome) -> Result<Value, CallError> {
    match outcome {
        Outcome::Done(reply) => reply.map_err(CallError::Replied),
        Outcome::Waiting(_) => Err(unsupported(
            "a command that waits needs a dedicated session",
        )),
    }
}

fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::of(ServerKind::Embedded, VERSION);
    // Of a later version than the rest.
    capabilities.field_expiry = true;
    capabilities
}

fn shut_down() -> CallError {
    Fault::new(FaultKind::Shutdown, "the embedded engine was shut down").not_sent()
}

fn unsupported(text: &'static str) -> CallError {
    Fault::new(FaultKind::Unsupported, text).not_sent()
}
