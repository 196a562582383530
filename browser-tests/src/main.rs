//! The pages of redkit in headless Chromium: `cargo xtask browser` provides what this program needs, and calls it.

mod browser;
mod driver;
mod scenarios;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

/// An error to be shown.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs scenarios.
    Run {
        /// Which; all of them when none is named.
        scenarios: Vec<String>,
        /// Writes the screenshots of the documentation.
        #[arg(long)]
        update_images: bool,
    },
    /// The dashboard's second process, which the scenario starts and talks to by lines.
    DashboardWorker {
        /// The server's URL.
        url: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Task::Run {
            scenarios,
            update_images,
        } => run(&scenarios, update_images).await,
        Task::DashboardWorker { url } => scenarios::dashboard::worker::run(&url).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(chosen: &[String], update_images: bool) -> Result<(), Failure> {
    let all = ["dashboard", "storefront"];
    if let Some(unknown) = chosen.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("there is no scenario `{unknown}`; there are {all:?}").into());
    }
    for name in all {
        if !chosen.is_empty() && !chosen.iter().any(|other| other == name) {
            continue;
        }
        let begun = Instant::now();
        println!("== {name}");
        match name {
            "dashboard" => scenarios::dashboard::run(update_images).await?,
            "storefront" => scenarios::storefront::run(update_images).await?,
            other => return Err(format!("{other} has no scenario").into()),
        }
        println!("== {name}: passed in {} s", begun.elapsed().as_secs());
    }
    Ok(())
}
