//! `cargo xtask simulate`: fleets in virtual time, with faults from seeds.

use std::process::ExitCode;

use xshell::Shell;

use crate::Failure;
use crate::test::{cargo, exit_code};

/// Runs the program `simulate`, optimised, with these arguments. Gives its exit code: it fails when something
/// that is promised did not hold.
pub(crate) fn run(sh: &Shell, arguments: &[String]) -> Result<ExitCode, Failure> {
    let status = cargo(sh)
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
        )
        .status()?;
    Ok(exit_code(status))
}

/// About a minute of seeds that no day before has tried, and those that failed once.
pub(crate) fn a_minute(sh: &Shell) -> Result<(), Failure> {
    let arguments = ["--seconds", "60", "--seeds", "1000000"].map(str::to_owned);
    match run(sh, &arguments)? == ExitCode::SUCCESS {
        true => Ok(()),
        false => Err("something that is promised did not hold".into()),
    }
}
