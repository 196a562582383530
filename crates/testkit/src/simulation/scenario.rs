//! [`Scenario`]: what processes do in a world and what must hold of it. [`simulate`]: one run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fault::FaultKind;
use super::network::SharedNetwork;
use super::options::WorldOptions;
use super::panics;
use super::random::{Random, stream};
use super::schedule::{FaultMenu, Schedule};
use super::trace::Detail;
use super::violation::{Violation, earlier};
use super::world::World;

/// What processes do in a world, and what must hold of it whatever goes wrong.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicI64, Ordering};
/// use std::time::Duration;
/// use redkit_core::Command;
/// use redkit_testkit::simulation::{
///     FaultKind, FaultMenu, Scenario, ScenarioContext, ServerId, Violation, WorldOptions, simulate,
/// };
///
/// /// No increment that was answered is lost, and none is applied twice.
/// struct Counting;
///
/// impl Scenario for Counting {
///     fn name(&self) -> &'static str { "counting" }
///     fn pattern(&self) -> &'static str { "core" }
///     fn processes(&self) -> usize { 2 }
///     fn faults(&self) -> FaultMenu {
///         FaultMenu::only(&[FaultKind::Cut, FaultKind::LoseReply, FaultKind::KillProcess])
///     }
///
///     fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
///         let mut world = context.world(WorldOptions::new());
///         let (answered, sent) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
///         for name in ["a", "b"] {
///             let (answered, sent) = (Arc::clone(&answered), Arc::clone(&sent));
///             let operations = context.operations(50);
///             world.process(name, move |process| {
///                 let (answered, sent) = (Arc::clone(&answered), Arc::clone(&sent));
///                 async move {
///                     let client = process.client();
///                     for _ in 0..operations {
///                         sent.fetch_add(1, Ordering::Relaxed);
///                         if client.call::<i64>(Command::new("INCR").key("n")).await.is_ok() {
///                             answered.fetch_add(1, Ordering::Relaxed);
///                         }
///                     }
///                 }
///             });
///         }
///         world.run_until_done(Duration::from_secs(120));
///         let n = world.ask(ServerId(0), Command::new("GET").key("n")).unwrap();
///         let n: i64 = n.to::<Option<i64>>().unwrap().unwrap_or(0);
///         match (answered.load(Ordering::Relaxed)..=sent.load(Ordering::Relaxed)).contains(&n) {
///             true => Ok(()),
///             false => {
///                 let text = format!("the count is {n}");
///                 Err(Violation::new("no increment is lost", world.now()).fact(world.now(), text))
///             }
///         }
///     }
/// }
///
/// for seed in 0..20 {
///     assert!(simulate(&Counting, seed).violation.is_none());
/// }
/// ```
pub trait Scenario: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// The pattern that it belongs to, under which it is chosen together with others.
    fn pattern(&self) -> &'static str;

    /// How many processes its world has: faults are drawn for so many, in the order in which they are
    /// added.
    fn processes(&self) -> usize;

    /// How many servers its world has.
    fn servers(&self) -> usize {
        1
    }

    /// What may go wrong.
    fn faults(&self) -> FaultMenu;

    /// What the runs are for: the marks that its processes [reach](super::Process::reached). Seeds of which none reaches
    /// a mark have checked nothing there: [`Report::never_reached`](super::Report::never_reached).
    fn marks(&self) -> &'static [&'static str] {
        &[]
    }

    /// Makes the world, lets it run, and checks what happened.
    ///
    /// # Errors
    /// What must not happen, and did.
    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation>;
}

/// How a run is to be: usually what its seed says.
#[derive(Debug, Clone)]
pub(super) struct RunPlan {
    pub(super) seed: u64,
    /// In place of the faults that the seed gives.
    pub(super) schedule: Option<Schedule>,
    /// How many operations a process does at most.
    pub(super) most_operations: usize,
    pub(super) detail: Detail,
}

impl RunPlan {
    pub(super) fn of(seed: u64, detail: Detail) -> Self {
        Self {
            seed,
            schedule: None,
            most_operations: usize::MAX,
            detail,
        }
    }
}

/// What a [`Scenario`] is given: the seed's world and its randomness.
pub struct ScenarioContext {
    plan: RunPlan,
    random: Random,
    schedule: Schedule,
    servers: usize,
    asked_operations: usize,
    world: Option<SharedNetwork>,
}

impl ScenarioContext {
    fn new(scenario: &dyn Scenario, plan: &RunPlan) -> Self {
        let schedule = plan.schedule.clone().unwrap_or_else(|| {
            let mut random = stream(plan.seed, "faults");
            let (processes, servers) = (scenario.processes(), scenario.servers());
            scenario
                .faults()
                .draw(&mut random, u32::try_from(processes).unwrap_or(0), servers)
        });
        Self {
            plan: plan.clone(),
            random: stream(plan.seed, "scenario"),
            schedule,
            servers: scenario.servers(),
            asked_operations: 0,
            world: None,
        }
    }

    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.plan.seed
    }

    /// The world of this run, in which the faults of the seed are planned; to be called once. It may have
    /// more servers and processes than the scenario says: nothing happens to them.
    pub fn world(&mut self, options: WorldOptions) -> World {
        let servers = options.servers.max(self.servers);
        let options = options.servers(servers);
        let mut world = World::traced(self.plan.seed, options, self.plan.detail);
        world.plan(&self.schedule);
        self.world = Some(SharedNetwork::clone(world.network()));
        world
    }

    /// Randomness for the settings of the run.
    pub fn random(&mut self) -> &mut (impl rand::Rng + use<>) {
        &mut self.random
    }

    /// How many operations a process is to do: so many, or fewer while a violation is shrunk.
    pub fn operations(&mut self, usual: usize) -> usize {
        self.asked_operations = self.asked_operations.max(usual);
        usual.min(self.plan.most_operations)
    }

    /// The faults of this run.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }
}

/// What became of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The seed that it came from.
    pub seed: u64,
    /// What must not happen, and did.
    pub violation: Option<Violation>,
    /// Everything that happened, as a number: the same seed gives the same.
    pub hash: u64,
    /// How many faults of each kind have happened.
    pub faults: BTreeMap<FaultKind, u64>,
    /// How often each mark was reached.
    pub marks: BTreeMap<&'static str, u64>,
    /// What happened, line by line, as far as it was to be told.
    pub story: Vec<String>,
    /// Which faults were planned.
    pub schedule: Schedule,
    /// How many operations the scenario asked for.
    pub(super) operations: usize,
}

/// Runs a scenario once, as the seed says. A panic, of the scenario or of any task of a process, is a
/// violation.
pub fn simulate(scenario: &dyn Scenario, seed: u64) -> Run {
    simulate_as(scenario, &RunPlan::of(seed, Detail::None))
}

/// The same with its story.
pub fn simulate_and_tell(scenario: &dyn Scenario, seed: u64, detail: Detail) -> Run {
    simulate_as(scenario, &RunPlan::of(seed, detail))
}

pub(super) fn simulate_as(scenario: &dyn Scenario, plan: &RunPlan) -> Run {
    let mut context = ScenarioContext::new(scenario, plan);
    let (result, panics) = panics::watched(|| scenario.run(&mut context));
    let mut run = Run {
        seed: plan.seed,
        violation: None,
        hash: 0,
        faults: BTreeMap::new(),
        marks: BTreeMap::new(),
        story: Vec::new(),
        schedule: context.schedule,
        operations: context.asked_operations,
    };
    let mut now = Duration::ZERO;
    let mut failed = None;
    if let Some(network) = context.world {
        let network = network.lock();
        now = network.now;
        run.hash = network.trace.hash();
        run.faults = network.trace.faults().clone();
        run.marks = network.trace.marks().clone();
        failed = network.trace.failed().cloned();
        run.story = network.trace.story().to_vec();
    }
    run.violation = match (result, panics.first()) {
        (Some(result), None) => earlier(result.err(), failed),
        (_, panic) => {
            let panic = panic.map_or("the scenario panicked", String::as_str);
            Some(Violation::new("no task panics", now).fact(now, panic))
        }
    };
    run
}
