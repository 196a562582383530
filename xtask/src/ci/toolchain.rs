//! The compiler, and the version of Rust that the workspace promises.

use serde_json::Value;
use xshell::{Shell, cmd};

use crate::Failure;

type Version = (u64, u64, u64);

/// Checks that the compiler is one that the workspace promises to work with, and that no
/// dependency needs a later one than that.
pub(super) fn check(sh: &Shell) -> Result<(), Failure> {
    let promised = rust_version(sh)?;
    let have = toolchain(sh)?;
    println!("promised {promised:?}, this compiler {have:?}");
    if have < promised {
        return Err(format!("rustc {have:?} is older than rust-version {promised:?}").into());
    }
    if (have.0, have.1) != (promised.0, promised.1) {
        println!("note: what is promised is not what this run proves; run it with {promised:?}");
    }
    let metadata = cmd!(sh, "cargo metadata --all-features --format-version 1")
        .quiet()
        .read()?;
    let demanding = demanding(&serde_json::from_str(&metadata)?, promised);
    match demanding.is_empty() {
        true => Ok(()),
        false => Err(format!("these need a later Rust: {}", demanding.join(", ")).into()),
    }
}

/// The workspace's `rust-version`.
pub(crate) fn rust_version(sh: &Shell) -> Result<Version, Failure> {
    let metadata = cmd!(sh, "cargo metadata --no-deps --format-version 1")
        .quiet()
        .read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata lists no packages")?;
    packages
        .iter()
        .filter_map(|package| parse(package["rust_version"].as_str()?))
        .max()
        .ok_or_else(|| "no package states a rust-version".into())
}

/// The compiler's version.
pub(crate) fn toolchain(sh: &Shell) -> Result<Version, Failure> {
    let text = cmd!(sh, "rustc --version").quiet().read()?;
    let version = text.split_whitespace().nth(1).and_then(parse);
    version.ok_or_else(|| format!("rustc says {text:?}").into())
}

/// The packages that state a later version than `promised`.
fn demanding(metadata: &Value, promised: Version) -> Vec<String> {
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|package| {
            let stated = package["rust_version"].as_str().and_then(parse);
            stated.is_some_and(|stated| stated > promised)
        })
        .map(|package| {
            let text = |field: &str| package[field].as_str().unwrap_or_default();
            format!(
                "{} {} ({})",
                text("name"),
                text("version"),
                text("rust_version")
            )
        })
        .collect()
}

/// `1.95`, `1.95.0` or `1.95.0-nightly`.
fn parse(text: &str) -> Option<Version> {
    let text = text.split('-').next()?;
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some((next()?, next().unwrap_or(0), next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_needs_more_is_named() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "old", "version": "1.0.0", "rust_version": "1.60" },
            { "name": "silent", "version": "1.0.0", "rust_version": null },
            { "name": "new", "version": "2.1.0", "rust_version": "1.95.1" },
        ]});
        assert_eq!(demanding(&metadata, (1, 95, 0)), ["new 2.1.0 (1.95.1)"]);
        assert_eq!(parse("1.97.0-nightly"), Some((1, 97, 0)));
    }
}
