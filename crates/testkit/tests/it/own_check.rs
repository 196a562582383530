//! The check of `docs/simulation.md`, which has to be this one.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::Command;
use redkit_testkit::simulation::{
    Campaign, FaultKind, FaultMenu, Scenario, ScenarioContext, Violation, WorldOptions, shrink,
};
use tokio::time::sleep;

// <check>
struct Selling;

impl Scenario for Selling {
    fn name(&self) -> &'static str {
        "selling"
    }
    fn pattern(&self) -> &'static str {
        "shop"
    }
    fn processes(&self) -> usize {
        3
    }
    fn faults(&self) -> FaultMenu {
        FaultMenu::all().without(&[
            FaultKind::Failover,
            FaultKind::FlushAll,
            FaultKind::RestartServer,
        ])
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let mut world = context.world(WorldOptions::new());
        let sold = Arc::new(Mutex::new(Vec::new()));
        let orders = context.operations(20);
        for name in ["north", "south", "west"] {
            let sold = Arc::clone(&sold);
            world.process(name, move |process| {
                let sold = Arc::clone(&sold);
                async move {
                    let client = process.client();
                    for _ in 0..orders {
                        sleep(Duration::from_millis(process.random_range(0..100))).await;
                        if let Ok(number) = client
                            .call::<i64>(Command::new("INCR").key("last-sold"))
                            .await
                        {
                            process.note(|| format!("sells number {number}"));
                            sold.lock().push(number);
                        }
                    }
                }
            });
        }
        world.run_until_done(Duration::from_secs(600));
        let mut sold = sold.lock().clone();
        sold.sort_unstable();
        match sold.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(twice) => Err(Violation::new("sold once", world.now())
                .fact(world.now(), format!("{} was sold twice", twice[0]))),
        }
    }
}

// </check>

#[test]
fn a_check_of_ones_own_holds() {
    let report = Campaign::new(0..60).run(&Selling);
    assert!(
        report.violation.is_none(),
        "{}",
        shrink(&Selling, &report.violation.unwrap())
            .run
            .story
            .join("\n")
    );
}

/// Apart from how it is laid out.
#[test]
fn the_documentation_has_the_check_that_is_compiled() {
    let words = |text: &str| {
        text.split_whitespace()
            .collect::<String>()
            .replace(",}", "}")
            .replace(",)", ")")
    };
    let compiled = include_str!("own_check.rs");
    let compiled = compiled.split("// <check>").nth(1).unwrap();
    let compiled = compiled.split("// </check>").next().unwrap();
    let documented = words(include_str!("../../../../docs/simulation.md"));
    assert!(documented.contains(&words(compiled)));
}
