//! [`Slot`]: the place of a process in a world, which its incarnations take one after the other.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use crate::simulation::clock::LocalClock;
use crate::simulation::event::Event;
use crate::simulation::history::ProcessId;
use crate::simulation::host::Host;
use crate::simulation::network::SharedNetwork;
use crate::simulation::options::ProcessOptions;
use crate::simulation::process::Process;
use crate::simulation::random::stream;

/// The `main` of a process.
pub(super) type Body = Box<dyn Fn(Process) -> BoxFuture<'static, ()>>;

pub(super) struct Slot {
    options: ProcessOptions,
    body: Body,
    alive: Option<Alive>,
    /// Until when the process is stopped.
    pub(super) stopped_until: Duration,
    /// What came for it meanwhile.
    pub(super) inbox: Vec<Event>,
    /// Another will take its place.
    pub(super) awaits_successor: bool,
}

/// A process that lives.
struct Alive {
    // Before the host, so that its end is not waited for.
    main: JoinHandle<()>,
    host: Host,
}

impl Slot {
    pub(super) fn new(options: ProcessOptions, body: Body) -> Self {
        Self {
            options,
            body,
            alive: None,
            stopped_until: Duration::ZERO,
            inbox: Vec::new(),
            awaits_successor: false,
        }
    }

    /// Starts the process that the network knows as the present one.
    pub(super) fn start(
        &mut self,
        id: ProcessId,
        seed: u64,
        notice: Duration,
        now: Duration,
        network: &SharedNetwork,
    ) {
        let (name, incarnation) = {
            let network = network.lock();
            let endpoint = &network.processes[id.index()];
            (std::sync::Arc::clone(&endpoint.name), endpoint.incarnation)
        };
        let random = stream(seed, &format!("process {} {incarnation}", id.0));
        let host = Host::new(LocalClock::new(self.options.drift), random, now, notice);
        let process = Process::new(network, name, id, incarnation);
        let main = {
            let _inside = host.handle().enter();
            host.handle().spawn((self.body)(process))
        };
        self.alive = Some(Alive { main, host });
        self.awaits_successor = false;
        self.stopped_until = Duration::ZERO;
    }

    /// Ends the process, wherever its tasks stand.
    pub(super) fn kill(&mut self) {
        self.alive = None;
        self.inbox.clear();
        self.stopped_until = Duration::ZERO;
    }

    pub(super) fn is_done(&self) -> bool {
        match &self.alive {
            Some(alive) => alive.main.is_finished(),
            None => !self.awaits_successor,
        }
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.alive.as_ref().map(|alive| alive.host.due())
    }

    pub(super) fn run(&mut self, now: Duration) {
        if let Some(alive) = &mut self.alive {
            alive.host.run(now);
        }
    }

    pub(super) fn wake(&mut self, now: Duration) {
        if let Some(alive) = &mut self.alive {
            alive.host.wake(now);
        }
    }

    pub(super) fn stop_until(&mut self, time: Duration) {
        self.stopped_until = self.stopped_until.max(time);
        if let Some(alive) = &mut self.alive {
            alive.host.stop_until(time);
        }
    }

    pub(super) fn go_on(&mut self, now: Duration) {
        self.stopped_until = Duration::ZERO;
        if let Some(alive) = &mut self.alive {
            alive.host.go_on(now);
        }
    }

    pub(super) fn leap(&mut self, by: Duration, now: Duration) {
        if let Some(alive) = &mut self.alive {
            alive.host.leap(by, now);
        }
    }
}
