//! What the program prints.

use redkit_testkit::simulation::{Report, Run, Scenario, shrink};

/// The scenarios by their patterns.
pub(crate) fn list(scenarios: &[Box<dyn Scenario>]) {
    for scenario in scenarios {
        println!("{:<16} {}", scenario.pattern(), scenario.name());
    }
}

/// A run, with its story.
pub(crate) fn run(scenario: &dyn Scenario, run: &Run) {
    println!("{} with seed {}:", scenario.name(), run.seed);
    for line in &run.story {
        println!("  {line}");
    }
    println!("hash {:016x}", run.hash);
    match &run.violation {
        Some(violation) => println!("VIOLATION: {violation}"),
        None => println!("nothing is violated"),
    }
}

/// So many seeds of a scenario reach all its marks.
const ENOUGH_SEEDS: u64 = 100;

/// Why seeds in which nothing was violated say nothing.
pub(crate) fn checked_too_little(report: &Report) -> Option<String> {
    if report.seeds == 0 {
        return Some(format!("{}: no time was left for a seed", report.scenario));
    }
    let never = report.never_reached();
    let is_told = report.seeds >= ENOUGH_SEEDS && !never.is_empty();
    is_told.then(|| {
        format!(
            "{} has never reached: {}",
            report.scenario,
            never.join(", ")
        )
    })
}

/// A run that went wrong, as short as it gets.
pub(crate) fn shrunk(scenario: &dyn Scenario, run: &Run) {
    if let Some(violation) = &run.violation {
        println!(
            "VIOLATION of {} with seed {}: {violation}",
            scenario.name(),
            run.seed
        );
    }
    let shrunk = shrink(scenario, run);
    println!(
        "\nthe same with {} of {} faults and {} operations for each process (found in {} runs):",
        shrunk.run.schedule.faults.len(),
        shrunk.faults_before,
        shrunk.operations,
        shrunk.tries
    );
    for line in &shrunk.run.story {
        println!("  {line}");
    }
    if let Some(violation) = &shrunk.run.violation {
        println!("{violation}");
    }
    println!(
        "\nagain: cargo xtask simulate --pattern {} --seed {} [--trace]\n",
        scenario.name(),
        run.seed
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    fn report(seeds: u64, served: u64) -> Report {
        Report {
            scenario: "shop",
            seeds,
            took: Duration::ZERO,
            faults: BTreeMap::new(),
            marks: BTreeMap::from([("served", served)]),
            violation: None,
        }
    }

    #[test]
    fn a_scenario_without_seeds_or_without_its_marks_is_no_success() {
        assert!(checked_too_little(&report(0, 0)).is_some());
        let text = checked_too_little(&report(ENOUGH_SEEDS, 0)).unwrap_or_default();
        assert_eq!(text, "shop has never reached: served");
        assert_eq!(checked_too_little(&report(ENOUGH_SEEDS, 1)), None);
        assert_eq!(checked_too_little(&report(ENOUGH_SEEDS - 1, 0)), None);
    }
}
