//! Subscriptions, whatever the driver: a connection of their own, made when somebody subscribes,
//! and made anew, with everything subscribed again, when it breaks. Subscribers are told of the
//! gap.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::supervisor::{Link, Timing, is_worth_a_line};
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::push::{GapReason, Interest, Push, PushSink, PushStream, push_channel};

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
}

/// A connection for subscriptions.
#[async_trait]
pub(super) trait PushLink: Link {
    /// Subscribes or unsubscribes, and returns when the server has confirmed it for every name.
    /// The caller bounds the wait. [`CallError::Replied`] leaves the connection usable.
    async fn change(&self, change: Change, names: &[Name]) -> Result<(), CallError>;
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
}

impl Subscriptions {
    pub(super) fn start(connector: impl PushConnector, timing: Timing) -> Self {
        let (requests, incoming) = mpsc::channel(WAITING);
        let shutdown = CancellationToken::new();
        let registry = Arc::new(Registry::default());
        let task = Task {
            connector,
            timing,
            registry: Arc::clone(&registry),
            incoming,
        };
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = task.run() => {}
                () = stop.cancelled() => {}
            }
        });
        Self {
            registry,
            requests,
            shutdown,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Subscribes, and waits until the server has confirmed it, but not beyond `deadline`.
    #[cfg_attr(
        not(feature = "redis"),
        expect(dead_code, reason = "fred spreads names over several of these")
    )]
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

    /// Says that a subscriber is gone.
    #[cfg(feature = "fred")]
    pub(super) fn prune(&self) {
        drop(self.requests.try_send(Request::Prune));
    }

    /// Whether nobody listens.
    #[cfg(feature = "redis")]
    pub(super) fn is_idle(&self) -> bool {
        self.registry.is_empty()
    }

    pub(super) fn shutdown(&self) {
        self.shutdown.cancel();
        // With their sinks the streams end.
        self.registry.clear();
    }
}

pub(super) fn names(interest: Interest) -> Result<Vec<Name>, CallError> {
    interest.check()?;
    let (kind, all) = match interest {
        Interest::Channels(all) => (NameKind::Channel, all),
        Interest::Patterns(all) => (NameKind::Pattern, all),
        Interest::Sharded(all) => (NameKind::Sharded, all),
        Interest::Invalidations { .. } => {
            let message = "this driver does not track keys yet";
            return Err(Fault::new(FaultKind::Invalid, message).not_sent());
        }
    };
    Ok(all.into_iter().map(|bytes| Name { kind, bytes }).collect())
}

/// Who listens to what. The connection's read side looks here for every message.
#[derive(Default)]
pub(super) struct Registry {
    listeners: Mutex<HashMap<Name, Vec<PushSink>>>,
}

impl Registry {
    fn add(&self, names: &[Name], sink: &PushSink) {
        let mut listeners = self.listeners.lock();
        for name in names {
            listeners
                .entry(name.clone())
                .or_default()
                .push(sink.clone());
        }
    }

    /// Forgets listeners that are gone; gives the names that nobody listens to any more.
    fn prune(&self) -> Vec<Name> {
        let mut abandoned = Vec::new();
        self.listeners.lock().retain(|name, sinks| {
            sinks.retain(|sink| !sink.is_closed());
            if sinks.is_empty() {
                abandoned.push(name.clone());
            }
            !sinks.is_empty()
        });
        abandoned
    }

    /// Takes a listener off every name.
    fn detach(&self, sink: &PushSink) {
        self.listeners.lock().retain(|_, sinks| {
            sinks.retain(|one| !one.same_queue(sink));
            !sinks.is_empty()
        });
    }

    fn clear(&self) {
        self.listeners.lock().clear();
    }

    /// Takes all listeners off a name.
    fn forget(&self, name: &Name) {
        self.listeners.lock().remove(name);
    }

    fn is_empty(&self) -> bool {
        self.listeners.lock().is_empty()
    }

    fn names(&self) -> Vec<Name> {
        self.listeners.lock().keys().cloned().collect()
    }

    /// Whether anybody listens to `name`.
    pub(super) fn has(&self, name: &Name) -> bool {
        self.listeners.lock().contains_key(name)
    }

    /// Tells every listener, once, that it may have missed something.
    pub(super) fn announce(&self, reason: GapReason) {
        let listeners = self.listeners.lock();
        // A listener to many names stands here many times; saying it again does no harm, but
        // costs room in its queue.
        let mut told: Vec<&PushSink> = Vec::new();
        for sink in listeners.values().flatten() {
            if !told.iter().any(|known| known.same_queue(sink)) {
                sink.send(Push::Gap(reason));
                told.push(sink);
            }
        }
    }

    /// Gives `message` to who listens to `name`.
    pub(super) fn deliver(&self, name: &Name, message: &Push) {
        if let Some(sinks) = self.listeners.lock().get(name) {
            for sink in sinks {
                sink.send(message.clone());
            }
        }
    }
}

struct Task<C> {
    connector: C,
    timing: Timing,
    registry: Arc<Registry>,
    incoming: mpsc::Receiver<Request>,
}

impl<C: PushConnector> Task<C> {
    async fn run(mut self) {
        // A request taken from the queue while there was no connection.
        let mut first = None;
        let mut lost = false;
        loop {
            if self.registry.is_empty() && first.is_none() {
                lost = false;
                match self.incoming.recv().await {
                    Some(request) => first = Some(request),
                    None => return,
                }
            }
            let Some(link) = self.connect(&mut first).await else {
                continue;
            };
            if lost && self.resubscribe(&link).await.is_err() {
                // The connection was made at once, so this is what paces the next try.
                sleep(self.timing.reconnect.max_delay).await;
                continue;
            }
            lost = self.serve(&link, first.take()).await;
        }
    }

    /// Connects, again and again while somebody wants it.
    async fn connect(&self, first: &mut Option<Request>) -> Option<C::Link> {
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(self.timing.reconnect.min_delay)
            .with_max_delay(self.timing.reconnect.max_delay)
            .with_jitter()
            .without_max_times()
            .build();
        for attempt in 1_u32.. {
            let connecting = self.connector.connect(&self.registry);
            let fault = match timeout(self.timing.connect_timeout, connecting).await {
                Ok(Ok(link)) => return Some(link),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::new(FaultKind::Connect, "no connection within `connect_timeout`"),
            };
            if is_worth_a_line(attempt) {
                tracing::warn!(
                    target: "redkit::connection",
                    attempt, error = %fault, "no connection for subscriptions"
                );
            }
            if first.as_ref().is_some_and(Request::is_abandoned) {
                *first = None;
            }
            self.registry.prune();
            if self.registry.is_empty() && first.is_none() {
                return None;
            }
            let pause = delays.next().unwrap_or(self.timing.reconnect.max_delay);
            sleep(pause.min(self.timing.reconnect.max_delay)).await;
        }
        None
    }

    async fn resubscribe(&self, link: &C::Link) -> Result<(), CallError> {
        self.registry.prune();
        let names = self.registry.names();
        if let Err(error) = self.change(link, Change::Subscribe, &names).await {
            let CallError::Replied(_) = error else {
                return Err(error);
            };
            // One name that is refused must not keep the others waiting.
            for name in &names {
                self.resubscribe_one(link, name).await?;
            }
        }
        // Only now: who reads the state again because of the gap misses nothing after it.
        self.registry.announce(GapReason::Reconnected);
        Ok(())
    }

    /// Ends the streams that listen to a name which the server refuses for good.
    async fn resubscribe_one(&self, link: &C::Link, name: &Name) -> Result<(), CallError> {
        match self
            .change(link, Change::Subscribe, std::slice::from_ref(name))
            .await
        {
            Err(CallError::Replied(error)) if !is_for_now(&error) => {
                tracing::warn!(target: "redkit::connection", %error, "a subscription is refused");
                self.registry.forget(name);
                Ok(())
            }
            other => other,
        }
    }

    /// Serves requests until the connection breaks (`true`) or is not needed any more.
    async fn serve(&mut self, link: &C::Link, first: Option<Request>) -> bool {
        let mut next = first;
        let mut read_before = link.bytes_read();
        loop {
            if let Some(request) = next.take()
                && self.handle(link, request).await.is_err()
            {
                return true;
            }
            if self.registry.is_empty() && self.incoming.is_empty() {
                return false;
            }
            tokio::select! {
                () = link.closed() => return true,
                request = self.incoming.recv() => match request {
                    Some(request) => next = Some(request),
                    None => return false,
                },
                () = sleep(self.timing.probe_interval) => {
                    let silent = link.bytes_read() == read_before;
                    let answered = timeout(self.timing.probe_timeout, link.ping());
                    if silent && !matches!(answered.await, Ok(Ok(()))) {
                        return true;
                    }
                    read_before = link.bytes_read();
                    // Whose message to prune did not fit into the queue is noticed here.
                    next = Some(Request::Prune);
                }
            }
        }
    }

    /// The error means that the connection is of no more use.
    async fn handle(&self, link: &C::Link, request: Request) -> Result<(), CallError> {
        match request {
            Request::Prune => {
                let abandoned = self.registry.prune();
                self.change(link, Change::Unsubscribe, &abandoned).await
            }
            Request::Subscribe { done, .. } if done.is_closed() => Ok(()),
            Request::Subscribe { names, sink, done } => {
                let new: Vec<_> = names
                    .iter()
                    .filter(|n| !self.registry.has(n))
                    .cloned()
                    .collect();
                // Before the server knows: its first message may follow its confirmation at once.
                self.registry.add(&names, &sink);
                let outcome = self.change(link, Change::Subscribe, &new).await;
                let broken = match &outcome {
                    Err(CallError::Replied(_)) | Ok(()) => Ok(()),
                    Err(error) => Err(error.clone()),
                };
                // When nobody waits any more the stream is gone, and is pruned like any other.
                let failed = outcome.is_err();
                if failed {
                    // Before anybody else asks for the same name and finds it here.
                    self.registry.detach(&sink);
                }
                drop(done.send(outcome));
                if failed && broken.is_ok() {
                    // Some of the names may have been accepted before the one that was not.
                    let unheard: Vec<_> = new
                        .into_iter()
                        .filter(|name| !self.registry.has(name))
                        .collect();
                    self.change(link, Change::Unsubscribe, &unheard).await?;
                }
                broken
            }
        }
    }

    async fn change(
        &self,
        link: &C::Link,
        change: Change,
        names: &[Name],
    ) -> Result<(), CallError> {
        if names.is_empty() {
            return Ok(());
        }
        match timeout(self.timing.connect_timeout, link.change(change, names)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let message = "the server did not confirm a subscription in time";
                Err(Fault::new(FaultKind::Timeout, message).maybe())
            }
        }
    }
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
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Subscribe,
    Unsubscribe,
}

impl Change {
    /// The command's name.
    #[cfg(feature = "redis")]
    pub(super) fn command(self, kind: NameKind) -> &'static str {
        match (self, kind) {
            (Change::Subscribe, NameKind::Channel) => "SUBSCRIBE",
            (Change::Subscribe, NameKind::Pattern) => "PSUBSCRIBE",
            (Change::Subscribe, NameKind::Sharded) => "SSUBSCRIBE",
            (Change::Unsubscribe, NameKind::Channel) => "UNSUBSCRIBE",
            (Change::Unsubscribe, NameKind::Pattern) => "PUNSUBSCRIBE",
            (Change::Unsubscribe, NameKind::Sharded) => "SUNSUBSCRIBE",
        }
    }
}
