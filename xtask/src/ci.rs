//! `cargo xtask ci`: everything that must hold before a change lands.

mod metadata;
mod package;
mod toolchain;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;
use xshell::{Shell, cmd};

pub(crate) use self::toolchain::{rust_version, toolchain};
use crate::test::{self, CRATES, EVERYTHING};
use crate::{Failure, browser, links, simulate};

type Step = (&'static str, fn(&Shell) -> Result<(), Failure>);

/// The steps, quick ones first. The concurrency models are ordinary tests, and so are the
/// storefront's visits of itself on the embedded engine and on servers.
const STEPS: &[Step] = &[
    ("format", format),
    ("links of the documents", links::check),
    ("what the registry is told of each crate", metadata::check),
    ("toolchain and minimum Rust version", toolchain::check),
    ("clippy, everything", clippy),
    ("clippy, each published crate alone", clippy_alone),
    ("tests on the chosen backends, and doc tests", tests),
    ("simulation, a minute of new seeds", simulate::a_minute),
    ("pages in a browser", pages),
    ("documentation", documentation),
    ("contents of the packages", package::check),
];

/// Runs every step, also after one has failed, so that one run shows all that is wrong.
pub(crate) fn run(sh: &Shell) -> Result<ExitCode, Failure> {
    // A fresh clone builds once: incremental data would only cost time and space.
    let _incremental = sh.push_env("CARGO_INCREMENTAL", "0");
    // Panics name their line without it, and some sixty test programs link the sooner.
    let _debug = sh.push_env("CARGO_PROFILE_DEV_DEBUG", "0");
    let mut results = Vec::new();
    for (name, step) in STEPS {
        println!("\n==== {name}");
        let started = Instant::now();
        let result = step(sh);
        if let Err(failure) = &result {
            println!("FAILED {name}: {failure}");
        }
        results.push((*name, started.elapsed(), result.is_ok()));
    }
    println!("\n==== summary");
    for (name, took, passed) in &results {
        let verdict = if *passed { "ok    " } else { "FAILED" };
        println!("{verdict} {:>6} {name}", seconds(*took));
    }
    let total = results.iter().map(|(_, took, _)| *took).sum();
    println!("       {:>6} altogether", seconds(total));
    Ok(match results.iter().all(|(_, _, passed)| *passed) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn format(sh: &Shell) -> Result<(), Failure> {
    Ok(cmd!(sh, "cargo fmt --all --check").run()?)
}

fn clippy(sh: &Shell) -> Result<(), Failure> {
    Ok(cmd!(
        sh,
        "cargo clippy --workspace --all-targets --all-features -- -D warnings"
    )
    .run()?)
}

/// A crate that compiles only because another one switches a feature on is broken for its users.
fn clippy_alone(sh: &Shell) -> Result<(), Failure> {
    for package in published(sh)? {
        let name = &package.name;
        cmd!(sh, "cargo clippy -p {name} --lib -- -D warnings").run()?;
        if package.has_features {
            cmd!(
                sh,
                "cargo clippy -p {name} --lib --no-default-features -- -D warnings"
            )
            .run()?;
        }
    }
    Ok(())
}

fn tests(sh: &Shell) -> Result<(), Failure> {
    let code = test::run(sh, EVERYTHING, None, &[])?;
    match code == ExitCode::SUCCESS {
        true => Ok(()),
        false => Err("tests failed".into()),
    }
}

fn pages(sh: &Shell) -> Result<(), Failure> {
    match browser::run(sh, EVERYTHING, &[], false)? == ExitCode::SUCCESS {
        true => Ok(()),
        false => Err("a scenario failed".into()),
    }
}

fn documentation(sh: &Shell) -> Result<(), Failure> {
    let _strict = sh.push_env("RUSTDOCFLAGS", "-D warnings");
    Ok(cmd!(sh, "cargo doc {CRATES...} --no-deps").run()?)
}

/// A crate that goes to the registry.
struct Published {
    name: String,
    /// The folder of its manifest.
    folder: std::path::PathBuf,
    has_features: bool,
}

fn published(sh: &Shell) -> Result<Vec<Published>, Failure> {
    let metadata = cmd!(sh, "cargo metadata --no-deps --format-version 1")
        .quiet()
        .read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata lists no packages")?;
    let found: Vec<_> = packages
        .iter()
        // `publish = false` shows as an empty list of registries, the default as null.
        .filter(|package| package["publish"].is_null())
        .filter_map(|package| {
            Some(Published {
                name: package["name"].as_str()?.to_owned(),
                folder: std::path::Path::new(package["manifest_path"].as_str()?)
                    .parent()?
                    .to_owned(),
                has_features: package["features"]
                    .as_object()
                    .is_some_and(|all| !all.is_empty()),
            })
        })
        .collect();
    match found.is_empty() {
        true => Err("no crate is published".into()),
        false => Ok(found),
    }
}
