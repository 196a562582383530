//! A seed gives the same run in every process: the hashes of all messages, faults and notes are the same.

use std::process::Command;

use redkit_simulation::all;
use redkit_testkit::simulation::{IS_REPEATABLE, Scenario, simulate};

const SEEDS: std::ops::Range<u64> = 1..3;

fn hashes() -> Vec<String> {
    let mut hashes = Vec::new();
    for scenario in all().iter().filter(|scenario| is_repeatable(&***scenario)) {
        for seed in SEEDS {
            let run = simulate(&**scenario, seed);
            hashes.push(format!("{} {seed} {:016x}", scenario.name(), run.hash));
        }
    }
    hashes
}

/// Elsewhere several tasks of a process wait for one `watch`, of which tokio wakes any one first.
fn is_repeatable(scenario: &dyn Scenario) -> bool {
    IS_REPEATABLE || ["core-increments", "core-leases"].contains(&scenario.name())
}

/// Not a test: the other process of the test beside it.
#[test]
#[ignore = "it is a child of the test beside it"]
fn child() {
    for hash in hashes() {
        println!("> {hash}");
    }
}

#[test]
fn a_seed_gives_the_same_run_in_two_processes() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["repeatable::child", "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let theirs = text.lines().filter_map(|line| line.strip_prefix("> "));
    let theirs: Vec<_> = theirs.collect();
    assert!(!theirs.is_empty(), "{text}");
    assert_eq!(hashes(), theirs);
}
