//! `cargo xtask chaos`: scenarios that break servers under load and print figures.

use std::process::{Command, ExitCode, Stdio};

use xshell::Shell;

use crate::Failure;
use crate::backends::chosen;
use crate::test::{cargo, exit_code, provide};

/// Where scenarios live: each is a test of the program `chaos` of a package.
const SUBJECTS: &[(&str, &str)] = &[
    ("core", "redkit-core"),
    ("monitor", "redkit-monitor"),
    ("lock", "redkit-lock"),
    ("session", "redkit-session"),
    ("pubsub", "redkit-pubsub"),
    ("storefront", "storefront"),
];

/// Runs one scenario of a subject, or all of them one after the other, or lists them.
pub(crate) fn run(
    sh: &Shell,
    subject: &str,
    scenario: Option<&str>,
    list: bool,
) -> Result<ExitCode, Failure> {
    let known = SUBJECTS.iter().find(|(name, _)| *name == subject);
    let Some((_, package)) = known else {
        let names: Vec<_> = SUBJECTS.iter().map(|(name, _)| *name).collect();
        return Err(format!("no subject `{subject}`; there are {}", names.join(", ")).into());
    };
    let all = scenarios(sh, package)?;
    if list {
        all.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = choose(&all, scenario)?;
    let mut cargo = chaos(sh, package);
    // One after the other: they measure, and would disturb one another.
    cargo
        .args(["--nocapture", "--include-ignored", "--test-threads=1"])
        .args(["--exact"])
        .args(wanted);
    // No scenario names a server of the newest series, which is not to be had on every system.
    provide(sh, &chosen(None)?, &mut cargo)?;
    Ok(exit_code(cargo.status()?))
}

fn chaos(sh: &Shell, package: &str) -> Command {
    let mut cargo = cargo(sh);
    cargo
        .args(["test", "-p", package, "--all-features", "--test", "chaos"])
        .arg("--");
    cargo
}

fn scenarios(sh: &Shell, package: &str) -> Result<Vec<String>, Failure> {
    let output = chaos(sh, package)
        .args(["--list", "--format", "terse"])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{package} has no scenarios that compile").into());
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    Ok(listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        // Programs that scenarios start, and what checks the load itself.
        .filter(|name| !name.starts_with("processes::") && !name.ends_with("::child"))
        .filter(|name| !name.starts_with("load::"))
        .map(str::to_owned)
        .collect())
}

/// The scenarios of this name: a test's whole name, its last part, or its module. A name that fits
/// none must not pass by running nothing.
fn choose<'a>(all: &'a [String], name: Option<&str>) -> Result<Vec<&'a str>, Failure> {
    let all = all.iter().map(String::as_str);
    let Some(name) = name else {
        return Ok(all.collect());
    };
    let fits = |scenario: &&str| *scenario == name || scenario.split("::").any(|part| part == name);
    let chosen: Vec<_> = all.clone().filter(fits).collect();
    match chosen.is_empty() {
        true => {
            let known: Vec<_> = all.collect();
            Err(format!("no scenario `{name}`; there are {}", known.join(", ")).into())
        }
        false => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_named_by_its_test_or_its_module() {
        let all = ["cluster::kill_master", "cluster::migrate", "restart"].map(str::to_owned);
        assert_eq!(
            choose(&all, Some("kill_master")).unwrap(),
            ["cluster::kill_master"]
        );
        assert_eq!(choose(&all, Some("cluster")).unwrap().len(), 2);
        assert_eq!(choose(&all, Some("restart")).unwrap(), ["restart"]);
        assert_eq!(choose(&all, None).unwrap().len(), 3);
        let error = choose(&all, Some("kill")).unwrap_err().to_string();
        assert!(error.contains("cluster::migrate"), "{error}");
    }
}
