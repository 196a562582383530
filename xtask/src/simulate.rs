//! `cargo xtask simulate`: fleets in virtual time, with faults from seeds.

use std::process::{Command, ExitCode};

use xshell::Shell;

use crate::Failure;
use crate::test::{cargo, exit_code};

/// Runs the program `simulate`, optimised, with these arguments. Gives its exit code: it fails when something
/// that is promised did not hold.
pub(crate) fn run(sh: &Shell, arguments: &[String]) -> Result<ExitCode, Failure> {
    Ok(exit_code(program(sh, arguments).status()?))
}

fn program(sh: &Shell, arguments: &[String]) -> Command {
    let mut cargo = cargo(sh);
    cargo
        .args([
            "run",
            "--profile",
            "simulation",
            "-p",
            "redkit-simulation",
            "--features",
            "fast-allocator",
            "--bin",
            "simulate",
            "--",
        ])
        .args(arguments)
        // What tokio chooses at random follows from the seed then. It concerns all crates, so they are
        // built apart from the others.
        .env("RUSTFLAGS", "--cfg tokio_unstable")
        .env(
            "CARGO_TARGET_DIR",
            sh.current_dir().join("target/simulation"),
        );
    cargo
}

/// About a minute of seeds that no day before has tried, and those that failed once.
pub(crate) fn a_minute(sh: &Shell) -> Result<(), Failure> {
    let arguments = ["--seconds", "60", "--seeds", "1000000"].map(str::to_owned);
    // A minute does not make up for what it takes to optimise across crates.
    let status = program(sh, &arguments)
        .env("CARGO_PROFILE_SIMULATION_LTO", "off")
        .env("CARGO_PROFILE_SIMULATION_CODEGEN_UNITS", "16")
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err("something that is promised did not hold".into()),
    }
}
