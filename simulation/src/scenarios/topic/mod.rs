//! Topics: consumers that die, are paused and leave, and handlers that fail.

mod consumer;
mod judge;
mod notes;

use std::time::Duration;

use rand::RngExt;
use redkit_testkit::simulation::{FaultMenu, Scenario, ScenarioContext, Violation, WorldOptions};

use self::consumer::{consume, see_to_the_end};
use self::judge::judge;
use self::notes::Notes;
use super::faults;

/// The scenarios of topics.
pub(super) fn all() -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(Topics {
            name: "topic-shared",
            is_ordered: false,
        }),
        Box::new(Topics {
            name: "topic-ordered",
            is_ordered: true,
        }),
    ]
}

/// Processes publish and consume, leave and come again, and are paused, killed and cut off; some handlers fail, and
/// some messages can never be handled. Every message is handled or a dead letter, in the order of its key where the
/// group is ordered; again only where its consumer was away; and leaving costs no message an attempt.
struct Topics {
    name: &'static str,
    is_ordered: bool,
}

/// What a run is like.
#[derive(Debug, Clone, Copy)]
struct Settings {
    is_ordered: bool,
    lease: Duration,
    partitions: u32,
    concurrency: usize,
    prefetch: usize,
    messages: usize,
}

const PROCESSES: [&str; 3] = ["ann", "bob", "cem"];
const LIMIT: Duration = Duration::from_secs(300);

impl Scenario for Topics {
    fn name(&self) -> &'static str {
        self.name
    }

    fn pattern(&self) -> &'static str {
        "topic"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        faults::that_keep_data()
    }

    fn marks(&self) -> &'static [&'static str] {
        &[
            "published",
            "handled",
            "failed",
            "buried",
            "left",
            "consumed",
        ]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let messages = context.operations(10);
        let random = context.random();
        let settings = Settings {
            is_ordered: self.is_ordered,
            lease: Duration::from_millis(random.random_range(500..=1_000)),
            partitions: random.random_range(1..=3),
            concurrency: random.random_range(1..=3),
            prefetch: random.random_range(0..=2),
            messages,
        };
        let notes = Notes::default();
        let mut world = context.world(WorldOptions::default());
        for name in PROCESSES {
            let notes = notes.clone();
            world.process(name, move |process| {
                consume(process, settings, notes.clone())
            });
        }
        let seen = notes.clone();
        // No fault befalls this one.
        world.process("eve", move |process| {
            see_to_the_end(process, settings, seen.clone())
        });
        let is_done = world.run_until_done(LIMIT);
        judge(&notes, settings)?;
        faults::ends(is_done, &world)
    }
}
