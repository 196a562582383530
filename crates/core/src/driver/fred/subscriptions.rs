//! Subscriptions through fred, which says of a message neither the pattern that matched nor, for
//! notifications about keys, the channel. So channels share one connection, and each pattern and
//! each channel of notifications has one of its own: what comes there is for that name.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use ::fred::interfaces::PubsubInterface;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::connector::FredConnector;
use super::delivery::Delivery;
use super::link::FredLink;
use super::settings::Use;
use crate::backend::Capabilities;
use crate::command::Command;
use crate::driver::activity::Activity;
use crate::driver::link::{Connector, Link, Timing};
use crate::driver::sentinel::Route;
use crate::driver::server::Subscriber;
use crate::driver::subscriptions::{
    Change, Name, NameKind, PushConnector, PushLink, QUEUE, Registry, Subscriptions, names,
};
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::push::{Interest, PushStream, push_channel};
use crate::value::Value;

/// The connections for subscriptions. Dropping it ends every subscription that nobody reads.
pub(super) struct FredSubscriber {
    route: Route<FredConnector>,
    timing: Timing,
    /// `None` after shutdown. A lane lives as long as somebody reads what comes on it.
    lanes: Mutex<Option<HashMap<Lane, Weak<Subscriptions>>>>,
}

/// Which connection a name is subscribed on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Channels,
    Alone(Name),
}

impl FredSubscriber {
    pub(super) fn new(route: Route<FredConnector>, timing: Timing) -> Self {
        Self {
            route,
            timing,
            lanes: Mutex::new(Some(HashMap::new())),
        }
    }

    /// Connections to a sentinel, for what it publishes on its few channels.
    pub(super) fn to_sentinel(sentinel: FredConnector) -> impl PushConnector {
        LaneConnector {
            route: Route::Fixed(sentinel),
            lane: Lane::Channels,
            use_of: Use::Commands,
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
            route: self.route.clone(),
            lane: lane.clone(),
            use_of: match lane {
                Lane::Channels => Use::ManyNames,
                Lane::Alone(_) => Use::OneName,
            },
        };
        let made = Arc::new(Subscriptions::start(connector, self.timing));
        lanes.insert(lane, Arc::downgrade(&made));
        Ok(made)
    }
}

#[async_trait]
impl Subscriber for FredSubscriber {
    async fn subscribe(
        &self,
        interest: Interest,
        deadline: Instant,
    ) -> Result<PushStream, CallError> {
        if matches!(interest, Interest::Invalidations { .. }) {
            interest.check()?;
            let message = "the `fred` driver does not track changes of keys: fred throws the \
                           message away that says that all of them changed; use the `native` driver";
            return Err(Fault::new(FaultKind::Unsupported, message).not_sent());
        }
        let mut by_lane: HashMap<Lane, Vec<Name>> = HashMap::new();
        for name in names(interest)? {
            if std::str::from_utf8(&name.bytes).is_err() {
                let message = "the `fred` driver carries only names of channels that are UTF-8; \
                               use the `native` driver for others";
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

    fn shutdown(&self) {
        let lanes = self.lanes.lock().take();
        for lane in lanes.iter().flat_map(HashMap::values) {
            if let Some(lane) = lane.upgrade() {
                lane.shutdown();
            }
        }
    }
}

impl Lane {
    fn of(name: &Name) -> Self {
        let is_notification = name.bytes.starts_with(b"__key");
        match name.kind {
            NameKind::Channel if is_notification => Lane::Alone(name.clone()),
            NameKind::Pattern => Lane::Alone(name.clone()),
            NameKind::Channel | NameKind::Sharded | NameKind::Prefix => Lane::Channels,
        }
    }
}

struct LaneConnector {
    route: Route<FredConnector>,
    lane: Lane,
    use_of: Use,
}

#[async_trait]
impl PushConnector for LaneConnector {
    type Link = LaneLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<LaneLink, Fault> {
        let use_of = self.use_of;
        let link = self
            .route
            .connect_by(|server| async move { server.connect_for(use_of).await })
            .await?;
        let delivery = Delivery {
            registry: Arc::clone(registry),
            lane: self.lane.clone(),
        };
        let pump = AbortOnDropHandle::new(tokio::spawn(delivery.run(link.client())));
        Ok(LaneLink { link, _pump: pump })
    }

    fn target(&self) -> String {
        self.route.target()
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

    async fn ping(&self) -> Result<Option<ServerError>, Fault> {
        self.link.ping().await
    }

    fn activity(&self) -> &Activity {
        self.link.activity()
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

    async fn ask(&self, command: &Command) -> Result<Value, CallError> {
        self.link.send(command, Instant::now()).await
    }
}

impl LaneLink {
    /// fred does not wait for a confirmation of most of these commands, and an error of theirs goes
    /// to the next command. So a `PING` follows: its text is the confirmation. (Sentinels have no
    /// `ECHO`.)
    async fn change_some(
        &self,
        change: Change,
        kind: NameKind,
        names: &[&str],
    ) -> Result<(), CallError> {
        for _ in 0..CHANGE_TRIES {
            if self.try_change(change, kind, names).await? {
                return Ok(());
            }
        }
        let message = "replies on the connection for subscriptions stay out of step";
        Err(Fault::new(FaultKind::Protocol, message).maybe())
    }

    /// Whether the server has confirmed it. When it has not, replies were out of step: what came
    /// may have been the answer to something else, so it is to be asked again.
    async fn try_change(
        &self,
        change: Change,
        kind: NameKind,
        names: &[&str],
    ) -> Result<bool, CallError> {
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
                return Ok(true);
            }
            // Refused before.
            (_, NameKind::Prefix) => return Ok(true),
        };
        sent.map_err(super::convert::to_typed_error)?;
        match self.echo().await? {
            Echo::Own => Ok(true),
            Echo::Refused(error) => {
                self.catch_up().await?;
                Err(error)
            }
            Echo::Stale => self.catch_up().await.map(|()| false),
        }
    }

    async fn echo(&self) -> Result<Echo, CallError> {
        let text = format!("redkit-{:032x}", rand::random::<u128>());
        let deadline = Instant::now();
        let ping = Command::new("PING").arg(&text);
        match self.link.send(&ping, deadline).await {
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

/// How often a change is asked for.
const CHANGE_TRIES: usize = 3;

const CATCH_UP_TRIES: usize = 5;
const CATCH_UP_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
