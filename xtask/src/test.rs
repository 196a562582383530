//! `cargo xtask test`: all tests on every backend.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use xshell::Shell;

use crate::Failure;
use crate::provision::{REDIS, Server, VALKEY};

/// The backends that are tested when none are named.
pub(crate) const BACKENDS: &str = "embedded,redis,valkey,tls";

/// Provides what `backends` need, runs the tests, and says what ran. Gives cargo's exit code.
pub(crate) fn run(sh: &Shell, backends: &str, arguments: &[String]) -> Result<ExitCode, Failure> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--workspace", "--all-features", "--no-fail-fast"])
        .arg("--")
        .args(arguments)
        .current_dir(sh.current_dir())
        .env("REDKIT_TEST_BACKENDS", backends)
        .stdout(Stdio::piped());
    if std::io::stdout().is_terminal() {
        // Its output goes through a pipe, where it would take colours for unwanted.
        cargo.arg("--color=always");
    }
    let mut servers = Vec::new();
    for server in servers_for(backends)? {
        let found = server.provide(sh)?;
        cargo.env(server.variable, &found.path);
        servers.push(format!(
            "{} {} ({})",
            server.name,
            found.version,
            found.path.display()
        ));
    }

    let started = Instant::now();
    let mut child = cargo.spawn()?;
    let mut totals = Totals::default();
    if let Some(output) = child.stdout.take() {
        let mut own = std::io::stdout().lock();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            totals.add(&String::from_utf8_lossy(&line));
            own.write_all(&line)?;
            own.write_all(b"\n")?;
        }
    }
    let status = child.wait()?;

    println!("\n== cargo xtask test, {} s", started.elapsed().as_secs());
    println!("ran on    {backends}");
    println!("left out  {}", left_out(backends));
    for server in servers {
        println!("server    {server}");
    }
    println!("{totals}");
    Ok(exit_code(status))
}

/// What each backend's tests need.
fn servers_for(backends: &str) -> Result<Vec<&'static Server>, Failure> {
    let mut servers: Vec<&Server> = Vec::new();
    for backend in names(backends) {
        let server = match backend {
            "embedded" => continue,
            "redis" | "tls" => &REDIS,
            "valkey" => &VALKEY,
            _ => {
                return Err(format!("no backend `{backend}`; there are {BACKENDS}").into());
            }
        };
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    if names(backends).next().is_none() {
        return Err(format!("no backend is named; there are {BACKENDS}").into());
    }
    Ok(servers)
}

fn names(backends: &str) -> impl Iterator<Item = &str> {
    backends
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

fn left_out(backends: &str) -> String {
    let left_out: Vec<_> = names(BACKENDS)
        .filter(|known| !names(backends).any(|named| named == *known))
        .collect();
    match left_out.is_empty() {
        true => "nothing".to_owned(),
        false => format!(
            "{} (their tests return at once, and count as passed)",
            left_out.join(",")
        ),
    }
}

/// The code of a process, for handing on.
pub(crate) fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    // No code: it died by a signal.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(u8::MAX))
}

/// What the test programs counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Totals {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        self.programs += 1;
        let words: Vec<_> = counts
            .split([' ', ';', '.'])
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            if let [count, what] = pair
                && let Ok(count) = count.parse::<u64>()
            {
                match *what {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" => self.ignored += count,
                    _ => {}
                }
            }
        }
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "tests     {} passed, {} failed, {} ignored, in {} programs",
            self.passed, self.failed, self.ignored, self.programs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_summed_over_programs_and_colours() {
        let mut totals = Totals::default();
        totals.add("running 5 tests");
        totals.add("test result: \u{1b}[32mok\u{1b}[m. 3 passed; 0 failed; 2 ignored; 0 measured; 9 filtered out; finished in 0.10s");
        totals.add("test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured");
        let sum = Totals {
            programs: 2,
            passed: 4,
            failed: 1,
            ignored: 2,
        };
        assert_eq!(totals, sum);
    }

    #[test]
    fn each_server_is_provided_once_and_unknown_backends_are_refused() {
        let names = |backends| {
            servers_for(backends).map(|all| all.iter().map(|s| s.name).collect::<Vec<_>>())
        };
        assert_eq!(names("redis, tls,embedded").unwrap(), ["redis"]);
        assert_eq!(names(BACKENDS).unwrap(), ["redis", "valkey"]);
        assert!(names("reddis").is_err());
        assert!(names(" , ").is_err());
    }
}
