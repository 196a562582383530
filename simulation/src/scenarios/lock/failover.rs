//! [`Failover`]: locks that the server loses, and fences that do not go back.

use std::time::Duration;

use redkit_testkit::simulation::{FaultMenu, Scenario, ScenarioContext, Violation, WorldOptions};

use super::exclusion::{LIMIT, free_again};
use super::work::{MARKS, Notes, Settings, work};
use crate::scenarios::faults;

/// Replicas that lag take over, and servers start again without their data, so that two may hold a lock. Then the
/// newer holder has a greater fence, a register rejects what the older one writes after the newer one's first, and the
/// older one finds out within its lease.
pub(super) struct Failover;

/// Longer than the lease of most runs, which must not go on when the server does not know of the lock.
const HELD_FOR: Duration = Duration::from_millis(2_000);
/// A replica that takes over may bring the older of two holders back: see the longest time of its faults.
pub(super) const REPLICA_BEHIND: Duration = Duration::from_millis(700);

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];

impl Scenario for Failover {
    fn name(&self) -> &'static str {
        "lock-failover"
    }

    fn pattern(&self) -> &'static str {
        "lock"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        faults::that_lose_data()
    }

    fn marks(&self) -> &'static [&'static str] {
        MARKS
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(10);
        let settings = Settings {
            holds_for: HELD_FOR,
            ..Settings::draw(context.random(), operations)
        };
        let notes = Notes::default();
        let mut world = context.world(WorldOptions::default().servers(2));
        for name in PROCESSES {
            let notes = notes.clone();
            world.process(name, move |process| work(process, settings, notes.clone()));
        }
        let is_done = world.run_until_done(LIMIT);
        world.heal();
        notes.check(settings.ttl + REPLICA_BEHIND)?;
        faults::ends(is_done, &world)?;
        // A replica that is behind brings waiters back that have left: they are skipped after three seconds.
        let longer = match settings.is_fair {
            true => Duration::from_secs(3),
            false => Duration::ZERO,
        };
        free_again(&mut world, settings, longer)
    }
}
