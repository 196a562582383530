//! [`CacheFreshness`]: no read is older than an invalidation that was acknowledged before it was asked.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use redkit_testkit::simulation::checkers::Freshness;
use redkit_testkit::simulation::{
    FaultKind, FaultMenu, ProcessOptions, Scenario, ScenarioContext, Schedule, Violation,
    WorldOptions,
};

use super::settings::Settings;
use super::source::Source;
use super::worker::Worker;

/// Four processes read and write in every way while everything breaks that keeps acknowledged writes.
pub(super) struct CacheFreshness {
    /// Whether the processes keep values, too.
    pub(super) has_l1: bool,
}

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];
/// Parts per million: what bad quartz does.
const DRIFT: i32 = 500;
/// By how much the bound may seem longer, because it is measured by a slow clock.
const SLOW: f64 = 1.001;

/// What the processes reach in some run: where a value came from, and how the cache was told of changes.
const MARKS: [&str; 14] = [
    "redis",
    "loaded",
    "shared",
    "stale",
    "bypassed",
    "found none",
    "invalidated",
    "invalidated by tag",
    "cleared",
    "written through",
    "set",
    "got one of many",
    "deleted",
    "told nobody",
];
/// Nothing is stale there: values end long after a run.
const MARKS_WITH_L1: [&str; 14] = [
    "local",
    "redis",
    "loaded",
    "shared",
    "bypassed",
    "found none",
    "invalidated",
    "invalidated by tag",
    "cleared",
    "written through",
    "set",
    "got one of many",
    "deleted",
    "told nobody",
];

impl Scenario for CacheFreshness {
    fn name(&self) -> &'static str {
        match self.has_l1 {
            true => "cache-local",
            false => "cache",
        }
    }

    fn pattern(&self) -> &'static str {
        "cache"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        let menu = FaultMenu::all()
            .without(&[FaultKind::Failover, FaultKind::JumpServerClock])
            .within(Duration::from_secs(4))
            .longest(Duration::from_secs(2));
        match self.has_l1 {
            // Of which the process finds out when it compares its place in the log.
            true => menu
                .with(&[FaultKind::LosePush, FaultKind::LosePush])
                .with(&[FaultKind::MutePushes, FaultKind::DelayReply])
                // The last answer was late, and then a process hears of nothing.
                .followed(FaultKind::DelayReply, FaultKind::Partition),
            false => menu,
        }
    }

    fn marks(&self) -> &'static [&'static str] {
        match self.has_l1 {
            true => &MARKS_WITH_L1,
            false => &MARKS,
        }
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(200);
        let settings = Settings::draw(context.random(), self.has_l1);
        let drifts = PROCESSES.map(|_| context.random().random_range(-DRIFT..=DRIFT));
        let bound = settings.bound.unwrap_or_default().mul_f64(SLOW);
        let seen = Arc::new(Mutex::new(Freshness::new(bound).own_at_once()));
        let source = Source::new(PROCESSES.len());
        let longest = is_prompt(context.schedule()).then(|| settings.longest().mul_f64(SLOW));
        let mut world = context.world(WorldOptions::new());
        for (name, drift) in PROCESSES.iter().zip(drifts) {
            let (source, seen) = (source.clone(), Arc::clone(&seen));
            let options = ProcessOptions::new(name).drift(drift);
            world.process_with(options, move |process| {
                let (source, seen) = (source.clone(), Arc::clone(&seen));
                let worker = Worker::new(process, settings, source, seen, longest);
                async move { worker.work(operations).await }
            });
        }
        let is_done = world.run_until_done(Duration::from_secs(300));
        seen.lock().check()?;
        match is_done {
            true => Ok(()),
            false => Err(Violation::new("every call ends", world.now())),
        }
    }
}

/// Whether nothing holds anybody up: what a caller gets from a load that was held up may be older by that.
fn is_prompt(schedule: &Schedule) -> bool {
    let mut faults = schedule.faults.iter();
    faults.all(|planned| {
        use FaultKind::{Cut, FlushAll, ForgetScripts, KillProcess, LoseReply, LoseRequest};
        let kind = planned.fault.kind();
        matches!(
            kind,
            Cut | FlushAll | ForgetScripts | KillProcess | LoseReply | LoseRequest
        )
    })
}
