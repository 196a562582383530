//! What a crate's package would contain: all that it needs, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use xshell::{Shell, cmd};

use super::published;
use crate::Failure;

/// A package is downloaded by everybody who builds with it.
const LARGEST: u64 = 1024 * 1024;

/// What may stand at the top of a package.
const AT_THE_TOP: &[&str] = &[
    ".cargo_vcs_info.json",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "Cargo.toml.orig",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "assets",
    "benches",
    "build.rs",
    "examples",
    "src",
    "tests",
];

/// What tests, profilers and servers leave behind.
const LEFTOVERS: &[&str] = &[
    "aof",
    "log",
    "profraw",
    "proptest-regressions",
    "rdb",
    "tmp",
];

/// Checks the list of files of every published crate.
pub(super) fn check(sh: &Shell) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for package in published(sh)? {
        let name = &package.name;
        let list = cmd!(sh, "cargo package --list --allow-dirty -p {name}")
            .quiet()
            .read()?;
        let files: BTreeSet<&str> = list.lines().collect();
        println!("{name}: {} files", files.len());
        let found = faults(&package.folder, &files);
        wrong.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n").into()),
    }
}

fn faults(folder: &Path, files: &BTreeSet<&str>) -> Vec<String> {
    let mut faults = Vec::new();
    for needed in ["Cargo.toml", "src/lib.rs"] {
        if !files.contains(needed) {
            faults.push(format!("{needed} is missing"));
        }
    }
    for script in scripts(folder, Path::new("src")) {
        if !files.contains(script.as_str()) {
            faults.push(format!("{script} is missing"));
        }
    }
    for file in files {
        let top = file.split('/').next().unwrap_or_default();
        let ending = Path::new(file)
            .extension()
            .and_then(|ending| ending.to_str());
        if !AT_THE_TOP.contains(&top) || ending.is_some_and(|ending| LEFTOVERS.contains(&ending)) {
            faults.push(format!("{file} does not belong there"));
        }
        // Cargo makes some of the files while packing; they are small.
        let size = std::fs::metadata(folder.join(file)).map_or(0, |file| file.len());
        if size > LARGEST {
            faults.push(format!("{file} has {size} bytes"));
        }
    }
    faults
}

/// The Lua scripts below `inner`, which is relative to `folder`.
fn scripts(folder: &Path, inner: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.join(inner)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = inner.join(entry.file_name());
        if entry.path().is_dir() {
            found.extend(scripts(folder, &path));
        } else if path.extension().is_some_and(|ending| ending == "lua") {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_superfluous_files_are_named() {
        let folder = std::env::temp_dir().join(format!("redkit-package-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("src/scripts")).unwrap();
        std::fs::write(folder.join("src/scripts/release.lua"), "").unwrap();
        std::fs::write(folder.join("src/large.bin"), vec![0; 1024 * 1024 + 1]).unwrap();
        let files = ["Cargo.toml", "dump.rdb", "notes.md", "src/large.bin"].into();
        let faults = faults(&folder, &files);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            faults,
            [
                "src/lib.rs is missing",
                "src/scripts/release.lua is missing",
                "dump.rdb does not belong there",
                "notes.md does not belong there",
                "src/large.bin has 1048577 bytes",
            ]
        );
    }
}
