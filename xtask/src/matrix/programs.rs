//! The test programs of the workspace and the tests in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xshell::{Shell, cmd};

use crate::Failure;
use crate::test::CRATES;

/// A test program.
pub(super) struct Program {
    /// Its package and target.
    pub(super) name: String,
    executable: PathBuf,
    /// Its package's folder, in which cargo runs tests.
    folder: PathBuf,
    tests: Vec<String>,
}

impl Program {
    /// Its tests of suites on a backend: such a test is named after it.
    pub(super) fn tests_on(&self, backend: &str) -> Vec<&str> {
        let tests = self.tests.iter().map(String::as_str);
        let is_on = |test: &&str| {
            test.rsplit_once("::")
                .is_some_and(|(_, last)| last == backend)
        };
        tests.filter(is_on).collect()
    }

    /// Its tests of the newest series of a server, which are ignored elsewhere.
    pub(super) fn tests_of_the_newest(&self, backend: &str) -> Vec<&str> {
        let name = match backend {
            "redis8" => "_with_the_newest_redis",
            "valkey9" => "_with_the_newest_valkey",
            _ => return Vec::new(),
        };
        let tests = self.tests.iter().map(String::as_str);
        tests.filter(|test| test.ends_with(name)).collect()
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }

    #[cfg(test)]
    pub(super) fn for_test(name: &str, tests: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            executable: PathBuf::new(),
            folder: PathBuf::new(),
            tests: tests.iter().map(|test| test.to_string()).collect(),
        }
    }
}

/// Builds all test programs, as `cargo xtask test` does, and asks each for its tests.
pub(super) fn build(sh: &Shell) -> Result<Vec<Program>, Failure> {
    let messages = cmd!(sh, "cargo test {CRATES...}")
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .read()?;
    let mut programs = Vec::new();
    for message in messages.lines() {
        let message: Value = serde_json::from_str(message)?;
        if let Some(mut program) = parse(&message) {
            program.tests = list(&program)?;
            programs.push(program);
        }
    }
    Ok(programs)
}

/// A test program from one of cargo's messages.
fn parse(message: &Value) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    Some(Program {
        name: format!(
            "{}/{}",
            folder.file_name()?.to_string_lossy(),
            message["target"]["name"].as_str()?
        ),
        executable: message["executable"].as_str()?.into(),
        folder: folder.to_owned(),
        tests: Vec::new(),
    })
}

fn list(program: &Program) -> Result<Vec<String>, Failure> {
    let output = program
        .command()
        .args(["--list", "--format", "terse"])
        .output()?;
    let listed = String::from_utf8_lossy(&output.stdout);
    match output.status.success() {
        true => Ok(listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test").map(str::to_owned))
            .collect()),
        false => Err(format!("{} does not list its tests", program.name).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backends_tests_are_those_named_after_it() {
        let program = Program::for_test(
            "it",
            &[
                "a::redis",
                "b::c::redis",
                "a::valkey",
                "redis::a",
                "a::redis_x",
                "redis",
            ],
        );
        assert_eq!(program.tests_on("redis"), ["a::redis", "b::c::redis"]);
    }

    #[test]
    fn a_newest_server_has_the_tests_that_name_it() {
        let program = Program::for_test("it", &["a::b_with_the_newest_redis", "a::redis8"]);
        let of = |backend| program.tests_of_the_newest(backend);
        assert_eq!(of("redis8"), ["a::b_with_the_newest_redis"]);
        assert!(of("valkey9").is_empty() && of("redis").is_empty());
    }

    #[test]
    fn only_test_programs_are_taken_from_cargos_messages() {
        let message = |test: bool| {
            serde_json::json!({
                "reason": "compiler-artifact", "profile": {"test": test},
                "manifest_path": "/w/crates/core/Cargo.toml",
                "target": {"name": "it"}, "executable": "/t/it-1",
            })
        };
        assert_eq!(parse(&message(true)).unwrap().name, "core/it");
        assert!(parse(&message(false)).is_none());
        assert!(parse(&serde_json::json!({"reason": "build-finished"})).is_none());
    }
}
