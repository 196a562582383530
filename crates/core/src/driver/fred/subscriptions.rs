//! Subscriptions through fred, which says of a message neither the pattern that matched nor, for
//! notifications about keys, the channel. So channels share one connection, and each pattern and
//! each channel of notifications has one of its own: what comes there is for that name.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use ::fred::clients::Client;
use ::fred::interfaces::{EventInterface, PubsubInterface};
use ::fred::types::{KeyspaceEvent, Message, MessageKind, Value as FredValue};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::link::{FredConnector, FredLink};
use super::settings::Use;
use crate::backend::Capabilities;
use crate::command::Command;
use crate::driver::subscriptions::{
    Change, Name, NameKind, PushConnector, PushLink, QUEUE, Registry, Subscriptions, names,
};
use crate::driver::supervisor::{Link, Timing};
use crate::error::{CallError, Fault, FaultKind};
use crate::push::{GapReason, Interest, Push, PushStream, push_channel};
use crate::value::Value;

/// The connections for subscriptions. Dropping it ends every subscription that nobody reads.
pub(super) struct Lanes {
    connector: FredConnector,
    timing: Timing,
    /// `None` after shutdown. A lane lives as long as somebody reads what comes on it.
    lanes: Mutex<Option<HashMap<Lane, Weak<Subscriptions>>>>,
}

/// Which connection a name is subscribed on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lane {
    Channels,
    Alone(Name),
}

impl Lanes {
    pub(super) fn new(connector: FredConnector, timing: Timing) -> Self {
        Self {
            connector,
            timing,
            lanes: Mutex::new(Some(HashMap::new())),
        }
    }

    /// Subscribes, and waits until the server has confirmed it, but not beyond `deadline`.
    pub(super) async fn subscribe(
        &self,
        interest: Interest,
        deadline: Instant,
    ) -> Result<PushStream, CallError> {
        let mut by_lane: HashMap<Lane, Vec<Name>> = HashMap::new();
        for name in names(interest)? {
            if std::str::from_utf8(&name.bytes).is_err() {
                let message = "the `fred` driver carries only names of channels that are UTF-8; \
                               use the `redis` driver for others";
                return Err(Fault::new(FaultKind::Unsupported, message).not_sent());
            }
            by_lane.entry(Lane::of(&name)).or_default().push(name);
        }
        let mut used = Vec::with_capacity(by_lane.len());
        for (lane, names) in by_lane {
            used.push((self.lane(lane)?, names));
        }
        let (sink, stream) = push_channel(QUEUE);
        let held: Vec<_> = used.iter().map(|(lane, _)| Arc::clone(lane)).collect();
        let stream = stream.on_drop(move || held.iter().for_each(|lane| lane.prune()));
        let attached = used.iter().map(|(lane, names)| {
            let (names, sink) = (names.clone(), sink.clone());
            lane.attach(names, sink, deadline)
        });
        futures_util::future::try_join_all(attached).await?;
        Ok(stream)
    }

    pub(super) fn shutdown(&self) {
        let lanes = self.lanes.lock().take();
        for lane in lanes.iter().flat_map(HashMap::values) {
            if let Some(lane) = lane.upgrade() {
                lane.shutdown();
            }
        }
    }

    fn lane(&self, lane: Lane) -> Result<Arc<Subscriptions>, CallError> {
        let mut lanes = self.lanes.lock();
        let Some(lanes) = &mut *lanes else {
            return Err(Fault::new(FaultKind::Shutdown, "the client was shut down").not_sent());
        };
        lanes.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = lanes.get(&lane).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let connector = LaneConnector {
            connector: self.connector.clone(),
            lane: lane.clone(),
        };
        let made = Arc::new(Subscriptions::start(connector, self.timing));
        lanes.insert(lane, Arc::downgrade(&made));
        Ok(made)
    }
}

impl Lane {
    fn of(name: &Name) -> Self {
        let is_notification = name.bytes.starts_with(b"__key");
        match name.kind {
            NameKind::Channel if is_notification => Lane::Alone(name.clone()),
            NameKind::Pattern => Lane::Alone(name.clone()),
            NameKind::Channel | NameKind::Sharded => Lane::Channels,
        }
    }
}

struct LaneConnector {
    connector: FredConnector,
    lane: Lane,
}

#[async_trait]
impl PushConnector for LaneConnector {
    type Link = LaneLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<LaneLink, Fault> {
        let use_of = match self.lane {
            Lane::Channels => Use::ManyNames,
            Lane::Alone(_) => Use::OneName,
        };
        let link = self.connector.connect_for(use_of).await?;
        let route = Route {
            registry: Arc::clone(registry),
            lane: self.lane.clone(),
        };
        let pump = AbortOnDropHandle::new(tokio::spawn(route.deliver(link.client().clone())));
        Ok(LaneLink { link, _pump: pump })
    }
}

/// A connection for subscriptions, and the task that takes from fred what came on it.
struct LaneLink {
    link: FredLink,
    _pump: AbortOnDropHandle<()>,
}

#[async_trait]
impl Link for LaneLink {
    fn close(&self) {
        self.link.close();
    }

    async fn closed(&self) {
        self.link.closed().await;
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.link.ping().await
    }

    fn bytes_read(&self) -> u64 {
        self.link.bytes_read()
    }

    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }
}

#[async_trait]
impl PushLink for LaneLink {
    async fn change(&self, change: Change, names: &[Name]) -> Result<(), CallError> {
        for kind in [NameKind::Channel, NameKind::Pattern, NameKind::Sharded] {
            let of_kind: Vec<&str> = names
                .iter()
                .filter(|name| name.kind == kind)
                .filter_map(|name| std::str::from_utf8(&name.bytes).ok())
                .collect();
            for some in of_kind.chunks(AT_ONCE) {
                self.change_some(change, kind, some).await?;
            }
        }
        Ok(())
    }
}

impl LaneLink {
    /// fred does not wait for a confirmation of most of these commands, and an error of theirs goes
    /// to the next command. So an `ECHO` follows: its text is the confirmation.
    async fn change_some(
        &self,
        change: Change,
        kind: NameKind,
        names: &[&str],
    ) -> Result<(), CallError> {
        let client = self.link.client();
        let all = || names.to_vec();
        let sent = match (change, kind) {
            (Change::Subscribe, NameKind::Channel) => client.subscribe(all()).await,
            (Change::Subscribe, NameKind::Pattern) => client.psubscribe(all()).await,
            (Change::Unsubscribe, NameKind::Channel) => client.unsubscribe(all()).await,
            (Change::Unsubscribe, NameKind::Pattern) => client.punsubscribe(all()).await,
            (Change::Unsubscribe, NameKind::Sharded) => client.sunsubscribe(all()).await,
            // Of this one fred waits for the confirmation: exactly one, so one name each.
            (Change::Subscribe, NameKind::Sharded) => {
                for name in names {
                    let outcome = client.ssubscribe(vec![*name]).await;
                    outcome.map_err(super::convert::to_typed_error)?;
                }
                return Ok(());
            }
        };
        sent.map_err(super::convert::to_typed_error)?;
        match self.echo().await? {
            Echo::Own => Ok(()),
            Echo::Refused(error) => {
                self.catch_up().await?;
                Err(error)
            }
            Echo::Stale => self.catch_up().await,
        }
    }

    async fn echo(&self) -> Result<Echo, CallError> {
        let text = format!("redkit-{:032x}", rand::random::<u128>());
        let deadline = Instant::now();
        let echo = Command::new("ECHO").arg(&text);
        match self.link.send(&echo, deadline).await {
            Ok(Value::Bulk(back)) if back == text.as_bytes() => Ok(Echo::Own),
            Ok(_) => Ok(Echo::Stale),
            Err(error @ CallError::Replied(_)) => Ok(Echo::Refused(error)),
            Err(error) => Err(error),
        }
    }

    /// After an error of a command that fred does not count, replies come one too early. Those that
    /// find nobody waiting are dropped by fred, so a pause puts it right.
    async fn catch_up(&self) -> Result<(), CallError> {
        for _ in 0..CATCH_UP_TRIES {
            sleep(CATCH_UP_PAUSE).await;
            if matches!(self.echo().await?, Echo::Own) {
                return Ok(());
            }
        }
        let message = "replies on the connection for subscriptions stay out of step";
        Err(Fault::new(FaultKind::Protocol, message).maybe())
    }
}

enum Echo {
    Own,
    Stale,
    Refused(CallError),
}

/// How many names one command carries.
const AT_ONCE: usize = 256;

const CATCH_UP_TRIES: usize = 5;
const CATCH_UP_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// From fred's queues to those who listen.
struct Route {
    registry: Arc<Registry>,
    lane: Lane,
}

impl Route {
    async fn deliver(self, client: Client) {
        let mut messages: Receiver<Message> = client.message_rx();
        let mut notifications: Receiver<KeyspaceEvent> = client.keyspace_event_rx();
        // What a client holds would keep the queues open, and this task with them.
        drop(client);
        loop {
            let outcome = tokio::select! {
                message = messages.recv() => message.map(|message| self.message(message)),
                event = notifications.recv() => event.map(|event| self.notification(&event)),
            };
            match outcome {
                Ok(()) => {}
                Err(RecvError::Lagged(count)) => self.registry.announce(GapReason::Lagged(count)),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn message(&self, message: Message) {
        let channel = message.channel.into_inner();
        let name = match (&self.lane, message.kind) {
            (Lane::Alone(name), _) => name.clone(),
            (Lane::Channels, kind) => Name {
                kind: match kind {
                    MessageKind::SMessage => NameKind::Sharded,
                    _ => NameKind::Channel,
                },
                bytes: channel.clone(),
            },
        };
        self.push(&name, channel, to_bytes(message.value));
    }

    /// fred takes a notification about a key apart, and does not say which of the two kinds it was.
    fn notification(&self, event: &KeyspaceEvent) {
        let Lane::Alone(name) = &self.lane else {
            return self.registry.announce(GapReason::Lagged(1));
        };
        let key = Bytes::copy_from_slice(event.key.as_bytes());
        let operation = Bytes::copy_from_slice(event.operation.as_bytes());
        let (kind, about, payload) = if name.bytes.starts_with(b"__keyspace@") {
            ("__keyspace@", &key, &operation)
        } else if name.bytes.starts_with(b"__keyevent@") {
            ("__keyevent@", &operation, &key)
        } else {
            // A pattern for both kinds: it cannot be told what came, only that something did.
            return self.registry.announce(GapReason::Lagged(1));
        };
        let mut channel = format!("{kind}{}__:", event.db).into_bytes();
        channel.extend_from_slice(about);
        self.push(name, channel.into(), payload.clone());
    }

    fn push(&self, name: &Name, channel: Bytes, payload: Bytes) {
        let pattern = (name.kind == NameKind::Pattern).then(|| name.bytes.clone());
        let message = Push::Message {
            channel,
            pattern,
            payload,
        };
        self.registry.deliver(name, &message);
    }
}

fn to_bytes(value: FredValue) -> Bytes {
    super::convert::own(value.into_bytes().unwrap_or_default())
}
