//! `cargo xtask test`: all tests on the backends, and what was left out.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::num::NonZero;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use xshell::{Shell, cmd};

use crate::Failure;
use crate::backends::{BACKENDS, Backend, chosen, names_of, servers};
use crate::failures::Failures;
use crate::totals::Totals;

/// Packages and their features, as cargo is told them. Cargo chooses the features of what these depend on for all of
/// them together: steps that name the same selection share what they build.
pub(crate) type Selection = &'static [&'static str];

/// What the tests of the crates need and no more: the benchmarks' peers are some ninety crates, and each of the
/// patterns' programs is linked.
pub(crate) const CRATES: Selection = &[
    "--workspace",
    "--all-features",
    "--exclude",
    "redkit-benches",
    "--exclude",
    "patterns",
];

/// The benchmarks and the patterns' programs as well, which have tests of their own.
pub(crate) const EVERYTHING: Selection = &["--workspace", "--all-features"];

/// How many tests a program runs at once, as the test runner is told.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// The runner would take one for each core. But tests wait, for servers and for time to pass: on two cores they use a
/// fifth of the processors.
fn at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    cores.max(3)
}

/// Provides what `backends` need, runs the tests of `selection`, and says what ran. Gives cargo's exit code.
pub(crate) fn run(
    sh: &Shell,
    selection: Selection,
    backends: Option<&str>,
    arguments: &[String],
) -> Result<ExitCode, Failure> {
    let backends = chosen(backends)?;
    let names = names_of(backends.iter().copied());
    let mut cargo = cargo(sh);
    cargo
        .arg("test")
        .args(selection)
        .arg("--no-fail-fast")
        .arg("--")
        .args(arguments)
        .env("REDKIT_TEST_BACKENDS", &names)
        .stdout(Stdio::piped());
    if std::env::var_os(TEST_THREADS).is_none() {
        cargo.env(TEST_THREADS, at_once().to_string());
    }
    if std::io::stdout().is_terminal() {
        // Its output goes through a pipe, where it would take colours for unwanted.
        cargo.arg("--color=always");
    }
    let provided = provide(sh, &backends, &mut cargo)?;

    let started = Instant::now();
    let mut child = cargo.spawn()?;
    let mut totals = Totals::default();
    let mut failures = Failures::default();
    if let Some(output) = child.stdout.take() {
        let mut own = std::io::stdout().lock();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            let text = String::from_utf8_lossy(&line);
            totals.add(&text);
            failures.add(&text);
            own.write_all(&line)?;
            own.write_all(b"\n")?;
        }
    }
    let status = child.wait()?;

    println!("\n== cargo xtask test, {} s", started.elapsed().as_secs());
    println!("ran on    {names}");
    for line in left_out(&backends) {
        println!("left out  {line}");
    }
    for server in provided {
        println!("server    {server}");
    }
    println!("tests     {totals}");
    print!("{failures}");
    Ok(exit_code(status))
}

/// Provides what `backends` need and names it to `program`. Says what was found.
pub(crate) fn provide(
    sh: &Shell,
    backends: &[&'static Backend],
    program: &mut Command,
) -> Result<Vec<String>, Failure> {
    let mut provided = Vec::new();
    for server in servers(backends) {
        let found = server.provide(sh)?;
        program.env(server.variable, &found.path);
        let (name, path) = (server.name, found.path.display());
        provided.push(format!("{name} {} ({path})", found.version));
    }
    Ok(provided)
}

fn left_out(run: &[&Backend]) -> Vec<String> {
    let is_run = |name| run.iter().any(|backend| backend.name == name);
    let left_out = BACKENDS.iter().filter(|backend| !is_run(backend.name));
    let mut lines: Vec<_> = left_out
        .map(|backend| match backend.left_out {
            Some(why) => format!("{}: {why}", backend.name),
            None => format!("{}: not named", backend.name),
        })
        .collect();
    match lines.is_empty() {
        true => vec!["nothing".to_owned()],
        false => {
            lines.push("(their tests return at once, and count as passed)".to_owned());
            lines
        }
    }
}

/// Cargo in the folder of `sh` and with its environment.
pub(crate) fn cargo(sh: &Shell) -> Command {
    cmd!(sh, "cargo").into()
}

/// The code of a process, for handing on.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    // No code: it died by a signal.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_left_out_are_named_with_the_reason() {
        let all: Vec<_> = BACKENDS.iter().collect();
        assert_eq!(left_out(&all), ["nothing"]);
        let lines = left_out(&chosen(Some("embedded")).unwrap());
        assert!(lines.contains(&"tls: not named".to_owned()), "{lines:?}");
        assert_eq!(lines.len(), BACKENDS.len());
    }
}
