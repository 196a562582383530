//! `cargo xtask bench`: one benchmark program, with the servers that it needs.

use std::process::ExitCode;

use xshell::Shell;

use crate::Failure;
use crate::provision::{REDIS, VALKEY};
use crate::test::{cargo, exit_code};

/// Runs the benchmark `name`, which writes its own part of `docs/benchmarks.md`. Gives its exit
/// code: with `--check` it fails when a stated target is missed.
pub(crate) fn run(sh: &Shell, name: &str, check: bool, quick: bool) -> Result<ExitCode, Failure> {
    let mut cargo = cargo(sh);
    cargo
        .args(["run", "--release", "-p", "redkit-benches", "--bin"])
        .arg(format!("bench-{name}"))
        .arg("--");
    for (flag, wanted) in [("--check", check), ("--quick", quick)] {
        if wanted {
            cargo.arg(flag);
        }
    }
    for server in [REDIS, VALKEY] {
        cargo.env(server.variable, server.provide(sh)?.path);
    }
    Ok(exit_code(cargo.status()?))
}
