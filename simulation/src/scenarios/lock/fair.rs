//! [`Fair`]: a fair lock is handed over in the order in which its waiters came.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_lock::LockManager;
use redkit_testkit::simulation::checkers::FirstCome;
use redkit_testkit::simulation::{
    Fault, FaultKind, FaultMenu, Process, ProcessId, Scenario, ScenarioContext, Schedule,
    Violation, WorldOptions,
};
use tokio::time::{sleep, timeout};

use super::exclusion::LIMIT;
use super::work::{LONGER_THAN_A_CALL, granted};
use crate::scenarios::faults;

/// Processes wait for a fair lock, give up and are killed, and their clocks leap by more than a waiter is believed to
/// be alive. Nobody that came later is served before.
pub(super) struct Fair;

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];
const KEY: &str = "order-7";
/// Within this time a waiter has its place, when nothing is late.
const COMES_WITHIN: Duration = Duration::from_millis(60);
/// The longest pause before a driver connects anew, and before a call is sent again.
const RECONNECTS_WITHIN: Duration = Duration::from_millis(400);
/// Far longer than anything is late: only the lease of a holder that was killed ends.
const TTL: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Farther than the three seconds for which a visit of a waiter is a sign of life.
const CLOCK_LEAP: Duration = Duration::from_secs(8);

impl Scenario for Fair {
    fn name(&self) -> &'static str {
        "lock-fair"
    }

    fn pattern(&self) -> &'static str {
        "lock"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        use FaultKind::{
            DelayReply, DelayRequest, ForgetScripts, JumpClock, KillProcess, PauseProcess,
        };
        // No waiter is silent for so long that it is taken for dead.
        FaultMenu::only(&[
            JumpClock,
            JumpClock,
            DelayReply,
            DelayRequest,
            ForgetScripts,
            KillProcess,
            PauseProcess,
        ])
        .at_most(6)
        .longest(Duration::from_millis(150))
        .clock_leaps(CLOCK_LEAP)
    }

    fn marks(&self) -> &'static [&'static str] {
        &["served", "served in line", "given up"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(10);
        let late = late(context.schedule());
        let order = Arc::new(Mutex::new(FirstCome::new(COMES_WITHIN + late)));
        let mut world = context.world(WorldOptions::new());
        for name in PROCESSES {
            let order = Arc::clone(&order);
            world.process(name, move |process| {
                work(process, operations, Arc::clone(&order))
            });
        }
        let is_done = world.run_until_done(LIMIT);
        order.lock().check()?;
        faults::ends(is_done, &world)
    }
}

/// By how much the faults of any one process together may hold its first call up.
fn late(schedule: &Schedule) -> Duration {
    let of_processes = (0..).map(ProcessId).take(PROCESSES.len()).map(|process| {
        let faults = schedule.faults.iter().map(|planned| &planned.fault);
        let own = faults.filter(|fault| fault.process() == Some(process));
        let times = own.map(|fault| match *fault {
            Fault::DelayReply { by, .. } | Fault::DelayRequest { by, .. } => by,
            Fault::PauseProcess { lasts, .. } => lasts,
            // A connection that is being made is given up, and made anew after a pause.
            Fault::JumpClock { .. } => RECONNECTS_WITHIN,
            _ => Duration::ZERO,
        });
        times.sum()
    });
    of_processes.max().unwrap_or_default()
}

async fn work(process: Process, operations: usize, order: Arc<Mutex<FirstCome>>) {
    let locks = LockManager::builder(&process.client(), "orders").ttl(TTL);
    let Ok(locks) = locks.fair(true).build() else {
        return;
    };
    let time = |millis: u64| Duration::from_millis(process.random_range(0..=millis));
    for _ in 0..operations {
        sleep(time(300)).await;
        let mut wait = Wait {
            process: &process,
            order: &order,
            from: process.now(),
            is_over: false,
        };
        let patience = process.chance(0.2).then(|| time(600));
        let acquired = locks.acquire(KEY, LONGEST_WAIT);
        let acquired = timeout(patience.unwrap_or(Duration::MAX), acquired).await;
        if acquired.is_err() {
            process.reached("given up");
        }
        let acquired = acquired.ok();
        if let Some(guard) = acquired.and_then(|acquired| granted(&process, acquired)) {
            process.reached(match process.now() > wait.from + LONGER_THAN_A_CALL {
                true => "served in line",
                false => "served",
            });
            wait.is_served();
            process.note(|| "has the lock".to_owned());
            sleep(time(200)).await;
            process.note(|| "gives the lock back".to_owned());
            drop(guard.release().await);
        }
    }
}

/// A wait, which is over when the waiter is served, or gives up, or with its process.
struct Wait<'a> {
    process: &'a Process,
    order: &'a Mutex<FirstCome>,
    from: Duration,
    is_over: bool,
}

impl Wait<'_> {
    fn is_served(&mut self) {
        self.is_over = true;
        let now = self.process.now();
        let mut order = self.order.lock();
        order.served(self.process.id(), KEY, self.from, now);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let now = self.process.now();
            let mut order = self.order.lock();
            order.waited(self.process.id(), KEY, self.from, now);
        }
    }
}
