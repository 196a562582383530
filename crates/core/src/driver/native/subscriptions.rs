//! How a connection of our own subscribes, and where its pushed frames go.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::connection::{Pushes, bytes_of};
use super::connector::NativeConnector;
use super::exchanges::Confirm;
use super::link::NativeLink;
use super::tracking::Tracking;
use crate::backend::Capabilities;
use crate::command::Command;
use crate::driver::activity::Activity;
use crate::driver::link::{CommandLink, Connector, Link};
use crate::driver::sentinel::Route;
use crate::driver::server::Subscriber;
use crate::driver::subscriptions::{
    Change, Name, NameKind, PushConnector, PushLink, Registry, Subscriptions,
};
use crate::error::{CallError, Fault, FaultKind, ServerError};
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
impl PushConnector for Route<NativeConnector> {
    type Link = PushedLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<PushedLink, Fault> {
        let deliver = Box::new(Deliver {
            registry: Arc::clone(registry),
        });
        let link = self
            .connect_by(|server| async move { server.connect_with(deliver).await })
            .await?;
        Ok(PushedLink {
            link,
            tracking: tokio::sync::Mutex::default(),
            registry: Arc::clone(registry),
        })
    }

    fn target(&self) -> String {
        Connector::target(self)
    }
}

/// A connection for subscriptions.
pub(in crate::driver) struct PushedLink {
    link: NativeLink,
    /// Held while the server is asked, so that what is noted here is what it was asked for last.
    tracking: tokio::sync::Mutex<Tracking>,
    registry: Arc<Registry>,
}

#[async_trait]
impl Link for PushedLink {
    async fn closed(&self) {
        self.link.closed().await;
    }

    async fn ping(&self) -> Result<Option<ServerError>, Fault> {
        self.link.ping().await
    }

    fn activity(&self) -> &Activity {
        self.link.activity()
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
    /// Ends the connection when `over` does.
    pub(in crate::driver) fn end_when(&mut self, over: impl Future<Output = ()> + Send + 'static) {
        let closer = self.link.closer();
        self.link.keep(async move {
            tokio::select! {
                () = over => closer.cancel(),
                () = closer.cancelled() => {}
            }
        });
    }

    /// One command for each name, so that each has one confirmation, or one refusal.
    async fn change_channels(&self, change: Change, names: &[&Name]) -> Result<(), CallError> {
        let mut commands = Vec::with_capacity(names.len());
        let mut confirms = Vec::with_capacity(names.len());
        for name in names {
            let Some((word, kind)) = words(change, name.kind) else {
                continue;
            };
            commands.push(Command::new(word).arg(&name.bytes));
            confirms.push(Confirm {
                kind,
                name: name.bytes.clone(),
            });
        }
        if change == Change::Unsubscribe && names.iter().any(|name| name.kind == NameKind::Sharded)
        {
            commands.push(Command::new("PING"));
            confirms.push(Confirm::settled());
        }
        let replies = self.link.send_confirmed(&commands, confirms).await?;
        replies.into_iter().try_for_each(|reply| reply.map(drop))
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

/// The command that changes a subscription to what is published, and the frame that confirms it.
fn words(change: Change, kind: NameKind) -> Option<(&'static str, &'static str)> {
    Some(match (change, kind) {
        (Change::Subscribe, NameKind::Channel) => ("SUBSCRIBE", "subscribe"),
        (Change::Subscribe, NameKind::Pattern) => ("PSUBSCRIBE", "psubscribe"),
        (Change::Subscribe, NameKind::Sharded) => ("SSUBSCRIBE", "ssubscribe"),
        (Change::Unsubscribe, NameKind::Channel) => ("UNSUBSCRIBE", "unsubscribe"),
        (Change::Unsubscribe, NameKind::Pattern) => ("PUNSUBSCRIBE", "punsubscribe"),
        (Change::Unsubscribe, NameKind::Sharded) => ("SUNSUBSCRIBE", "sunsubscribe"),
        (_, NameKind::Prefix) => return None,
    })
}

/// Gives a connection's pushed frames to who listens.
struct Deliver {
    registry: Arc<Registry>,
}

impl Pushes for Deliver {
    fn push(&mut self, kind: &[u8], rest: &[Value]) {
        match (kind, rest) {
            // No list of keys stands for all of them: somebody emptied a database.
            (b"invalidate", [Value::Array(keys), ..]) => {
                let keys: Vec<Bytes> = keys.iter().map(bytes).collect();
                self.registry.invalidate(Some(&keys));
            }
            (b"invalidate", _) => self.registry.invalidate(None),
            (b"message", [channel, payload, ..]) => {
                self.deliver(NameKind::Channel, None, channel, payload);
            }
            (b"smessage", [channel, payload, ..]) => {
                self.deliver(NameKind::Sharded, None, channel, payload);
            }
            (b"pmessage", [pattern, channel, payload, ..]) => {
                self.deliver(NameKind::Pattern, Some(pattern), channel, payload);
            }
            // The slot of a sharded channel has moved to another node. When nobody listens we ended
            // it ourselves.
            (b"sunsubscribe", [channel, ..]) => {
                self.registry.lose(&Name {
                    kind: NameKind::Sharded,
                    bytes: bytes(channel),
                });
            }
            _ => {}
        }
    }
}

impl Deliver {
    fn deliver(&self, kind: NameKind, pattern: Option<&Value>, channel: &Value, payload: &Value) {
        let (channel, pattern) = (bytes(channel), pattern.map(bytes));
        let name = Name {
            kind,
            bytes: pattern.clone().unwrap_or_else(|| channel.clone()),
        };
        self.registry.deliver(
            &name,
            &Push::Message {
                channel,
                pattern,
                payload: bytes(payload),
            },
        );
    }
}

/// The name of a channel or its payload.
fn bytes(value: &Value) -> Bytes {
    match value {
        Value::Bulk(bytes) => bytes.clone(),
        other => Bytes::copy_from_slice(bytes_of(other)),
    }
}
