//! `cargo xtask browser`: the pages in headless Chromium.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;
use xshell::{Shell, cmd};

use crate::Failure;
use crate::provision::{REDIS, chromium};
use crate::test::{Selection, exit_code};

/// The checker of accessibility, from the npm registry.
const AXE: &str = "axe-core@4.14.1";

/// Provides Chromium, its driver, axe-core and a server, and runs the scenarios, built as the tests of `selection` are.
/// Gives the program's exit code.
pub(crate) fn run(
    sh: &Shell,
    selection: Selection,
    scenarios: &[String],
    update_images: bool,
) -> Result<ExitCode, Failure> {
    let found = chromium::provide(sh)?;
    let folder = build(sh, selection)?;
    let mut program = Command::new(folder.join("redkit-browser-tests"));
    program
        .arg("run")
        .args(scenarios)
        .current_dir(sh.current_dir())
        .env(chromium::BROWSER, found.browser)
        .env(chromium::DRIVER, found.driver)
        .env("REDKIT_AXE", axe(sh)?)
        .env("REDKIT_STOREFRONT", folder.join("storefront"))
        .env(REDIS.variable, REDIS.provide(sh)?.path);
    if update_images {
        program.arg("--update-images");
    }
    Ok(exit_code(program.status()?))
}

/// Builds the scenarios and the shop that they visit, and gives the folder of the programs. The same packages and
/// features as those of the tests, and the features of what only tests depend on (hence a test among them), so that
/// all that the tests have built is used again.
fn build(sh: &Shell, selection: Selection) -> Result<PathBuf, Failure> {
    let programs = [
        "--bin",
        "storefront",
        "--bin",
        "redkit-browser-tests",
        "--test",
        "chaos",
    ];
    cmd!(sh, "cargo build {selection...} {programs...}").run()?;
    let metadata = cmd!(sh, "cargo metadata --no-deps --format-version 1")
        .quiet()
        .read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str();
    let target = target.ok_or("cargo does not say where it builds")?;
    Ok(Path::new(target).join("debug"))
}

/// Fetches axe-core once.
fn axe(sh: &Shell) -> Result<PathBuf, Failure> {
    let folder = sh
        .current_dir()
        .join("target/servers")
        .join(AXE.replace('@', "-"));
    let script = folder.join("package/axe.min.js");
    if script.is_file() {
        return Ok(script);
    }
    sh.create_dir(&folder)?;
    let _folder = sh.push_dir(&folder);
    let fetch = cmd!(sh, "npm pack --silent {AXE}").read();
    let archive = fetch.map_err(|error| {
        format!(
            "axe-core could not be fetched: {error}\nInstall npm, or put axe.min.js at {}",
            script.display()
        )
    })?;
    let archive = archive.lines().last().unwrap_or_default().to_owned();
    cmd!(sh, "tar -xzf {archive} package/axe.min.js").run()?;
    sh.remove_path(archive)?;
    Ok(script)
}
