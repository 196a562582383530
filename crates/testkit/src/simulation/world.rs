//! [`World`]: servers, processes and the network between them, in one thread and in virtual time.

mod injection;
mod slot;

use std::time::Duration;

use futures_util::FutureExt;
use redkit_core::{CallError, Command, Value};

use self::slot::Slot;
use super::event::{Event, ToProcess, ToServer};
use super::fault::Fault;
use super::history::ProcessId;
use super::network::{ConnectionId, Endpoint, Network, SharedNetwork};
use super::options::{ProcessOptions, WorldOptions};
use super::process::{Process, ServerId};
use super::random::Random;
use super::schedule::Schedule;
use super::server::SimulatedServer;
use super::trace::{Detail, Trace};

/// Servers, processes and the network between them: one thread, virtual time, and every choice from one
/// seed, so that a run can be repeated.
///
/// ```
/// use std::time::Duration;
/// use redkit_core::Command;
/// use redkit_testkit::simulation::{Fault, ServerId, World, WorldOptions};
///
/// let mut world = World::new(7, WorldOptions::new());
/// let counter = world.process("counter", |process| async move {
///     let client = process.client();
///     for _ in 0..100 {
///         let count = Command::new("INCR").key("n").idempotent(false);
///         let _ = client.call::<i64>(count).await;
///     }
/// });
/// world.run_for(Duration::from_millis(100));
/// world.inject(Fault::LoseReply { process: counter, server: ServerId(0) });
/// assert!(world.run_until_done(Duration::from_secs(60)));
///
/// // The increment whose reply was lost was carried out, and not repeated.
/// let n: i64 = world.ask(ServerId(0), Command::new("GET").key("n")).unwrap().to().unwrap();
/// assert_eq!(n, 100);
/// ```
pub struct World {
    seed: u64,
    options: WorldOptions,
    network: SharedNetwork,
    servers: Vec<ServerSlot>,
    processes: Vec<Slot>,
    random: Random,
}

/// A server, and what has come for it while it was stopped.
struct ServerSlot {
    server: SimulatedServer,
    stopped_until: Duration,
    inbox: Vec<Event>,
}

impl World {
    /// A world with its servers and without processes, in which nothing goes wrong by itself.
    pub fn new(seed: u64, options: WorldOptions) -> Self {
        Self::traced(seed, options, Detail::None)
    }

    pub(super) fn traced(seed: u64, options: WorldOptions, detail: Detail) -> Self {
        let network = Network::new(seed, &options, Trace::new(detail));
        let server = |number| ServerSlot {
            server: SimulatedServer::new(ServerId(number), seed, options.epoch),
            stopped_until: Duration::ZERO,
            inbox: Vec::new(),
        };
        Self {
            seed,
            network: SharedNetwork::new(network.into()),
            servers: (0..options.servers).map(server).collect(),
            processes: Vec::new(),
            random: super::random::stream(seed, "world"),
            options,
        }
    }

    pub(super) fn network(&self) -> &SharedNetwork {
        &self.network
    }

    /// Adds a process. `body` is its `main`: it is called again for the process that takes the place of a
    /// killed one. What the body spawned goes on when it returns.
    pub fn process<F, B>(&mut self, name: &str, body: F) -> ProcessId
    where
        F: Fn(Process) -> B + 'static,
        B: Future<Output = ()> + Send + 'static,
    {
        self.process_with(ProcessOptions::new(name), body)
    }

    /// Adds a process with options of its own.
    pub fn process_with<F, B>(&mut self, options: ProcessOptions, body: F) -> ProcessId
    where
        F: Fn(Process) -> B + 'static,
        B: Future<Output = ()> + Send + 'static,
    {
        let id = ProcessId(u32::try_from(self.processes.len()).unwrap_or(u32::MAX));
        let now = self.now();
        self.network.lock().processes.push(Endpoint {
            name: options.name.as_str().into(),
            incarnation: 0,
            is_alive: true,
        });
        let mut slot = Slot::new(options, Box::new(move |process| body(process).boxed()));
        slot.start(id, self.seed, self.options.notice, now, &self.network);
        self.processes.push(slot);
        id
    }

    /// Plans faults; their times count from the start of the world.
    pub fn plan(&mut self, schedule: &Schedule) {
        let mut network = self.network.lock();
        for planned in &schedule.faults {
            if let Some((server, lag)) = injection::lag_of(&planned.fault) {
                let then = planned.at.saturating_sub(lag);
                network.events.add(then, Event::Snapshot(server));
            }
            let event = Event::Fault(planned.fault.clone());
            network.events.add(planned.at, event);
        }
    }

    /// Lets a fault happen now.
    pub fn inject(&mut self, fault: Fault) {
        self.happen(&fault);
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.step(end) {}
    }

    /// Goes on until the bodies of all processes have returned; gives whether they have within this time.
    /// A process that was killed and has no successor has returned.
    pub fn run_until_done(&mut self, limit: Duration) -> bool {
        let end = self.now() + limit;
        while !self.processes.iter().all(Slot::is_done) {
            if !self.step(end) {
                return false;
            }
        }
        true
    }

    /// Ends what goes wrong now and what was planned to: the network is whole, what is stopped goes on,
    /// servers are up and have memory. Killed processes stay dead, unless a successor was to come.
    pub fn heal(&mut self) {
        self.end_faults();
    }

    /// The time since the start of the world.
    pub fn now(&self) -> Duration {
        self.network.lock().now
    }

    /// Whether a process lives.
    pub fn is_alive(&self, process: ProcessId) -> bool {
        let network = self.network.lock();
        let endpoint = network.processes.get(process.index());
        endpoint.is_some_and(|endpoint| endpoint.is_alive)
    }

    /// Asks a server directly, past the network: for checks.
    ///
    /// # Errors
    /// As the engine gives them.
    ///
    /// # Panics
    /// Without such a server.
    pub fn ask(&mut self, server: ServerId, command: Command) -> Result<Value, CallError> {
        let now = self.now();
        let reply = self.servers[server.0].server.ask(now, command);
        self.forward(server);
        reply
    }

    /// Everything that happened until now as a number: each message and fault with its time, and of each note who
    /// made it and when.
    pub fn hash(&self) -> u64 {
        self.network.lock().trace.hash()
    }

    /// Lets the next thing happen, if it is within `end`, which is reached otherwise.
    fn step(&mut self, end: Duration) -> bool {
        let event_at = self.network.lock().events.next_at();
        let process = self.next_process();
        let server = self.next_server();
        let next = [
            event_at,
            process.map(|next| next.0),
            server.map(|next| next.0),
        ];
        let next = next.into_iter().flatten().min();
        let Some(at) = next.filter(|at| *at <= end) else {
            let mut network = self.network.lock();
            network.now = network.now.max(end);
            return false;
        };
        let now = {
            let mut network = self.network.lock();
            network.now = network.now.max(at);
            network.now
        };
        if event_at == Some(at) {
            let event = self.network.lock().events.pop();
            if let Some(event) = event {
                self.happens(event, now);
            }
        } else if let Some((_, id)) = server.filter(|next| next.0 == at) {
            self.servers[id.0].server.run(now);
            self.forward(id);
        } else if let Some((_, id)) = process {
            self.processes[id.index()].run(now);
        }
        true
    }

    fn next_process(&self) -> Option<(Duration, ProcessId)> {
        let all = (0..).map(ProcessId).zip(&self.processes);
        all.filter_map(|(id, slot)| Some((slot.due()?, id))).min()
    }

    fn next_server(&self) -> Option<(Duration, ServerId)> {
        let all = self.servers.iter().enumerate();
        all.filter_map(|(number, slot)| {
            let due = slot.server.due()?.max(slot.stopped_until);
            Some((due, ServerId(number)))
        })
        .min()
    }

    fn happens(&mut self, event: Event, now: Duration) {
        match event {
            Event::ToServer(id, connection, message) => {
                let slot = &mut self.servers[id.0];
                if now < slot.stopped_until {
                    slot.inbox.push(Event::ToServer(id, connection, message));
                    return;
                }
                self.at_server(id, connection, message, now);
            }
            Event::ToProcess(id, incarnation, message) => {
                if !self.network.lock().is_current(id, incarnation) {
                    return;
                }
                let slot = &mut self.processes[id.index()];
                if now < slot.stopped_until {
                    slot.inbox.push(Event::ToProcess(id, incarnation, message));
                    return;
                }
                self.at_process(message);
                self.processes[id.index()].wake(now);
            }
            Event::PartitionEnds(process, server) => {
                self.network.lock().release((process, server));
            }
            Event::Silence(process, server) => {
                self.network.lock().give_up_silent((process, server));
            }
            Event::Snapshot(server) => self.servers[server.0].server.keep_snapshot(now),
            Event::ServerGoesOn(server) => self.server_goes_on(server),
            Event::ServerStarts(server) => self.server_starts(server),
            Event::MemoryIsFree(server) => self.servers[server.0].server.engine().set_full(false),
            Event::ProcessGoesOn(process) => self.process_goes_on(process),
            Event::ProcessStarts(process) => self.process_starts(process),
            Event::Fault(fault) => self.happen(&fault),
        }
    }

    fn at_server(
        &mut self,
        id: ServerId,
        connection: ConnectionId,
        message: ToServer,
        now: Duration,
    ) {
        let server = &mut self.servers[id.0].server;
        if !server.is_up() {
            return;
        }
        match message {
            ToServer::Request {
                number,
                commands,
                is_dedicated,
            } => {
                if !self.network.lock().arrives(connection, number) {
                    return;
                }
                server.execute(now, connection, number, commands, is_dedicated);
            }
            ToServer::Subscribe(subscription, interest) => {
                let result = server.subscribe(now, connection, subscription, interest);
                self.network
                    .lock()
                    .confirm(connection, subscription, result);
            }
            ToServer::Unsubscribe(subscription) => server.unsubscribe(subscription),
            ToServer::Closed => server.close(now, connection),
        }
        self.forward(id);
    }

    /// Sends what a server has to say.
    fn forward(&mut self, id: ServerId) {
        let output = self.servers[id.0].server.output();
        let mut network = self.network.lock();
        for (connection, subscription, push) in output.pushes {
            network.push(connection, subscription, push);
        }
        for (connection, number, answer) in output.answers {
            network.reply(connection, number, answer);
        }
    }

    fn at_process(&mut self, message: ToProcess) {
        let mut network = self.network.lock();
        match message {
            ToProcess::Reply {
                connection,
                number,
                answer,
            } => network.replied(connection, number, answer),
            ToProcess::Subscribed(connection, subscription, result) => {
                network.subscribed(connection, subscription, result);
            }
            ToProcess::Push(connection, subscription, push) => {
                network.pushed(connection, subscription, push);
            }
            ToProcess::Broken(connection) => network.notice(connection),
            ToProcess::Connect(driver, lane) => network.connect(driver, lane),
            ToProcess::Connected(driver, lane) => network.connected(driver, lane),
            ToProcess::Opened(opened, result) => {
                let _ = opened.send(result);
            }
        }
    }
}
