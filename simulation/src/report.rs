//! What the program prints.

use redkit_testkit::simulation::{Run, Scenario, shrink};

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
