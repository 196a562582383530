//! Runs of scenarios: they are repeatable, shrunk, and no panic is swallowed.

use std::time::Duration;

use redkit_core::{ClientConfig, Command, Interest, Value};
use tokio::time::sleep;

use super::*;

/// Does a little of everything.
struct Everything;

impl Scenario for Everything {
    fn name(&self) -> &'static str {
        "everything"
    }

    fn pattern(&self) -> &'static str {
        "testkit"
    }

    fn processes(&self) -> usize {
        3
    }

    fn servers(&self) -> usize {
        2
    }

    fn faults(&self) -> FaultMenu {
        FaultMenu::all()
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let mut world = context.world(WorldOptions::new());
        let operations = context.operations(60);
        for name in ["a", "b", "c"] {
            world.process(name, move |process| async move {
                let client = process.client();
                let other = process.client_with(ServerId(1), &ClientConfig::default());
                let interest = Interest::Channels(vec!["news".into()]);
                let subscription = client.subscribe(interest).await;
                for n in 0..operations {
                    sleep(ms(process.random_range(0..200))).await;
                    let number: u64 = redkit_core::random::random();
                    let client = if process.chance(0.5) { &client } else { &other };
                    let set = Command::new("SET").key("k").arg(number).idempotent(true);
                    let set = client.call::<Value>(set).await;
                    let publish = Command::new("PUBLISH").arg("news").arg(n);
                    let publish = client.call::<Value>(publish).await;
                    process.note(|| format!("{number} {} {}", set.is_ok(), publish.is_ok()));
                }
                drop(subscription);
            });
        }
        world.run_until_done(Duration::from_secs(300));
        Ok(())
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        let one = simulate_and_tell(&Everything, seed, Detail::Messages);
        let other = simulate_and_tell(&Everything, seed, Detail::Messages);
        assert_eq!(one.violation, None);
        assert_eq!(one.story, other.story, "seed {seed}");
        assert_eq!(one.hash, other.hash, "seed {seed}");
    }
    assert_ne!(simulate(&Everything, 1).hash, simulate(&Everything, 2).hash);
}

/// Goes wrong when a process is killed after another fault, and only with a few operations.
struct Fragile;

impl Scenario for Fragile {
    fn name(&self) -> &'static str {
        "fragile"
    }

    fn pattern(&self) -> &'static str {
        "testkit"
    }

    fn processes(&self) -> usize {
        1
    }

    fn faults(&self) -> FaultMenu {
        FaultMenu::all().at_most(30)
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let _world = context.world(WorldOptions::new());
        let operations = context.operations(100);
        let kinds = context
            .schedule()
            .faults
            .iter()
            .map(|planned| planned.fault.kind());
        let kinds: Vec<_> = kinds.collect();
        let cut = kinds.iter().position(|kind| *kind == FaultKind::Cut);
        let killed = kinds
            .iter()
            .rposition(|kind| *kind == FaultKind::KillProcess);
        match (cut, killed) {
            (Some(cut), Some(killed)) if cut < killed && operations >= 7 => {
                Err(Violation::new("killed after a cut", ms(0)))
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn a_violation_is_shrunk_to_what_it_needs() {
    let report = Campaign::new(0..1_000).threads(2).run(&Fragile);
    let run = report.violation.expect("some schedule has both");
    let shrunk = shrink(&Fragile, &run);
    let kinds = shrunk
        .run
        .schedule
        .faults
        .iter()
        .map(|planned| planned.fault.kind());
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds, [FaultKind::Cut, FaultKind::KillProcess]);
    assert_eq!(shrunk.operations, 7);
    assert!(shrunk.faults_before > 2 && shrunk.tries > 0);
}

#[test]
fn a_panic_of_any_task_is_a_violation() {
    struct Panics;
    impl Scenario for Panics {
        fn name(&self) -> &'static str {
            "panics"
        }

        fn pattern(&self) -> &'static str {
            "testkit"
        }

        fn processes(&self) -> usize {
            1
        }

        fn faults(&self) -> FaultMenu {
            FaultMenu::none()
        }

        fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
            let mut world = context.world(WorldOptions::new());
            world.process("a", |_| async {
                tokio::spawn(async { panic!("a task dies") });
                sleep(ms(10)).await;
            });
            world.run_until_done(ms(100));
            Ok(())
        }
    }
    let violation = simulate(&Panics, 1).violation.unwrap().to_string();
    assert!(violation.contains("a task dies"), "{violation}");
}

/// Asks for what the server always refuses, and once for what it does.
struct Refused {
    faults: FaultMenu,
}

impl Scenario for Refused {
    fn name(&self) -> &'static str {
        "refused"
    }

    fn pattern(&self) -> &'static str {
        "testkit"
    }

    fn processes(&self) -> usize {
        1
    }

    fn faults(&self) -> FaultMenu {
        self.faults.clone()
    }

    fn marks(&self) -> &'static [&'static str] {
        &["served", "answered"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let mut world = context.world(WorldOptions::new());
        world.process("a", |process| async move {
            let client = process.client();
            // Whatever is planned has happened.
            sleep(Duration::from_secs(60)).await;
            let set = Command::new("SET").key("k").arg(1).idempotent(true);
            if client.call::<Value>(set).await.is_ok() {
                process.reached("answered");
            }
            match client
                .call::<i64>(Command::new("LPUSH").key("k").arg(1))
                .await
            {
                Ok(_) => process.reached("served"),
                Err(error) => process.fails("serve", &error),
            }
        });
        world.run_until_done(Duration::from_secs(120));
        Ok(())
    }
}

#[test]
fn a_call_that_fails_while_nothing_goes_wrong_is_a_violation() {
    let refused = Refused {
        faults: FaultMenu::none(),
    };
    let violation = simulate(&refused, 1).violation.unwrap();
    assert_eq!(
        violation.guarantee(),
        "calls succeed while nothing goes wrong"
    );
    let excused = Refused {
        faults: FaultMenu::only(&[FaultKind::FlushAll]),
    };
    let mut runs = (0..40).map(|seed| simulate(&excused, seed));
    let excused = runs.find(|run| !run.faults.is_empty()).unwrap();
    assert_eq!(excused.violation, None);
}

#[test]
fn a_report_names_the_marks_that_no_run_has_reached() {
    let refused = Refused {
        faults: FaultMenu::only(&[FaultKind::FlushAll]),
    };
    let report = Campaign::new(0..3).threads(1).run(&refused);
    assert_eq!(report.never_reached(), ["served"]);
    let text = report.to_string();
    assert!(text.contains("answered, 0 served"), "{text}");
}
