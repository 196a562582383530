//! [`Task`]: keeps the connection, and the server's knowledge of who listens to what, up to date.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Change, Name, PushConnector, PushLink, Registry, Request, is_for_now};
use crate::driver::link::{Link, Timing};
use crate::driver::supervisor::is_worth_a_line;
use crate::error::{CallError, Fault, FaultKind, ServerError};

/// How soon a name is asked for again that the server cannot take now.
const NOT_NOW: Duration = Duration::from_millis(100);

pub(super) struct Task<C> {
    connector: C,
    timing: Timing,
    registry: Arc<Registry>,
    incoming: mpsc::Receiver<Request>,
}

impl<C: PushConnector> Task<C> {
    pub(super) fn new(
        connector: C,
        timing: Timing,
        registry: Arc<Registry>,
        incoming: mpsc::Receiver<Request>,
    ) -> Self {
        Self {
            connector,
            timing,
            registry,
            incoming,
        }
    }

    pub(super) async fn run(mut self) {
        // A request taken from the queue while there was no connection.
        let mut first = None;
        let mut pause = Duration::ZERO;
        loop {
            while self.registry.is_empty() && first.is_none() {
                tokio::select! {
                    request = self.incoming.recv() => match request {
                        Some(request) => first = Some(request),
                        None => return,
                    },
                    () = self.registry.something_lost() => {}
                }
            }
            let Some(link) = self.connect(&mut first).await else {
                continue;
            };
            let connected = Instant::now();
            if self.settle(&link).await.is_ok() {
                self.serve(&link, first.take()).await;
            }
            link.close();
            self.registry.lose_all();
            // A connection that is made at once, and breaks at once, is paced by this only.
            let reconnect = &self.timing.reconnect;
            pause = match connected.elapsed() < reconnect.max_delay && !self.registry.is_empty() {
                true => (pause * 2).clamp(
                    reconnect.min_delay.min(reconnect.max_delay),
                    reconnect.max_delay,
                ),
                false => Duration::ZERO,
            };
            sleep(pause).await;
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
            if first.as_ref().is_some_and(Request::is_abandoned) {
                *first = None;
            }
            self.registry.prune();
            if self.registry.is_empty() && first.is_none() {
                return None;
            }
            let connecting = self.connector.connect(&self.registry);
            let fault = match timeout(self.timing.connect_timeout, connecting).await {
                Ok(Ok(link)) => return Some(link),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::new(FaultKind::Connect, "no connection within `connect_timeout`"),
            };
            if is_worth_a_line(attempt) {
                tracing::warn!(
                    target: "redkit::connection",
                    server = %self.connector.target(), attempt, error = %fault,
                    "no connection for subscriptions"
                );
            }
            let pause = delays.next().unwrap_or(self.timing.reconnect.max_delay);
            sleep(pause.min(self.timing.reconnect.max_delay)).await;
        }
        None
    }

    /// Subscribes what the server does not know any more, and tells those who listen. What it cannot
    /// take now stays lost. The error means that the connection is of no more use.
    async fn settle(&self, link: &C::Link) -> Result<(), CallError> {
        let lost = self.registry.lost();
        if lost.is_empty() {
            return Ok(());
        }
        let asked = self.registry.now();
        let mut standing = Vec::new();
        match self.change(link, Change::Subscribe, &lost).await {
            Ok(()) => standing = lost,
            Err(CallError::Replied(error)) if lost.len() == 1 => {
                for name in &lost {
                    self.refused(link, name, &error).await?;
                }
            }
            // One name that is refused must not keep the others waiting.
            Err(CallError::Replied(_)) => {
                for name in lost {
                    // Its last stream may have ended with another name.
                    if self.registry.has(&name) && self.settle_one(link, &name).await? {
                        standing.push(name);
                    }
                }
            }
            Err(error) => return Err(error),
        }
        // Only now: who reads the state again because of the gap misses nothing after it.
        self.registry.confirm(&standing, asked);
        Ok(())
    }

    /// Whether it stands.
    async fn settle_one(&self, link: &C::Link, name: &Name) -> Result<bool, CallError> {
        match self
            .change(link, Change::Subscribe, std::slice::from_ref(name))
            .await
        {
            Ok(()) => Ok(true),
            Err(CallError::Replied(error)) => {
                self.refused(link, name, &error).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The server does not take a name that stood: not now, or never, which ends the streams that listen to it.
    async fn refused(
        &self,
        link: &C::Link,
        name: &Name,
        error: &ServerError,
    ) -> Result<(), CallError> {
        if is_for_now(error) {
            self.connector.is_elsewhere(error);
            return Ok(());
        }
        tracing::warn!(target: "redkit::connection", %error, "a subscription is refused");
        self.registry.end(name);
        let abandoned = self.registry.prune();
        self.unsubscribe(link, abandoned).await
    }

    /// Serves requests until the connection breaks or is not needed any more.
    async fn serve(&mut self, link: &C::Link, first: Option<Request>) {
        let mut next = first;
        let mut next_prune = Instant::now() + self.timing.probe_interval;
        // When what was refused is asked for again, however many requests come until then.
        let mut again: Option<Instant> = None;
        loop {
            if let Some(request) = next.take()
                && self.handle(link, request).await.is_err()
            {
                return;
            }
            if self.registry.is_empty() && self.incoming.is_empty() {
                return;
            }
            again = match self.registry.lost().is_empty() {
                true => None,
                false => again.or(Some(Instant::now() + NOT_NOW)),
            };
            tokio::select! {
                () = link.closed() => return,
                request = self.incoming.recv() => match request {
                    Some(request) => next = Some(request),
                    None => return,
                },
                () = self.registry.something_lost() => {
                    if self.settle(link).await.is_err() {
                        return;
                    }
                    again = None;
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    if self.settle(link).await.is_err() {
                        return;
                    }
                    again = None;
                }
                () = sleep_until(link.activity().last_sign() + self.timing.probe_interval) => {
                    // Bytes may have come meanwhile.
                    if link.activity().last_sign().elapsed() < self.timing.probe_interval {
                        continue;
                    }
                    if !self.answers(link).await {
                        return;
                    }
                    next = Some(Request::Prune);
                }
                () = sleep_until(next_prune) => {
                    // A message to prune that did not fit into the queue is made up for here.
                    next_prune = Instant::now() + self.timing.probe_interval;
                    next = Some(Request::Prune);
                }
            }
        }
    }

    /// Returns when a connection no longer answers. It is asked when it has been silent for the probe interval.
    async fn falls_silent(&self, link: &C::Link) {
        let mut asked = link.activity().last_sign();
        loop {
            let due = link.activity().last_sign().max(asked) + self.timing.probe_interval;
            if due > Instant::now() {
                sleep_until(due).await;
            } else if self.answers(link).await {
                asked = Instant::now();
            } else {
                return;
            }
        }
    }

    /// Whether a connection that has been silent gives a sign of life when it is asked for one: any
    /// byte is, for the answer may stand behind many messages.
    async fn answers(&self, link: &C::Link) -> bool {
        let activity = link.activity();
        let seen = activity.signs();
        let answered = async {
            tokio::select! {
                answer = link.ping() => answer.is_ok(),
                () = activity.sign_after(seen) => true,
            }
        };
        let limit = self.timing.probe_timeout;
        timeout(limit, answered).await.unwrap_or(false)
    }

    /// The error means that the connection is of no more use.
    async fn handle(&self, link: &C::Link, request: Request) -> Result<(), CallError> {
        let (names, sink, done) = match request {
            Request::Prune => {
                let abandoned = self.registry.prune();
                return self.unsubscribe(link, abandoned).await;
            }
            #[cfg(feature = "native")]
            Request::Unsubscribe(names) => return self.unsubscribe(link, names).await,
            Request::Subscribe { done, .. } if done.is_closed() => return Ok(()),
            Request::Subscribe { names, sink, done } => (names, sink, done),
        };
        // Before the server knows: its first message may follow its confirmation at once.
        let asked = self.registry.now();
        let new = self.registry.add(&names, &sink);
        let outcome = self.change(link, Change::Subscribe, &new).await;
        match &outcome {
            Ok(()) => self.registry.confirm(&new, asked),
            // Before anybody else asks for the same name and finds it here.
            Err(_) => self.registry.detach(&names, &sink),
        }
        // When nobody waits any more the stream is gone, and is pruned like any other.
        drop(done.send(outcome.clone()));
        match outcome {
            Ok(()) => Ok(()),
            // Some of the names may have been accepted before the one that was not.
            Err(CallError::Replied(_)) => self.unsubscribe(link, new).await,
            Err(error) => Err(error),
        }
    }

    /// Unsubscribes what nobody listens to. A refusal does no harm: the server sends what goes
    /// nowhere, or has ended it by itself.
    async fn unsubscribe(&self, link: &C::Link, names: Vec<Name>) -> Result<(), CallError> {
        let unheard: Vec<_> = names
            .into_iter()
            .filter(|name| !self.registry.has(name))
            .collect();
        match self.change(link, Change::Unsubscribe, &unheard).await {
            Err(CallError::Replied(error)) => {
                tracing::debug!(target: "redkit::connection", %error, "not unsubscribed");
                Ok(())
            }
            other => other,
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
        let changed = timeout(self.timing.connect_timeout, link.change(change, names));
        let (kind, message) = tokio::select! {
            biased;
            outcome = changed => match outcome {
                Ok(outcome) => return outcome,
                Err(_) => (
                    FaultKind::Timeout,
                    "the server did not confirm a subscription in time",
                ),
            },
            // Subscribers that stand must not wait for the answer to another.
            () = self.falls_silent(link) => (
                FaultKind::Disconnected,
                "the connection for subscriptions no longer answers",
            ),
        };
        Err(Fault::new(kind, message).maybe())
    }
}

#[cfg(all(test, feature = "native"))]
mod tests;
