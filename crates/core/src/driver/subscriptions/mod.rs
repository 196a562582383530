//! Subscriptions, whatever the driver: a connection of their own, made when somebody subscribes,
//! and made anew, with everything subscribed again, when it breaks. Subscribers are told when it
//! breaks and when it stands again.

mod registry;
mod task;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

#[cfg(feature = "native")]
pub(super) use self::registry::Listener;
pub(super) use self::registry::Registry;
use self::task::Task;
use super::link::{Link, Timing};
use crate::command::Command;
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::push::{Interest, PushSink};
#[cfg(feature = "native")]
use crate::push::{PushStream, push_channel};
use crate::value::Value;

/// How many items a subscriber may leave unread before it is told that it lags.
pub(super) const QUEUE: usize = 65_536;

/// How many subscribers may wait for the connection at once.
const WAITING: usize = 1024;

/// Makes connections for subscriptions.
#[async_trait]
pub(super) trait PushConnector: Send + Sync + 'static {
    type Link: PushLink;

    /// Makes one connection, which delivers what is pushed to `registry`.
    async fn connect(&self, registry: &Arc<Registry>) -> Result<Self::Link, Fault>;

    /// Where it connects to, for messages.
    fn target(&self) -> String;

    /// The server refused a name that stood, because it, or another server, is not ready for it.
    /// It is asked again until it is taken off the registry.
    fn is_elsewhere(&self, _refusal: &ServerError) {}
}

/// A connection for subscriptions.
#[async_trait]
pub(super) trait PushLink: Link {
    /// Subscribes or unsubscribes, and returns when the server has confirmed it for every name.
    /// The caller bounds the wait. [`CallError::Replied`] leaves the connection usable.
    async fn change(&self, change: Change, names: &[Name]) -> Result<(), CallError>;

    /// Sends a command that changes nothing. The caller bounds the wait.
    async fn ask(&self, command: &Command) -> Result<Value, CallError>;
}

/// The handle that a backend keeps. Dropping it ends every subscription.
pub(super) struct Subscriptions {
    registry: Arc<Registry>,
    requests: mpsc::Sender<Request>,
    shutdown: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

enum Request {
    Subscribe {
        names: Vec<Name>,
        sink: PushSink,
        done: oneshot::Sender<Result<(), CallError>>,
    },
    /// A subscriber is gone.
    Prune,
    /// These were taken off the registry.
    #[cfg(feature = "native")]
    Unsubscribe(Vec<Name>),
}

/// What can be subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) kind: NameKind,
    pub(super) bytes: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum NameKind {
    Channel,
    Pattern,
    Sharded,
    /// Changes of the keys that start so.
    Prefix,
}

/// Whatever ends the task, no subscriber waits for messages that cannot come any more.
struct EndGuard(Arc<Registry>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(target: "redkit::connection", "the task of the subscriptions panicked");
        }
        // With their sinks the streams end.
        self.0.clear();
    }
}

impl Subscriptions {
    pub(super) fn start(connector: impl PushConnector, timing: Timing) -> Self {
        let (requests, incoming) = mpsc::channel(WAITING);
        let shutdown = CancellationToken::new();
        let registry = Arc::new(Registry::default());
        let task = Task::new(connector, timing, Arc::clone(&registry), incoming);
        let stop = shutdown.clone();
        let ended = EndGuard(Arc::clone(&registry));
        let task = tokio::spawn(async move {
            tokio::select! {
                () = task.run() => {}
                () = stop.cancelled() => {}
            }
            drop(ended);
        });
        Self {
            registry,
            requests,
            shutdown,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Subscribes, and waits until the server has confirmed it, but not beyond `deadline`.
    #[cfg(feature = "native")]
    pub(super) async fn subscribe(
        &self,
        interest: Interest,
        deadline: Instant,
    ) -> Result<PushStream, CallError> {
        let (sink, stream) = push_channel(QUEUE);
        let requests = self.requests.clone();
        // When the queue is full the task is busy, and prunes when it next looks at its registry.
        let stream = stream.on_drop(move || drop(requests.try_send(Request::Prune)));
        self.attach(names(interest)?, sink, deadline).await?;
        Ok(stream)
    }

    /// Subscribes `sink` to `names`, and waits until the server has confirmed it.
    pub(super) async fn attach(
        &self,
        names: Vec<Name>,
        sink: PushSink,
        deadline: Instant,
    ) -> Result<(), CallError> {
        let (done, confirmed) = oneshot::channel();
        let request = Request::Subscribe { names, sink, done };
        let outcome = timeout_at(deadline, async {
            self.requests.send(request).await.ok()?;
            confirmed.await.ok()
        });
        match outcome.await {
            Ok(Some(result)) => result,
            Ok(None) => Err(Fault::new(FaultKind::Shutdown, "the client was shut down").not_sent()),
            Err(_) => Err(Fault::new(
                FaultKind::Timeout,
                "the subscription was not confirmed within the deadline",
            )
            .maybe()),
        }
    }

    /// Takes over a subscriber whom the server has not been asked for yet. It is told so, and told
    /// again when its names stand.
    #[cfg(feature = "native")]
    pub(super) fn adopt(&self, names: &[Name], sink: &PushSink) {
        self.registry.adopt(names, sink);
    }

    /// Takes the names that `choose` wants off, with those who listen to them.
    #[cfg(feature = "native")]
    pub(super) fn take(&self, choose: impl Fn(&Name) -> bool) -> Vec<(Name, Vec<Listener>)> {
        let taken = self.registry.take(choose);
        // A server ends the sharded channels of a slot that has left it by itself, and that end would be taken for the
        // reply to our own request, whose refusal would then be nobody's.
        let names = taken.iter().map(|(name, _)| name);
        let names: Vec<Name> = names
            .filter(|name| name.kind != NameKind::Sharded)
            .cloned()
            .collect();
        if !names.is_empty() {
            // With a full queue the server goes on sending what nobody listens to.
            drop(self.requests.try_send(Request::Unsubscribe(names)));
        }
        taken
    }

    /// Whether `sink` listens to all of `names`.
    #[cfg(feature = "native")]
    pub(super) fn listens(&self, names: &[Name], sink: &PushSink) -> bool {
        self.registry.listens(names, sink)
    }

    /// Says that a subscriber is gone.
    pub(super) fn prune(&self) {
        drop(self.requests.try_send(Request::Prune));
    }

    /// Whether nobody listens.
    #[cfg(feature = "native")]
    pub(super) fn is_idle(&self) -> bool {
        self.registry.is_empty()
    }

    pub(super) fn shutdown(&self) {
        self.shutdown.cancel();
        // With their sinks the streams end.
        self.registry.clear();
    }
}

/// What an interest is called at the server.
pub(super) fn names(interest: Interest) -> Result<Vec<Name>, CallError> {
    interest.check()?;
    let (kind, all) = match interest {
        Interest::Channels(all) => (NameKind::Channel, all),
        Interest::Patterns(all) => (NameKind::Pattern, all),
        Interest::Sharded(all) => (NameKind::Sharded, all),
        Interest::Invalidations { prefixes } => (NameKind::Prefix, prefixes),
    };
    Ok(all.into_iter().map(|bytes| Name { kind, bytes }).collect())
}

/// Whether the server will accept later what it refuses now.
fn is_for_now(error: &ServerError) -> bool {
    error.is_server_state() || matches!(error.code(), "MOVED" | "ASK")
}

impl Request {
    fn is_abandoned(&self) -> bool {
        match self {
            Request::Subscribe { done, .. } => done.is_closed(),
            Request::Prune => true,
            #[cfg(feature = "native")]
            Request::Unsubscribe(_) => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Subscribe,
    Unsubscribe,
}
