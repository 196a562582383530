//! `cargo xtask matrix`: the suites over server, topology and driver.

mod programs;

use std::fmt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use xshell::Shell;

use self::programs::Program;
use crate::Failure;
use crate::backends::{BACKENDS, Backend, chosen};
use crate::failures::failed;
use crate::totals::Totals;

/// Runs each backend's tests, one backend after the other, and prints a table. Without `backends`
/// it runs on all of them, those too that `cargo xtask test` leaves out. Fails when a test failed,
/// also when that was because its server could not be had.
pub(crate) fn run(sh: &Shell, backends: Option<&str>) -> Result<ExitCode, Failure> {
    let backends = match backends {
        None => BACKENDS.iter().collect(),
        list => chosen(list)?,
    };
    let programs = programs::build(sh)?;
    let mut rows = Vec::new();
    for backend in backends {
        println!("\n==== {}", backend.name);
        rows.push(run_backend(sh, backend, &programs)?);
    }
    println!("\n== cargo xtask matrix");
    println!("{}", Row::HEADER);
    for row in &rows {
        println!("{row}");
    }
    for row in &rows {
        for failed in &row.failed {
            println!("failed    {failed}");
        }
        if let Some(why) = &row.not_run {
            println!("not run   {}: {why}", row.backend.name);
        }
    }
    println!("Only tests of suites are here; `cargo xtask test` runs all others, too.");
    Ok(match rows.iter().all(Row::passed) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What one backend's tests gave.
struct Row {
    backend: &'static Backend,
    server: String,
    totals: Totals,
    took: Duration,
    /// The tests that failed, and the programs that died, with their programs.
    failed: Vec<String>,
    /// Why nothing was run.
    not_run: Option<String>,
}

impl Row {
    const HEADER: &'static str = "\
kind            server         topology         driver   passed  failed  ignored  seconds";

    /// A backend with no test at all has not passed.
    fn passed(&self) -> bool {
        self.failed.is_empty() && self.totals.failed == 0 && self.totals.passed > 0
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Backend {
            name,
            topology,
            driver,
            ..
        } = self.backend;
        let Totals {
            passed,
            failed,
            ignored,
            ..
        } = self.totals;
        let (server, took) = (&self.server, self.took.as_secs());
        write!(
            f,
            "{name:<15} {server:<14} {topology:<16} {driver:<8} {passed:>6}  {failed:>6}  \
             {ignored:>7}  {took:>7}"
        )
    }
}

fn run_backend(
    sh: &Shell,
    backend: &'static Backend,
    programs: &[Program],
) -> Result<Row, Failure> {
    let mut row = Row {
        backend,
        server: "none".to_owned(),
        totals: Totals::default(),
        took: Duration::ZERO,
        failed: Vec::new(),
        not_run: None,
    };
    let server = match backend.server.map(|server| (server, server.provide(sh))) {
        None => None,
        Some((server, Ok(found))) => {
            row.server = format!("{} {}", server.name, found.version);
            Some((server.variable, found.path))
        }
        Some((server, Err(why))) => {
            row.server = server.name.to_owned();
            row.not_run = Some(why.to_string());
            return Ok(row);
        }
    };
    let started = Instant::now();
    for program in programs {
        let of_suites = (program.tests_on(backend.name), None);
        let newest = program.tests_of_the_newest(backend.name);
        for (tests, ignored) in [of_suites, (newest, Some("--ignored"))] {
            if tests.is_empty() {
                continue;
            }
            let mut command = program.command();
            command
                .arg("--exact")
                .args(ignored)
                .args(&tests)
                .env("REDKIT_TEST_BACKENDS", backend.name)
                .envs(server.clone())
                .stdin(Stdio::null());
            row.add(program, &mut command)?;
        }
    }
    row.took = started.elapsed();
    Ok(row)
}

impl Row {
    fn add(&mut self, program: &Program, command: &mut Command) -> Result<(), Failure> {
        let output = command.stderr(Stdio::inherit()).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        print!("{}: {said}", program.name);
        let mut totals = Totals::default();
        said.lines().for_each(|line| totals.add(line));
        let failed = said.lines().filter_map(failed);
        let named = failed.map(|name| format!("{}: {name}", program.name));
        self.failed.extend(named);
        // Without this a program that died by a signal would count as one without tests.
        if !output.status.success() && totals.failed == 0 {
            let what = format!("{}: the program ended with {}", program.name, output.status);
            self.failed.push(what);
        }
        self.totals += totals;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            backend: &BACKENDS[0],
            server: "none".to_owned(),
            totals: Totals::default(),
            took: Duration::from_secs(7),
            failed: Vec::new(),
            not_run: None,
        }
    }

    fn add(row: &mut Row, script: &str) {
        let program = Program::for_test("it", &[]);
        row.add(&program, Command::new("sh").args(["-c", script]))
            .unwrap();
    }

    #[test]
    fn a_row_passes_with_tests_that_passed_and_none_that_failed() {
        let ok = "echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured'";
        let mut passed = row();
        assert!(!passed.passed(), "no test has run");
        add(&mut passed, ok);
        assert!(passed.passed());
        let columns: Vec<_> = passed
            .to_string()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        assert_eq!(
            columns,
            [
                "embedded", "none", "in", "the", "process", "none", "3", "0", "1", "7"
            ]
        );

        let mut failed = row();
        add(&mut failed, ok);
        add(
            &mut failed,
            "echo 'test a::redis ... FAILED'; \
             echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; exit 101",
        );
        assert!(!failed.passed());
        assert_eq!(failed.failed, ["it: a::redis"]);
        assert_eq!((failed.totals.passed, failed.totals.failed), (5, 1));
    }

    #[test]
    fn a_program_that_dies_without_a_count_fails_its_row() {
        let mut died = row();
        add(&mut died, "echo 'test result: ok. 3 passed; 0 failed'");
        add(&mut died, "kill -9 $$");
        assert!(!died.passed());
        assert!(died.failed[0].contains("signal"), "{:?}", died.failed);
    }
}
