//! The scenarios in a few seconds. `cargo xtask simulate` runs them for longer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod repeatable;

use std::collections::BTreeSet;
use std::time::Duration;

use redkit_simulation::{FAILED_ONCE, UNEXPLAINED, all};
use redkit_testkit::simulation::{Campaign, shrink, simulate};

/// For each scenario. Together they stay under ten seconds.
const TIME: Duration = Duration::from_millis(300);

#[test]
fn every_scenario_holds_for_some_seeds() {
    let is_explained = |name| !UNEXPLAINED.iter().any(|(other, _)| *other == name);
    for scenario in all()
        .into_iter()
        .filter(|scenario| is_explained(scenario.name()))
    {
        let report = Campaign::new(0..200).limit(TIME).run(&*scenario);
        println!("{report}");
        if let Some(run) = report.violation {
            let shrunk = shrink(&*scenario, &run);
            let story = shrunk.run.story.join("\n");
            let violation = run.violation.unwrap();
            panic!("{} {}: {violation}\n{story}", scenario.name(), run.seed);
        }
        assert!(report.seeds > 0);
    }
}

/// A library that refuses everything violates nothing: this is what notices.
#[test]
fn every_scenario_reaches_what_it_is_for() {
    const SEEDS: u64 = 40;
    for scenario in all() {
        let name = scenario.name();
        let mut left: BTreeSet<_> = scenario.marks().iter().copied().collect();
        assert!(!left.is_empty(), "{name} has no marks");
        let mut seeds = 0..SEEDS;
        while !left.is_empty() {
            let Some(seed) = seeds.next() else {
                panic!("{name} has not reached {left:?} in {SEEDS} seeds");
            };
            for mark in simulate(&*scenario, seed).marks.keys() {
                assert!(
                    scenario.marks().contains(mark),
                    "{name} does not name its mark {mark}"
                );
                left.remove(mark);
            }
        }
    }
}

#[test]
fn seeds_that_failed_once_hold() {
    for (name, seed) in FAILED_ONCE {
        let scenario = all().into_iter().find(|scenario| scenario.name() == *name);
        let scenario = scenario.unwrap_or_else(|| panic!("there is no {name}"));
        let run = simulate(&*scenario, *seed);
        assert_eq!(run.violation, None, "{name} {seed}");
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = all().iter().map(|scenario| scenario.name()).collect();
    let number = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), number);
}
