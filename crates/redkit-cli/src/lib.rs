//! The program `redkit`: what redkit's patterns need of a Redis or Valkey (`doctor`), what they do there (`watch`,
//! `dashboard`, `keys`, `locks`, `limits`, `sessions`, `topics`), and acting on it. `redkit --help` describes every command; this
//! library is the program's inside and promises nothing to other programs.
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     redkit_cli::main()
//! }
//! ```
//!
//! `docs/cli.md` has the fields of every `--json`, and the exit codes.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod args;
mod confirm;
mod connect;
mod dashboard;
mod doctor;
mod failure;
mod format;
mod keys;
mod limits;
mod locks;
mod names;
mod output;
mod sessions;
mod topics;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{Cli, Task};
use self::failure::Failure;

#[doc(hidden)]
pub use self::watch::with_terminal;

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way as well. A reader that is gone is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::new(
            format!("no runtime could be started: {error}"),
            "look at the limits of threads and open files of this user",
        )),
    };
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { common, task } = cli;
    match task {
        Task::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "redkit", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Task::Doctor(args) => doctor::run(&common, &args).await,
        Task::Dashboard(args) => dashboard::run(&common, &args).await,
        Task::Watch(args) => watch::run(&common, &args).await,
        Task::Keys(args) => keys::run(&common, &args).await,
        Task::Locks(args) => locks::run(&common, args).await,
        Task::Limits(args) => limits::run(&common, args).await,
        Task::Sessions(args) => sessions::run(&common, args).await,
        Task::Topics(args) => topics::run(&common, args).await,
    }
}
