//! [`Process`]: a process as its own code sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::distr::uniform::{SampleRange, SampleUniform};
use redkit_core::breaker::BreakerConfig;
use redkit_core::random;
use redkit_core::{Client, ClientConfig};

use super::backend::SimulatedBackend;
use super::history::ProcessId;
use super::network::SharedNetwork;

/// A server of a [`World`](super::World), from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub usize);

/// A process as its own code sees it, from [`World::process`](super::World::process): its clients, its
/// randomness, and a time that all processes share.
#[derive(Clone)]
pub struct Process {
    network: SharedNetwork,
    name: Arc<str>,
    id: ProcessId,
    incarnation: u32,
}

impl Process {
    pub(super) fn new(
        network: &SharedNetwork,
        name: Arc<str>,
        id: ProcessId,
        incarnation: u32,
    ) -> Self {
        Self {
            network: Arc::clone(network),
            name,
            id,
            incarnation,
        }
    }

    /// Its place among the processes.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many processes of this name were killed before it.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// A client of the first server: calls end after a second, are repeated as usual where that is safe,
    /// and no breaker stands before them. Each client has connections of its own.
    pub fn client(&self) -> Client {
        let mut breaker = BreakerConfig::default();
        breaker.enabled = false;
        let config = ClientConfig::default()
            .breaker(breaker)
            .command_timeout(Duration::from_secs(1));
        self.client_with(ServerId(0), &config)
    }

    /// A client of any server, with settings of your own.
    ///
    /// # Panics
    /// With settings that cannot work.
    #[expect(clippy::panic, reason = "a test fails by panicking")]
    pub fn client_with(&self, server: ServerId, config: &ClientConfig) -> Client {
        let backend = SimulatedBackend::new(&self.network, self.id, self.incarnation, server);
        let client = Client::from_backend(Arc::new(backend), config);
        client.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The time since the start of the world: the same for all processes, whatever their clocks show.
    /// For histories.
    pub fn now(&self) -> Duration {
        self.network.lock().now
    }

    /// A random value of a range.
    pub fn random_range<T: SampleUniform>(&self, range: impl SampleRange<T>) -> T {
        random::random_range(range)
    }

    /// True in this share (0 to 1) of the cases.
    pub fn chance(&self, share: f64) -> bool {
        random::random::<f64>() < share
    }

    /// A mark of the scenario is reached: something happened that a run is [for](super::Scenario::marks).
    pub fn reached(&self, mark: &'static str) {
        self.network.lock().trace.reached(mark);
    }

    /// A call failed that only a fault can make fail. Where nothing has gone wrong until now (but that the clocks of
    /// servers leapt), the run has a violation. `what` is a phrase that follows the process's name.
    pub fn fails(&self, what: &str, error: &dyn fmt::Display) {
        let mut network = self.network.lock();
        let now = network.now;
        let text = || format!("fails to {what}: {error}");
        network.trace.fails(now, self.id, text);
    }

    /// A line of the run's story: what the process does, in the words of its domain. It is not made when nobody reads
    /// the story.
    pub fn note(&self, line: impl FnOnce() -> String) {
        let mut network = self.network.lock();
        let now = network.now;
        network.trace.note(now, &self.name);
        if !network.trace.tells() {
            return;
        }
        drop(network);
        let line = line();
        self.network.lock().trace.tell(now, &self.name, &line);
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
