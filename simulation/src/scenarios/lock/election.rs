//! [`Elections`]: one leader at a time.

use std::time::Duration;

use rand::RngExt;
use redkit_lock::{Election, LockManager, Term};
use redkit_testkit::simulation::checkers::MutualExclusion;
use redkit_testkit::simulation::{
    FaultMenu, Process, Scenario, ScenarioContext, Violation, WorldOptions,
};
use tokio::time::{sleep, timeout};

use super::exclusion::LIMIT;
use super::failover::REPLICA_BEHIND;
use super::work::sent;
use crate::holds::{Hold, Holds, hold};
use crate::scenarios::faults;

/// Processes stand for election, resign, leave, and are paused, killed and cut off. No two work as leaders at the
/// same time, and every term has a greater fence than the terms before.
pub(super) struct Elections {
    /// The server loses data, too: two may lead for a lease then, and the newer one has the greater fence.
    pub(super) loses_data: bool,
}

const PROCESSES: [&str; 3] = ["ann", "bob", "cem"];
const KEY: &str = "leader";

/// A term of a leader.
#[derive(Clone, Copy)]
struct Lead {
    fence: u64,
    /// When the call was sent that took the lock.
    sent: Duration,
}

#[derive(Clone, Copy)]
struct Settings {
    ttl: Duration,
    operations: usize,
}

impl Scenario for Elections {
    fn name(&self) -> &'static str {
        match self.loses_data {
            true => "lock-election-failover",
            false => "lock-election",
        }
    }

    fn pattern(&self) -> &'static str {
        "lock"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        match self.loses_data {
            true => faults::that_lose_data(),
            false => faults::that_keep_data(),
        }
    }

    fn marks(&self) -> &'static [&'static str] {
        &["led", "resigned"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let settings = Settings {
            operations: context.operations(4),
            ttl: Duration::from_millis(context.random().random_range(300..=1_200)),
        };
        let terms: Holds<Lead> = Holds::default();
        let mut world = context.world(WorldOptions::default());
        for name in PROCESSES {
            let terms = terms.clone();
            world.process(name, move |process| stand(process, settings, terms.clone()));
        }
        let is_done = world.run_until_done(LIMIT);
        let together = match self.loses_data {
            true => settings.ttl + REPLICA_BEHIND,
            false => Duration::ZERO,
        };
        let mut leaders = MutualExclusion::new().together_for(together);
        let mut fences = MutualExclusion::new().fences_only();
        for hold in terms.all() {
            let Hold {
                process,
                what: Lead { fence, sent },
                from,
                until,
            } = hold;
            // As with the locks of `lock-failover`: a leader may be told late of a term that the server has lost.
            leaders.held(
                process,
                KEY,
                (!self.loses_data).then_some(fence),
                from,
                until,
            );
            fences.held(process, KEY, Some(fence), sent, until);
        }
        leaders.check()?;
        if self.loses_data {
            fences.check()?;
        }
        faults::ends(is_done, &world)
    }
}

async fn stand(process: Process, settings: Settings, terms: Holds<Lead>) {
    let locks = LockManager::builder(&process.client(), "orders").ttl(settings.ttl);
    let Ok(election) = locks.build().and_then(|locks| Election::new(&locks, KEY)) else {
        return;
    };
    let time = |millis: u64| Duration::from_millis(process.random_range(0..=millis));
    for _ in 0..settings.operations {
        sleep(time(300)).await;
        let lead = |term: Term| lead(process.clone(), settings.ttl, term, terms.clone());
        // A candidate that is dropped leaves the office in order.
        drop(timeout(time(3_000), election.run(lead)).await);
    }
}

/// The work of a leader, which is dropped when its term is over.
async fn lead(process: Process, ttl: Duration, term: Term, terms: Holds<Lead>) {
    let fence = term.fence().get();
    let sent = sent(&process, ttl, term.remaining());
    process.reached("led");
    process.note(|| format!("leads under fence {fence}"));
    let holding = [terms.begin(&process, Lead { fence, sent })];
    // While it is polled, its process leads.
    let remaining = || Some(Duration::from_millis(8));
    let time = Duration::from_millis(process.random_range(0..=1_200));
    hold(&process, &holding, time, remaining).await;
    if process.chance(0.5) {
        process.reached("resigned");
        term.resign();
        std::future::pending::<()>().await;
    }
}
