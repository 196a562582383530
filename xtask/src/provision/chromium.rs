//! Chromium and its driver: those of the system, or Debian's, unpacked under `target/servers/chromium`.

use std::path::PathBuf;

use xshell::{Shell, cmd};

use super::apt;
use crate::Failure;

/// A browser and the program that drives it.
pub(crate) struct Chromium {
    pub(crate) browser: PathBuf,
    pub(crate) driver: PathBuf,
}

/// The environment variables that name them.
pub(crate) const BROWSER: &str = "REDKIT_CHROMIUM";
pub(crate) const DRIVER: &str = "REDKIT_CHROMEDRIVER";

/// Finds them, or provides them.
///
/// # Errors
/// When they are neither there nor to be had; says what to install.
pub(crate) fn provide(sh: &Shell) -> Result<Chromium, Failure> {
    if let Some(found) = find(sh) {
        return Ok(found);
    }
    eprintln!("No Chromium with its driver here: unpacking it under target/servers/chromium.");
    unpack(sh).map_err(how_to_install)?;
    find(sh).ok_or_else(|| how_to_install("what was unpacked does not run".into()).into())
}

/// By the variables, `target/servers`, or `PATH`.
pub(crate) fn find(sh: &Shell) -> Option<Chromium> {
    let named = |variable| std::env::var_os(variable).map(PathBuf::from);
    if let Some((browser, driver)) = named(BROWSER).zip(named(DRIVER)) {
        return Some(Chromium { browser, driver });
    }
    let folder = folder(sh);
    let unpacked = (folder.join("run-chromium"), folder.join("run-chromedriver"));
    let in_path = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut found = std::env::split_paths(&path).map(|folder| folder.join(name));
        found.find(|path| path.is_file())
    };
    let of_system = in_path("chromium").zip(in_path("chromedriver"));
    [Some(unpacked), of_system]
        .into_iter()
        .flatten()
        .find_map(|(browser, driver)| {
            let runs = |program: &PathBuf| {
                let version = cmd!(sh, "{program} --version").quiet().ignore_stderr();
                program.is_file() && version.read().is_ok()
            };
            (runs(&browser) && runs(&driver)).then_some(Chromium { browser, driver })
        })
}

fn unpack(sh: &Shell) -> Result<(), Failure> {
    let folder = folder(sh);
    apt::unpack_all(sh, &folder, &["chromium", "chromium-driver"])?;
    for (name, program) in [
        ("run-chromium", "usr/lib/chromium/chromium"),
        ("run-chromedriver", "usr/bin/chromedriver"),
    ] {
        let run = folder.join(name);
        sh.write_file(&run, wrapper(program))?;
        cmd!(sh, "chmod +x {run}").quiet().run()?;
    }
    Ok(())
}

fn folder(sh: &Shell) -> PathBuf {
    sh.current_dir().join("target/servers/chromium")
}

/// Runs a program with the libraries beside it, and with the fonts beside it where the system has none.
fn wrapper(program: &str) -> String {
    format!(
        r#"#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
for libraries in "$here"/root/usr/lib/*-linux-*/pulseaudio "$here"/root/usr/lib/*-linux-* "$here"/root/lib/*-linux-*; do
    [ -d "$libraries" ] && LD_LIBRARY_PATH=$libraries${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
done
export LD_LIBRARY_PATH
if [ ! -e /etc/fonts/fonts.conf ] && [ -e "$here/root/etc/fonts/fonts.conf" ]; then
    export FONTCONFIG_SYSROOT="$here/root"
fi
exec "$here/root/{program}" "$@"
"#
    )
}

fn how_to_install(cause: Failure) -> String {
    format!(
        "Chromium and its driver could not be provided: {cause}\n\
         Install them and run this again:\n  \
         Debian, Ubuntu   apt install chromium chromium-driver\n  \
         Fedora           dnf install chromium chromedriver\n\
         or set {BROWSER} and {DRIVER} to executables that you have."
    )
}
