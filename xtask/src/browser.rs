//! `cargo xtask browser`: the pages in headless Chromium.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use xshell::{Shell, cmd};

use crate::Failure;
use crate::provision::{REDIS, chromium};
use crate::test::exit_code;

/// The checker of accessibility, from the npm registry.
const AXE: &str = "axe-core@4.14.1";

/// Provides Chromium, its driver, axe-core and a server, and runs the scenarios. Gives the program's exit code.
pub(crate) fn run(
    sh: &Shell,
    scenarios: &[String],
    update_images: bool,
) -> Result<ExitCode, Failure> {
    let found = chromium::provide(sh)?;
    // With the environment of the other steps, so that what they built is used again.
    let mut cargo = Command::from(cmd!(sh, "cargo"));
    cargo
        .args(["run", "-p", "redkit-browser-tests", "--", "run"])
        .args(scenarios)
        .env(chromium::BROWSER, found.browser)
        .env(chromium::DRIVER, found.driver)
        .env("REDKIT_AXE", axe(sh)?)
        .env(REDIS.variable, REDIS.provide(sh)?.path);
    if update_images {
        cargo.arg("--update-images");
    }
    Ok(exit_code(cargo.status()?))
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
