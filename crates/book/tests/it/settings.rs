//! `docs/configuration.md` names every setting, and no other.

use std::collections::BTreeSet;

use redkit::ClientConfig;

const PAGE: &str = include_str!("../../../../docs/configuration.md");

/// The settings that the library knows: the error for an unknown one lists them.
fn known() -> BTreeSet<String> {
    let error = ClientConfig::from_url("redis://localhost?zzzzzzzzzzzzzzzzzzzzzz=1").unwrap_err();
    let text = error.to_string();
    let (_, fields) = text.split_once("the fields are ").unwrap();
    fields
        .split([',', ' ', '.', ')'])
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The names between backticks in the first cells of the tables of the section on all settings.
fn documented() -> BTreeSet<String> {
    let (_, section) = PAGE.split_once("## All settings\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `"));
    cells
        .flat_map(|row| {
            let cell = row.split(" | ").next().unwrap_or_default();
            let names = cell.split("`, `").map(|name| name.trim_end_matches('`'));
            names.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_page_names_every_setting() {
    let known = known();
    assert!(known.contains("command_timeout"), "{known:?}");
    assert_eq!(documented(), known);
}
