//! `simulate`: runs scenarios over ranges of seeds, and tells the story of a run that went wrong. `cargo xtask
//! simulate` calls it.

mod arguments;
mod report;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use redkit_simulation::{FAILED_ONCE, FEW_SEEDS, UNEXPLAINED, all};
use redkit_testkit::simulation::{
    Campaign, Detail, IS_REPEATABLE, Scenario, simulate, simulate_and_tell,
};

use self::arguments::Arguments;

#[cfg(feature = "fast-allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen: Vec<_> = all()
        .into_iter()
        .filter(|scenario| arguments.chooses(&**scenario))
        .collect();
    if chosen.is_empty() {
        eprintln!("no scenario is called so; there are:");
        report::list(&all());
        return ExitCode::FAILURE;
    }
    if arguments.list {
        report::list(&chosen);
        return ExitCode::SUCCESS;
    }
    if !IS_REPEATABLE {
        eprintln!("built without `--cfg tokio_unstable`: a seed may not give the same run again");
    }
    for (name, seed) in UNEXPLAINED {
        if !chosen.iter().any(|scenario| scenario.name() == *name) {
            println!("left out: {name}, whose violation with seed {seed} is not mended yet");
        }
    }
    for name in FEW_SEEDS {
        if !chosen.iter().any(|scenario| scenario.name() == *name) {
            println!("left out: {name}, of which few seeds were run yet");
        }
    }
    let is_well = match arguments.seed {
        Some(seed) => one(&chosen, seed, arguments.detail()),
        None => many(&chosen, &arguments),
    };
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One seed, told.
fn one(chosen: &[Box<dyn Scenario>], seed: u64, detail: Detail) -> bool {
    let mut is_well = true;
    for scenario in chosen {
        let run = simulate_and_tell(&**scenario, seed, detail);
        report::run(&**scenario, &run);
        if run.violation.is_some() {
            is_well = false;
            report::shrunk(&**scenario, &run);
        }
    }
    is_well
}

/// Ranges of seeds, after those that failed once.
fn many(chosen: &[Box<dyn Scenario>], arguments: &Arguments) -> bool {
    let mut is_well = true;
    let began = Instant::now();
    println!("seeds from {}", arguments.first_seed());
    for (number, scenario) in chosen.iter().enumerate() {
        let scenario = &**scenario;
        let known = FAILED_ONCE
            .iter()
            .filter(|(name, _)| *name == scenario.name());
        for (_, seed) in known {
            let run = simulate(scenario, *seed);
            if run.violation.is_some() {
                is_well = false;
                println!("{} fails again:", scenario.name());
                report::shrunk(scenario, &run);
            }
        }
        let mut campaign = Campaign::new(arguments.seeds());
        if let Some(whole) = arguments.time() {
            // The scenarios that are left share the time that is left.
            let left = whole.saturating_sub(began.elapsed());
            let scenarios = u32::try_from(chosen.len() - number).unwrap_or(u32::MAX);
            campaign = campaign.limit(left / scenarios);
        }
        let found = campaign.run(scenario);
        println!("{found}");
        if let Some(text) = report::checked_too_little(&found) {
            is_well = false;
            println!("{text}");
        }
        if let Some(run) = found.violation {
            is_well = false;
            report::shrunk(scenario, &run);
        }
    }
    is_well
}
