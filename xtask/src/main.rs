//! `cargo xtask …`: the maintainers' commands. This file only dispatches; each command has a module.

mod backends;
mod bench;
mod book;
mod browser;
mod chaos;
mod ci;
mod doctor;
mod failures;
mod links;
mod matrix;
mod provision;
mod simulate;
mod test;
mod totals;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xshell::Shell;

/// An error to be shown to the caller of the command.
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
        #[arg(long, help = backends_help("those that are not left out"))]
        backends: Option<String>,
        /// What the test programs are given: a filter, `--nocapture`, …
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Runs the suites on every server, topology and driver, and prints one table.
    Matrix {
        #[arg(long, help = backends_help("all"))]
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
    /// Simulates fleets in virtual time, with faults from seeds, and tells the story of what goes wrong.
    #[command(disable_help_flag = true)]
    Simulate {
        /// `--pattern`, `--seeds`, `--from`, `--seed` with `--trace`, …; `--help` explains them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Drives headless Chromium through the pages, after providing it.
    Browser {
        /// Which scenarios: `dashboard`, …; all of them when none is named.
        scenarios: Vec<String>,
        /// Writes the screenshots of the documentation.
        #[arg(long)]
        update_images: bool,
    },
    /// Runs everything that must hold before a change lands.
    Ci,
    /// Checks the links of all documents: each leads to a file, and to a heading in it.
    Links,
    /// Builds docs/ as a book, with mdBook.
    Book,
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

/// The help of `--backends`, with the names that it takes.
fn backends_help(default: &str) -> String {
    let names = backends::names_of(backends::BACKENDS.iter());
    format!("The backends, as a list with commas: {names} [default: {default}]")
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
        } => test::run(&sh, test::CRATES, backends.as_deref(), &arguments),
        Task::Matrix { backends } => matrix::run(&sh, backends.as_deref()),
        Task::Chaos {
            subject,
            scenario,
            list,
        } => chaos::run(&sh, &subject, scenario.as_deref(), list),
        Task::Simulate { arguments } => simulate::run(&sh, &arguments),
        Task::Browser {
            scenarios,
            update_images,
        } => browser::run(&sh, test::CRATES, &scenarios, update_images),
        Task::Ci => ci::run(&sh),
        Task::Links => links::run(&sh),
        Task::Book => book::run(&sh),
        Task::Doctor => doctor::run(&sh),
        Task::Bench { name, check, quick } => bench::run(&sh, &name, check, quick),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_help_names_every_backend() {
        for command in ["test", "matrix"] {
            let mut arguments = Arguments::command();
            let command = arguments.find_subcommand_mut(command).unwrap();
            let help = command.render_long_help().to_string();
            for backend in backends::BACKENDS {
                assert!(help.contains(backend.name), "{}: {help}", backend.name);
            }
        }
    }
}
