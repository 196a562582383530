//! `cargo xtask doctor`: what this machine has, and what to do about what it lacks.

use std::process::ExitCode;

use xshell::{Shell, cmd};

use crate::Failure;
use crate::provision::{REDIS, VALKEY};

/// Prints a line for everything that building and testing need. Fails when something is missing
/// that no other command provides.
pub(crate) fn run(sh: &Shell) -> Result<ExitCode, Failure> {
    let mut healthy = true;
    let mut line = |what: &str, state: Result<String, String>| match state {
        Ok(found) => println!("ok       {what:<14} {found}"),
        Err(fix) => {
            healthy = false;
            println!(
                "missing  {what:<14} {}",
                fix.replace('\n', "\n                        ")
            );
        }
    };

    let wanted = crate::ci::rust_version(sh)?;
    line(
        "rustc",
        crate::ci::toolchain(sh)
            .map_err(|e| e.to_string())
            .and_then(|have| match have >= wanted {
                true => Ok(format!("{}.{}.{}", have.0, have.1, have.2)),
                false => Err(format!(
                    "redkit needs {}.{} or later: rustup update",
                    wanted.0, wanted.1
                )),
            }),
    );
    line(
        "cc",
        first_line(
            sh,
            "cc",
            "a C compiler builds Lua and ring: apt install build-essential",
        ),
    );
    for (component, fix) in [
        ("clippy", "rustup component add clippy"),
        ("fmt", "rustup component add rustfmt"),
    ] {
        let found = cmd!(sh, "cargo {component} --version")
            .quiet()
            .ignore_stderr()
            .read();
        line(component, found.map_err(|_| fix.to_owned()));
    }
    for server in [REDIS, VALKEY] {
        let state = match server.find(sh) {
            Ok(Some(found)) => Ok(format!("{} {}", found.version, found.path.display())),
            // What `cargo xtask test` provides by itself is not missing.
            Ok(None) if has_apt(sh) => {
                Ok("not here; `cargo xtask test` unpacks it under target/servers".to_owned())
            }
            Ok(None) => Err(server.how_to_install("it is not here, and there is no apt")),
            Err(error) => Err(error.to_string()),
        };
        line(server.executable, state);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    line("cores", Ok(cores.to_string()));
    Ok(match healthy {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn has_apt(sh: &Shell) -> bool {
    ["apt-get", "dpkg-deb"]
        .iter()
        .all(|program| first_line(sh, program, "").is_ok())
}

fn first_line(sh: &Shell, program: &str, fix: &str) -> Result<String, String> {
    cmd!(sh, "{program} --version")
        .quiet()
        .ignore_stderr()
        .read()
        .map(|output| output.lines().next().unwrap_or_default().to_owned())
        .map_err(|_| fix.to_owned())
}
