//! How the `redis` crate subscribes, and where its pushed frames go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::{AsyncPushSender, SendError};
use ::redis::{PushInfo, PushKind, Value as RedisValue};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::connector::RedisConnector;
use super::convert::push_bytes;
use super::link::RedisLink;
use super::tracking::Tracking;
use crate::backend::Capabilities;
use crate::command::Command;
use crate::driver::link::{Connector, Link};
use crate::driver::sentinel::Route;
use crate::driver::server::Subscriber;
use crate::driver::subscriptions::{
    Change, Name, NameKind, PushConnector, PushLink, Registry, Subscriptions,
};
use crate::error::{CallError, Fault, FaultKind};
use crate::push::{Interest, Push, PushStream};
use crate::value::Value;

#[async_trait]
impl Subscriber for Subscriptions {
    async fn subscribe(
        &self,
        interest: Interest,
        deadline: Instant,
    ) -> Result<PushStream, CallError> {
        Subscriptions::subscribe(self, interest, deadline).await
    }

    fn shutdown(&self) {
        Subscriptions::shutdown(self);
    }
}

#[async_trait]
impl PushConnector for Route<RedisConnector> {
    type Link = PushedLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<PushedLink, Fault> {
        let strays = Arc::new(AtomicU64::new(0));
        let pushes: Arc<dyn AsyncPushSender> = Arc::new(Pushes {
            registry: Arc::clone(registry),
            strays: Arc::clone(&strays),
        });
        let link = self
            .connect_by(|server| async move { server.connect_with(Some(pushes)).await })
            .await?;
        Ok(PushedLink {
            link,
            strays,
            tracking: tokio::sync::Mutex::default(),
            registry: Arc::clone(registry),
        })
    }

    fn target(&self) -> String {
        Connector::target(self)
    }
}

/// A connection for subscriptions.
pub(super) struct PushedLink {
    link: RedisLink,
    strays: Arc<AtomicU64>,
    /// Held while the server is asked, so that what is noted here is what it was asked for last.
    tracking: tokio::sync::Mutex<Tracking>,
    registry: Arc<Registry>,
}

#[async_trait]
impl Link for PushedLink {
    async fn closed(&self) {
        self.link.closed().await;
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.link.ping().await
    }

    fn bytes_read(&self) -> u64 {
        self.link.bytes_read()
    }

    fn close(&self) {
        self.link.close();
    }

    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }
}

#[async_trait]
impl PushLink for PushedLink {
    async fn change(&self, change: Change, names: &[Name]) -> Result<(), CallError> {
        let (prefixes, channels): (Vec<&Name>, Vec<&Name>) =
            names.iter().partition(|name| name.kind == NameKind::Prefix);
        if !channels.is_empty() {
            self.change_channels(change, &channels).await?;
        }
        match prefixes.is_empty() {
            true => Ok(()),
            false => self.change_prefixes(change, &prefixes).await,
        }
    }

    async fn ask(&self, command: &Command) -> Result<Value, CallError> {
        self.link.send(command).await
    }
}

impl PushedLink {
    /// One command for each name, so that each has one confirmation.
    async fn change_channels(&self, change: Change, names: &[&Name]) -> Result<(), CallError> {
        let commands: Vec<_> = names
            .iter()
            .filter_map(|name| Some(Command::new(word(change, name.kind)?).arg(&name.bytes)))
            .collect();
        for _ in 0..TRIES {
            let strays = self.strays.load(Ordering::Acquire);
            let confirmations = self.link.send_all(&commands).await?;
            if self.strays.load(Ordering::Acquire) == strays {
                return confirmations.into_iter().try_for_each(|one| one.map(drop));
            }
            // The crate takes the end of a subscription that nobody asked for as the answer to the
            // command that is under way, so these may not be the answers to ours.
            self.catch_up().await?;
        }
        let message = "slots moved all the time while a subscription was being confirmed";
        Err(Fault::new(FaultKind::Protocol, message).maybe())
    }

    /// Waits until an answer is that to its command again. What comes while no command is under way
    /// is dropped by the crate.
    async fn catch_up(&self) -> Result<(), CallError> {
        for _ in 0..TRIES {
            let text = format!("redkit-{:032x}", rand::random::<u128>());
            match self.link.send(&Command::new("PING").arg(&text)).await {
                Ok(Value::Bulk(back)) if back == text.as_bytes() => return Ok(()),
                Ok(_) | Err(CallError::Replied(_)) => sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        let message = "replies on the connection for subscriptions stay out of step";
        Err(Fault::new(FaultKind::Protocol, message).maybe())
    }

    async fn change_prefixes(&self, change: Change, names: &[&Name]) -> Result<(), CallError> {
        let mut tracking = self.tracking.lock().await;
        let mut next = tracking.clone();
        let prefixes = names.iter().map(|name| &name.bytes);
        let step = match change {
            Change::Subscribe => next.add(prefixes),
            Change::Unsubscribe => next.remove(prefixes),
        };
        let replies = self.link.send_all(&step.commands).await?;
        if let Err(error) = all_accepted(replies) {
            if step.has_gap {
                // What it tracks now nobody knows: parts of the step may have been carried out.
                self.link.close();
                let message = format!("prefixes could not be replaced by a broader one: {error}");
                return Err(Fault::new(FaultKind::Disconnected, message).maybe());
            }
            return Err(error);
        }
        *tracking = next;
        if step.has_gap {
            self.registry.prefixes_had_a_gap();
        }
        Ok(())
    }
}

fn all_accepted(replies: Vec<Result<Value, CallError>>) -> Result<(), CallError> {
    for reply in replies {
        // Of a transaction the last reply has the others in it.
        if let Value::Array(results) = reply? {
            for result in results {
                if let Value::Error(error) = result {
                    return Err(CallError::Replied(error));
                }
            }
        }
    }
    Ok(())
}

/// How often a confirmation is asked for anew, and how soon, while slots move.
const TRIES: usize = 16;
const PAUSE: Duration = Duration::from_millis(2);

/// The command that changes a subscription to what is published.
fn word(change: Change, kind: NameKind) -> Option<&'static str> {
    Some(match (change, kind) {
        (Change::Subscribe, NameKind::Channel) => "SUBSCRIBE",
        (Change::Subscribe, NameKind::Pattern) => "PSUBSCRIBE",
        (Change::Subscribe, NameKind::Sharded) => "SSUBSCRIBE",
        (Change::Unsubscribe, NameKind::Channel) => "UNSUBSCRIBE",
        (Change::Unsubscribe, NameKind::Pattern) => "PUNSUBSCRIBE",
        (Change::Unsubscribe, NameKind::Sharded) => "SUNSUBSCRIBE",
        (_, NameKind::Prefix) => return None,
    })
}

/// Where a connection's pushed frames go.
struct Pushes {
    registry: Arc<Registry>,
    /// How many subscriptions the server ended that somebody still listens to: the slot of a
    /// sharded channel has moved to another node.
    strays: Arc<AtomicU64>,
}

impl AsyncPushSender for Pushes {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        if push.kind == PushKind::Invalidate {
            self.invalidate(push.data);
            return Ok(());
        }
        let mut items = push.data.into_iter().map(push_bytes);
        let mut next = || items.next().unwrap_or_default();
        let (kind, pattern) = match push.kind {
            PushKind::Message => (NameKind::Channel, None),
            PushKind::SMessage => (NameKind::Sharded, None),
            PushKind::PMessage => (NameKind::Pattern, Some(next())),
            PushKind::SUnsubscribe => {
                let name = Name {
                    kind: NameKind::Sharded,
                    bytes: next(),
                };
                // When nobody listens we ended it ourselves.
                if self.registry.lose(&name) {
                    self.strays.fetch_add(1, Ordering::AcqRel);
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let (channel, payload) = (next(), next());
        let name = Name {
            kind,
            bytes: pattern.clone().unwrap_or_else(|| channel.clone()),
        };
        self.registry.deliver(
            &name,
            &Push::Message {
                channel,
                pattern,
                payload,
            },
        );
        Ok(())
    }
}

impl Pushes {
    /// No list of keys stands for all of them: somebody emptied a database.
    fn invalidate(&self, data: Vec<RedisValue>) {
        match data.into_iter().next() {
            Some(RedisValue::Array(keys)) => {
                let keys: Vec<Bytes> = keys.into_iter().map(push_bytes).collect();
                self.registry.invalidate(Some(&keys));
            }
            _ => self.registry.invalidate(None),
        }
    }
}
