//! [`Driver`]: what keeps a client connected. It lives beside the process's runtime, so that a message
//! that the network carries meets it even while no task of the process runs.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use redkit_core::{
    CallError, ConnectionState, Fault, FaultKind, GapReason, Interest, Push, PushSink, PushStream,
    push_channel,
};
use tokio::sync::{oneshot, watch};

use super::connection::{Connection, ConnectionId};
use super::{Network, disconnected};
use crate::simulation::event::{Event, ToProcess, ToServer};
use crate::simulation::{ProcessId, ServerId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::simulation) struct DriverId(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::simulation) struct SubscriptionId(u64);

/// What a connection of a driver is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::simulation) enum Lane {
    Commands,
    Pushes,
}

pub(in crate::simulation) struct Driver {
    process: ProcessId,
    incarnation: u32,
    server: ServerId,
    state: watch::Sender<ConnectionState>,
    commands: Link,
    pushes: Link,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
}

/// A connection of a driver, or the attempts to make one.
#[derive(Default)]
struct Link {
    connection: Option<ConnectionId>,
    made: u64,
    failures: u32,
    is_wanted: bool,
}

/// A subscription of a process.
pub(in crate::simulation) struct Subscription {
    interest: Interest,
    sink: PushSink,
    /// Until it was confirmed for the first time.
    confirmed: Option<(oneshot::Sender<Result<PushStream, CallError>>, PushStream)>,
    /// Whether its subscriber was told that it does not stand.
    is_lost: bool,
}

/// Messages that wait for a slow subscriber before the newest are dropped and counted.
const QUEUE: usize = 10_000;
/// Pauses between two attempts to connect: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(300));
/// After how long an attempt to connect is given up that nobody answers.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

impl Driver {
    fn link(&mut self, lane: Lane) -> &mut Link {
        match lane {
            Lane::Commands => &mut self.commands,
            Lane::Pushes => &mut self.pushes,
        }
    }
}

impl Network {
    /// A driver that begins to connect.
    pub(in crate::simulation) fn add_driver(
        &mut self,
        process: ProcessId,
        incarnation: u32,
        server: ServerId,
    ) -> (DriverId, watch::Receiver<ConnectionState>) {
        let id = DriverId(self.new_id());
        let state = watch::Sender::new(ConnectionState::Connecting);
        let states = state.subscribe();
        let driver = Driver {
            process,
            incarnation,
            server,
            state,
            commands: Link::default(),
            pushes: Link::default(),
            subscriptions: BTreeMap::new(),
        };
        self.drivers.insert(id, driver);
        self.want(id, Lane::Commands);
        (id, states)
    }

    /// Ends a driver: its connections are closed, and its subscriptions end.
    pub(in crate::simulation) fn remove_driver(&mut self, id: DriverId) {
        let Some(driver) = self.drivers.remove(&id) else {
            return;
        };
        driver.state.send_replace(ConnectionState::Closed);
        let connections = [driver.commands.connection, driver.pushes.connection];
        for connection in connections.into_iter().flatten() {
            self.close(connection);
        }
    }

    /// The connection on which commands go now.
    pub(in crate::simulation) fn commands_of(&self, id: DriverId) -> Option<ConnectionId> {
        self.drivers.get(&id)?.commands.connection
    }

    /// Subscribes; the stream comes when the server has confirmed it.
    pub(in crate::simulation) fn subscribe(
        &mut self,
        driver: DriverId,
        interest: Interest,
    ) -> (
        SubscriptionId,
        oneshot::Receiver<Result<PushStream, CallError>>,
    ) {
        let id = SubscriptionId(self.new_id());
        let (confirmed, stream) = oneshot::channel();
        let Some(found) = self.drivers.get_mut(&driver) else {
            let _ = confirmed.send(Err(shut_down()));
            return (id, stream);
        };
        let (sink, pushes) = push_channel(QUEUE);
        let subscription = Subscription {
            interest: interest.clone(),
            sink,
            confirmed: Some((confirmed, pushes)),
            is_lost: false,
        };
        found.subscriptions.insert(id, subscription);
        match found.pushes.connection {
            Some(connection) => {
                self.send_to_server(
                    connection,
                    ToServer::Subscribe(id, interest),
                    Duration::ZERO,
                );
            }
            None => self.want(driver, Lane::Pushes),
        }
        (id, stream)
    }

    /// A subscriber is gone.
    pub(in crate::simulation) fn unsubscribe(&mut self, driver: DriverId, id: SubscriptionId) {
        let Some(found) = self.drivers.get_mut(&driver) else {
            return;
        };
        if found.subscriptions.remove(&id).is_some()
            && let Some(connection) = found.pushes.connection
        {
            self.send_to_server(connection, ToServer::Unsubscribe(id), Duration::ZERO);
        }
    }

    /// The server says how a subscription went.
    pub(in crate::simulation) fn confirm(
        &mut self,
        connection: ConnectionId,
        id: SubscriptionId,
        result: Result<(), CallError>,
    ) {
        self.send_to_process(
            connection,
            ToProcess::Subscribed(connection, id, result),
            Duration::ZERO,
        );
    }

    /// The server sends a pushed message.
    pub(in crate::simulation) fn push(
        &mut self,
        connection: ConnectionId,
        id: SubscriptionId,
        push: Push,
    ) {
        if let (Some(found), Push::Message { .. }) = (self.connections.get(&connection), &push) {
            let ends = (found.process, found.server);
            if self.paths.entry(ends).or_default().loses_push() {
                return;
            }
        }
        self.send_to_process(
            connection,
            ToProcess::Push(connection, id, push),
            Duration::ZERO,
        );
    }

    /// A dedicated connection: it stands after a round trip, or cannot be had.
    pub(in crate::simulation) fn open_dedicated(
        &mut self,
        driver: DriverId,
    ) -> oneshot::Receiver<Result<ConnectionId, CallError>> {
        let (opened, connection) = oneshot::channel();
        let Some(found) = self.drivers.get(&driver) else {
            let _ = opened.send(Err(shut_down()));
            return connection;
        };
        let (process, incarnation, server) = (found.process, found.incarnation, found.server);
        let (after, result) = match self.reach(process, server, Lane::Commands) {
            Ok(after) => {
                let id = ConnectionId(self.new_id());
                let made = Connection::new(process, incarnation, server, None);
                self.connections.insert(id, made);
                (after, Ok(id))
            }
            Err((after, fault)) => (after, Err(fault.not_sent())),
        };
        let event = ToProcess::Opened(opened, result);
        self.events.add(
            self.now + after,
            Event::ToProcess(process, incarnation, event),
        );
        connection
    }

    /// A driver tries to connect now.
    pub(in crate::simulation) fn connect(&mut self, id: DriverId, lane: Lane) {
        let Some(driver) = self.drivers.get(&id) else {
            return;
        };
        let (process, incarnation, server) = (driver.process, driver.incarnation, driver.server);
        let reached = self.reach(process, server, lane);
        let Some(driver) = self.drivers.get_mut(&id) else {
            return;
        };
        match reached {
            Ok(after) => {
                let event = Event::ToProcess(process, incarnation, ToProcess::Connected(id, lane));
                self.events.add(self.now + after, event);
            }
            Err((after, fault)) => {
                let link = driver.link(lane);
                link.failures += 1;
                let failures = link.failures;
                if lane == Lane::Commands {
                    driver.state.send_replace(ConnectionState::Reconnecting {
                        attempt: failures,
                        cause: fault.to_string().into(),
                    });
                }
                let pause = self.pause(failures);
                let event = Event::ToProcess(process, incarnation, ToProcess::Connect(id, lane));
                self.events.add(self.now + after + pause, event);
            }
        }
    }

    /// A connection of a driver stands.
    pub(in crate::simulation) fn connected(&mut self, id: DriverId, lane: Lane) {
        let connection = ConnectionId(self.new_id());
        let Some(driver) = self.drivers.get_mut(&id) else {
            return;
        };
        let path = self.paths.get(&(driver.process, driver.server));
        let is_muted = path.is_some_and(|path| path.mutes_pushes(self.now));
        if self.servers_up.get(driver.server.0) != Some(&true) || (lane == Lane::Pushes && is_muted)
        {
            // It went down meanwhile.
            return self.connect(id, lane);
        }
        let made = Connection::new(
            driver.process,
            driver.incarnation,
            driver.server,
            Some((id, lane)),
        );
        let link = driver.link(lane);
        link.connection = Some(connection);
        link.failures = 0;
        link.made += 1;
        let number = link.made;
        self.connections.insert(connection, made);
        match lane {
            Lane::Commands => {
                driver
                    .state
                    .send_replace(ConnectionState::Connected(number));
            }
            Lane::Pushes => {
                let all: Vec<_> = driver
                    .subscriptions
                    .iter()
                    .map(|(id, subscription)| (*id, subscription.interest.clone()))
                    .collect();
                for (id, interest) in all {
                    self.send_to_server(
                        connection,
                        ToServer::Subscribe(id, interest),
                        Duration::ZERO,
                    );
                }
            }
        }
    }

    /// A subscription is confirmed, or refused.
    pub(in crate::simulation) fn subscribed(
        &mut self,
        connection: ConnectionId,
        id: SubscriptionId,
        result: Result<(), CallError>,
    ) {
        let Some(subscription) = self.subscription(connection, id) else {
            return;
        };
        match (subscription.confirmed.take(), result) {
            (Some((confirmed, stream)), Ok(())) => drop(confirmed.send(Ok(stream))),
            (Some((confirmed, _)), Err(error)) => drop(confirmed.send(Err(error))),
            (None, Ok(())) => {
                if std::mem::take(&mut subscription.is_lost) {
                    let reconnected = Push::Gap(GapReason::Reconnected);
                    subscription.sink.send(reconnected);
                }
            }
            (None, Err(_)) => {}
        }
    }

    /// A pushed message has come.
    pub(in crate::simulation) fn pushed(
        &mut self,
        connection: ConnectionId,
        id: SubscriptionId,
        push: Push,
    ) {
        let now = self.now;
        if self.subscription(connection, id).is_none() {
            return;
        }
        self.trace.push(now, &push);
        if let Some(subscription) = self.subscription(connection, id) {
            subscription.sink.send(push);
        }
    }

    /// A process notices that a connection is broken.
    pub(in crate::simulation) fn notice(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut connection.is_closed, true) {
            return;
        }
        for (_, waiting) in std::mem::take(&mut connection.calls) {
            let _ = waiting.send(Err(disconnected()));
        }
        let Some((driver_id, lane)) = connection.lane else {
            return;
        };
        let Some(driver) = self.drivers.get_mut(&driver_id) else {
            return;
        };
        let link = driver.link(lane);
        if link.connection != Some(id) {
            return;
        }
        link.connection = None;
        link.is_wanted = false;
        match lane {
            Lane::Commands => {
                driver.state.send_replace(ConnectionState::Reconnecting {
                    attempt: 1,
                    cause: "the connection broke".into(),
                });
            }
            Lane::Pushes => {
                for subscription in driver.subscriptions.values_mut() {
                    let stands = subscription.confirmed.is_none();
                    if stands && !std::mem::replace(&mut subscription.is_lost, true) {
                        subscription.sink.send(Push::Gap(GapReason::Lost));
                    }
                }
            }
        }
        self.want(driver_id, lane);
    }

    /// A connection is not needed any more.
    pub(in crate::simulation) fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.is_closed = true;
            self.send_to_server(id, ToServer::Closed, Duration::ZERO);
        }
    }

    pub(in crate::simulation) fn is_closed(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        connection.is_none_or(|connection| connection.is_closed)
    }

    /// Begins to connect, unless a driver does already.
    fn want(&mut self, id: DriverId, lane: Lane) {
        let Some(driver) = self.drivers.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut driver.link(lane).is_wanted, true) {
            return;
        }
        let event = ToProcess::Connect(id, lane);
        let event = Event::ToProcess(driver.process, driver.incarnation, event);
        self.events.add(self.now, event);
    }

    /// How long it takes to connect, or how long it takes to find out that it does not work.
    fn reach(
        &mut self,
        process: ProcessId,
        server: ServerId,
        lane: Lane,
    ) -> Result<Duration, (Duration, Fault)> {
        let there_and_back = self.one_way() + self.one_way();
        let path = self.paths.entry((process, server)).or_default();
        if path.holds_anything(self.now) {
            let fault = Fault::new(FaultKind::Connect, "nobody answers");
            return Err((CONNECT_TIMEOUT, fault));
        }
        let is_muted = lane == Lane::Pushes && path.mutes_pushes(self.now);
        match self.servers_up.get(server.0) {
            Some(true) if !is_muted => Ok(there_and_back),
            _ => {
                let fault = Fault::new(FaultKind::Connect, "connection refused");
                Err((there_and_back, fault))
            }
        }
    }

    /// Between a half and the whole of a time that doubles with every failure.
    fn pause(&mut self, failures: u32) -> Duration {
        let (first, longest) = PAUSES;
        let whole = first.saturating_mul(1 << failures.saturating_sub(1).min(10));
        whole
            .min(longest)
            .mul_f64(self.random.random_range(0.5..=1.0))
    }

    fn subscription(
        &mut self,
        connection: ConnectionId,
        id: SubscriptionId,
    ) -> Option<&mut Subscription> {
        let found = self.connections.get(&connection)?;
        if found.is_broken || found.is_closed {
            return None;
        }
        let (driver, _) = found.lane?;
        self.drivers.get_mut(&driver)?.subscriptions.get_mut(&id)
    }
}

fn shut_down() -> CallError {
    Fault::new(FaultKind::Shutdown, "the client was shut down").not_sent()
}
