//! What the registry and docs.rs are told of each published crate.

use serde_json::Value;
use xshell::{Shell, cmd};

use crate::Failure;

/// What a registry takes.
const MOST_KEYWORDS: usize = 5;

/// Checks that every published crate says what it is, where its documents are, and how docs.rs builds it.
pub(super) fn check(sh: &Shell) -> Result<(), Failure> {
    let metadata = cmd!(sh, "cargo metadata --no-deps --format-version 1")
        .quiet()
        .read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata lists no packages")?;
    let published = packages
        .iter()
        .filter(|package| package["publish"].is_null());
    let mut wrong = Vec::new();
    for package in published {
        let name = package["name"].as_str().unwrap_or_default();
        wrong.extend(
            faults(package)
                .into_iter()
                .map(|fault| format!("{name}: {fault}")),
        );
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n").into()),
    }
}

fn faults(package: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let text = |field: &str| package[field].as_str().unwrap_or_default();
    for field in [
        "description",
        "documentation",
        "license",
        "readme",
        "repository",
        "rust_version",
    ] {
        if text(field).is_empty() {
            faults.push(format!("`{field}` is missing"));
        }
    }
    for field in ["keywords", "categories"] {
        let count = package[field].as_array().map_or(0, Vec::len);
        if !(1..=MOST_KEYWORDS).contains(&count) {
            faults.push(format!(
                "it has {count} {field}, and 1 to {MOST_KEYWORDS} are taken"
            ));
        }
    }
    let docs = &package["metadata"]["docs"]["rs"];
    if docs["all-features"] != Value::Bool(true) {
        faults.push("docs.rs is not told to build all features".to_owned());
    }
    let arguments = docs["rustdoc-args"].as_array();
    if !arguments.is_some_and(|all| all.iter().any(|argument| argument == "docsrs")) {
        faults.push("docs.rs is not told `--cfg docsrs`".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let whole = serde_json::json!({
            "description": "d", "documentation": "d", "license": "MIT", "readme": "README.md", "repository": "r",
            "rust_version": "1.95", "keywords": ["redis"], "categories": ["caching"],
            "metadata": { "docs": { "rs": { "all-features": true, "rustdoc-args": ["--cfg", "docsrs"] } } },
        });
        assert_eq!(faults(&whole), Vec::<String>::new());
        let mut part = whole;
        part["readme"] = Value::Null;
        part["keywords"] = serde_json::json!(["a", "b", "c", "d", "e", "f"]);
        part["metadata"] = Value::Null;
        assert_eq!(
            faults(&part),
            [
                "`readme` is missing",
                "it has 6 keywords, and 1 to 5 are taken",
                "docs.rs is not told to build all features",
                "docs.rs is not told `--cfg docsrs`",
            ]
        );
    }
}
