//! `cargo xtask …`: the maintainers' commands. This file only dispatches; each command has a module.

mod backends;
mod bench;
mod chaos;
mod ci;
mod doctor;
mod matrix;
mod provision;
mod test;
mod totals;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xshell::Shell;

/// An error to be shown to who called the command.
type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs all tests on the backends, after providing the servers that are missing, and says what
    /// it left out.
    Test {
        /// The backends, as a list with commas.
        #[arg(long)]
        backends: Option<String>,
        /// What the test programs are given: a filter, `--nocapture`, …
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Runs the suites on every server, topology and driver, and prints one table.
    Matrix {
        /// The backends, as a list with commas; all when none are named.
        #[arg(long)]
        backends: Option<String>,
    },
    /// Breaks servers under load and prints figures.
    Chaos {
        /// Whose scenarios: `core`, …
        subject: String,
        /// Which; all of them when none is named.
        #[arg(long)]
        scenario: Option<String>,
        /// Lists them.
        #[arg(long)]
        list: bool,
    },
    /// Runs everything that must hold before a change lands.
    Ci,
    /// Says what this machine has and what it lacks.
    Doctor,
    /// Runs a benchmark beside its peers and writes its part of docs/benchmarks.md.
    Bench {
        /// Which: `core`, …
        name: String,
        /// Fails when a stated target is missed.
        #[arg(long)]
        check: bool,
        /// Measures less, for a first look.
        #[arg(long)]
        quick: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode, Failure> {
    let sh = Shell::new()?;
    // Relative paths below are the workspace's, wherever the command was called.
    sh.change_dir(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .canonicalize()?,
    );
    match task {
        Task::Test {
            backends,
            arguments,
        } => test::run(&sh, backends.as_deref(), &arguments),
        Task::Matrix { backends } => matrix::run(&sh, backends.as_deref()),
        Task::Chaos {
            subject,
            scenario,
            list,
        } => chaos::run(&sh, &subject, scenario.as_deref(), list),
        Task::Ci => ci::run(&sh),
        Task::Doctor => doctor::run(&sh),
        Task::Bench { name, check, quick } => bench::run(&sh, &name, check, quick),
    }
}
