//! [`Queue`]: writers, readers and workers of one queue.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, RngExt};
use redkit_testkit::simulation::checkers::Freshness;
use redkit_testkit::simulation::{
    Fault, FaultKind, FaultMenu, Process, ProcessId, Scenario, ScenarioContext, ServerId,
    Violation, World, WorldOptions,
};

use super::database::{Database, Way};
use super::writers::{ID_WINDOW, Shared, open, work};

/// Each process writes keys of its own, numbers that grow, reads those of all, and runs a worker.
pub(super) struct Queue {
    /// Whether the database refuses older versions. When it does not, processes are not stopped in the middle
    /// of a call, as the documentation demands.
    pub(super) compares_versions: bool,
}

const PROCESSES: [&str; 3] = ["ann", "bob", "cem"];

impl Scenario for Queue {
    fn name(&self) -> &'static str {
        match self.compares_versions {
            true => "write-behind-versions",
            false => "write-behind",
        }
    }

    fn pattern(&self) -> &'static str {
        "write-behind"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        let keeping_data = FaultMenu::all()
            .without(&[
                FaultKind::Failover,
                FaultKind::FlushAll,
                FaultKind::RestartServer,
                FaultKind::JumpServerClock,
            ])
            .within(Duration::from_secs(3))
            .longest(Duration::from_secs(2));
        match self.compares_versions {
            // Farther than ids of writes are remembered, by whatever clock.
            true => keeping_data.clock_leaps(2 * ID_WINDOW),
            false => keeping_data.without(&[FaultKind::PauseProcess, FaultKind::JumpClock]),
        }
    }

    fn marks(&self) -> &'static [&'static str] {
        &[
            "accepted",
            "repeated",
            "read while pending",
            "read from the cache",
            "stored",
        ]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(60);
        let lease = Duration::from_millis(context.random().random_range(150..1_000));
        let is_late = context.random().random_bool(0.4);
        let slow = match is_late {
            true => (0.4, lease.mul_f64(1.5)),
            false => (0.1, Duration::from_millis(2_500)),
        };
        let shared = Shared {
            database: Database::new(self.compares_versions, slow),
            read: Arc::new(Mutex::new(Freshness::new(Duration::ZERO))),
            numbers: Arc::default(),
            processes: PROCESSES.len(),
            lease,
        };
        let mut world = context.world(WorldOptions::new());
        for name in PROCESSES {
            let shared = shared.clone();
            world.process(name, move |process| {
                work(process, shared.clone(), operations)
            });
        }
        if is_late {
            be_late(&mut world, context.random(), &shared);
        }
        let is_done = world.run_until_done(Duration::from_secs(300));
        shared.read.lock().check()?;
        if !is_done {
            return Err(Violation::new("every call ends", world.now()));
        }
        drain(&mut world, &shared)?;
        shared.database.seen.lock().check()
    }
}

/// Some requests are late by about a lease, of processes that write: what they report then arrives when another has the
/// partition, and writes.
fn be_late(world: &mut World, random: &mut impl Rng, shared: &Shared) {
    const LOOKS: usize = 40;
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..6 {
        world.run_for(Duration::from_millis(random.random_range(50..400)));
        let mut looks = (0..LOOKS).map(|_| {
            world.run_for(PAUSE);
            shared.database.writing()
        });
        let writing = looks.find(|writing| !writing.is_empty());
        let process = match writing.unwrap_or_default() {
            writing if writing.is_empty() => ProcessId(random.random_range(0..3)),
            writing => writing[random.random_range(0..writing.len())],
        };
        world.inject(Fault::DelayRequest {
            process,
            server: ServerId(0),
            by: shared.lease.mul_f64(random.random_range(0.9..2.0)),
        });
    }
}

/// Lets another process write what is left.
fn drain(world: &mut World, shared: &Shared) -> Result<(), Violation> {
    world.heal();
    // For so long a partition may have held a write.
    world.run_for(Duration::from_secs(4));
    let (database, lease) = (shared.database.clone(), shared.lease);
    world.process("closer", move |process: Process| {
        let database = database.clone();
        async move {
            let queue = open(&process.client(), lease).await;
            let worker = queue.start(Way { database, process });
            drop(worker.shutdown(Duration::from_secs(60)).await);
        }
    });
    match world.run_until_done(Duration::from_secs(120)) {
        true => Ok(()),
        false => Err(Violation::new("a shutdown ends", world.now())),
    }
}
