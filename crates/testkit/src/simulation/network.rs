//! The network of a world: connections between processes and servers, and what happens to the messages
//! on them.
//!
//! Messages of a connection keep their order; each takes its time, so those of different connections do
//! not. A process has one driver for each client: a connection for commands, one for subscriptions
//! once there are any, and one for each dedicated backend. A driver connects again when a connection
//! breaks, and tells its subscriptions as the drivers for real servers do.

mod connection;
mod driver;
mod faults;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use redkit_core::{CallError, Command, Fault, FaultKind};

pub(super) use self::connection::{Connection, ConnectionId};
pub(super) use self::driver::{Driver, DriverId, Lane, SubscriptionId};
use self::faults::Path;
use super::event::{Answer, Event, EventQueue, ToProcess, ToServer};
use super::options::WorldOptions;
use super::random::{Random, stream};
use super::trace::Trace;
use super::{ProcessId, ServerId};

/// The network, as the world and the backends of all processes share it. Its lock is never held while
/// a runtime runs or anything of a process is dropped.
pub(super) type SharedNetwork = Arc<Mutex<Network>>;

/// Everything that is between processes and servers.
pub(super) struct Network {
    /// The world's time.
    pub(super) now: Duration,
    pub(super) events: EventQueue,
    pub(super) trace: Trace,
    pub(super) processes: Vec<Endpoint>,
    /// Which servers can be connected to.
    pub(super) servers_up: Vec<bool>,
    drivers: BTreeMap<DriverId, Driver>,
    connections: BTreeMap<ConnectionId, Connection>,
    paths: BTreeMap<(ProcessId, ServerId), Path>,
    random: Random,
    delay: Range<Duration>,
    silence: Duration,
    last_id: u64,
}

/// A process, as the network knows it.
pub(super) struct Endpoint {
    pub(super) name: Arc<str>,
    pub(super) incarnation: u32,
    pub(super) is_alive: bool,
}

impl Network {
    pub(super) fn new(seed: u64, options: &WorldOptions, trace: Trace) -> Self {
        Self {
            now: Duration::ZERO,
            events: EventQueue::default(),
            trace,
            processes: Vec::new(),
            servers_up: vec![true; options.servers],
            drivers: BTreeMap::new(),
            connections: BTreeMap::new(),
            paths: BTreeMap::new(),
            random: stream(seed, "network"),
            delay: options.delay.clone(),
            silence: options.silence,
            last_id: 0,
        }
    }

    /// Sends a request. Gives its number, and where its answer will come.
    pub(super) fn send(
        &mut self,
        id: ConnectionId,
        commands: Vec<Command>,
    ) -> tokio::sync::oneshot::Receiver<Answer> {
        let (answered, answer) = tokio::sync::oneshot::channel();
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            let _ = answered.send(Err(disconnected()));
            return answer;
        };
        if !is_current(&self.processes, connection.process, connection.incarnation) {
            // Nobody is there to hear that there is no answer.
            connection.calls.insert(u64::MAX, answered);
            return answer;
        }
        let number = connection.next_request(answered);
        let (process, server, is_dedicated) = (
            connection.process,
            connection.server,
            connection.is_dedicated(),
        );
        for command in &commands {
            self.trace.command(now, command);
        }
        let name = &self.processes[process.index()].name;
        self.trace
            .tell_message(now, name, || format!("sends {}", describe(&commands)));
        let path = self.paths.entry((process, server)).or_default();
        if path.loses_request() {
            self.break_connection(id, number);
            return answer;
        }
        let late = path.late_request();
        let request = ToServer::Request {
            number,
            commands,
            is_dedicated,
        };
        self.send_to_server(id, request, late);
        answer
    }

    /// A server answers a request.
    pub(super) fn reply(&mut self, id: ConnectionId, number: u64, answer: Answer) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let (process, server) = (connection.process, connection.server);
        if !connection.calls.contains_key(&number) {
            return;
        }
        let path = self.paths.entry((process, server)).or_default();
        if path.loses_reply() {
            self.break_connection(id, number + 1);
            return;
        }
        let late = path.late_reply();
        let reply = ToProcess::Reply {
            connection: id,
            number,
            answer,
        };
        self.send_to_process(id, reply, late);
    }

    /// A reply has come. Gives the call its answer.
    pub(super) fn replied(&mut self, id: ConnectionId, number: u64, answer: Answer) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let waiting = connection.calls.remove(&number);
        if connection.is_broken {
            // The bytes got lost with the connection.
            if let Some(waiting) = waiting {
                connection.calls.insert(number, waiting);
            }
            return;
        }
        let process = connection.process;
        self.trace.reply(self.now, &answer);
        let name = &self.processes[process.index()].name;
        self.trace
            .tell_message(self.now, name, || format!("gets {answer:?}"));
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    /// Whether a request still reaches its server; counts it as arrived.
    pub(super) fn arrives(&mut self, id: ConnectionId, number: u64) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let is_up = self.servers_up.get(connection.server.0) == Some(&true);
        connection.arrived = connection.arrived.max(number + 1);
        is_up && connection.lost_from.is_none_or(|lost| number < lost)
    }

    pub(super) fn is_current(&self, process: ProcessId, incarnation: u32) -> bool {
        is_current(&self.processes, process, incarnation)
    }

    pub(super) fn name(&self, process: ProcessId) -> Arc<str> {
        Arc::clone(&self.processes[process.index()].name)
    }

    /// How long a message takes.
    fn one_way(&mut self) -> Duration {
        let Range { start, end } = self.delay;
        let part: f64 = self.random.random();
        start + end.saturating_sub(start).mul_f64(part)
    }

    fn send_to_server(&mut self, id: ConnectionId, message: ToServer, late: Duration) {
        let delay = self.one_way() + late;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (process, server) = (connection.process, connection.server);
        let path = self.paths.entry((process, server)).or_default();
        if path.holds_requests(self.now) {
            path.hold_request(id, message);
            return;
        }
        let at = connection.arrival(self.now + delay);
        self.events.add(at, Event::ToServer(server, id, message));
    }

    fn send_to_process(&mut self, id: ConnectionId, message: ToProcess, late: Duration) {
        let delay = self.one_way() + late;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (process, server) = (connection.process, connection.server);
        let path = self.paths.entry((process, server)).or_default();
        if path.holds_replies(self.now) {
            path.hold_reply(id, message);
            return;
        }
        let incarnation = connection.incarnation;
        let at = connection.delivery(self.now + delay);
        self.events
            .add(at, Event::ToProcess(process, incarnation, message));
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

fn is_current(processes: &[Endpoint], process: ProcessId, incarnation: u32) -> bool {
    let endpoint = processes.get(process.index());
    endpoint.is_some_and(|process| process.is_alive && process.incarnation == incarnation)
}

fn disconnected() -> CallError {
    Fault::new(FaultKind::Disconnected, "the connection broke").maybe()
}

/// Commands as a story shows them: names, and the beginnings of arguments.
fn describe(commands: &[Command]) -> String {
    const SHOWN: usize = 24;
    let one = |command: &Command| {
        let arguments = command.iter().map(|argument| {
            let text = String::from_utf8_lossy(argument);
            let line = text.lines().next().unwrap_or_default();
            line.chars().take(SHOWN).collect::<String>()
        });
        let arguments: Vec<_> = arguments.collect();
        format!("{} {}", command.name(), arguments.join(" "))
    };
    let all: Vec<_> = commands.iter().map(one).collect();
    all.join("; ")
}
