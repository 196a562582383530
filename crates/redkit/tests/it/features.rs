//! The features of the umbrella reach those of the pattern crates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Features = BTreeMap<String, Vec<String>>;

fn features(of: &str) -> Features {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(of)
        .join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let mut manifest: toml::Table = toml::from_str(&text).unwrap();
    match manifest.remove("features") {
        Some(features) => features.try_into().unwrap(),
        None => Features::new(),
    }
}

/// Everything that a feature switches on, by way of other features too.
fn reach<'a>(features: &'a Features, from: &'a str, reached: &mut BTreeSet<&'a str>) {
    for part in features.get(from).into_iter().flatten() {
        if reached.insert(part) {
            reach(features, part, reached);
        }
    }
}

#[test]
fn full_is_everything_but_engines_and_the_second_driver() {
    let features = features("redkit");
    let mut full = BTreeSet::new();
    reach(&features, "full", &mut full);
    let others = ["default", "full", "embedded", "listen", "fred"];
    for feature in features.keys() {
        let is_in = full.contains(feature.as_str());
        assert_eq!(is_in, !others.contains(&feature.as_str()), "{feature}");
    }
}

#[test]
fn a_feature_of_a_pattern_is_reached_by_the_umbrellas_of_the_same_name() {
    let umbrella = features("redkit");
    let mut checked = 0;
    for package in [
        "core",
        "embedded",
        "collections",
        "cache",
        "http-cache",
        "lock",
        "monitor",
        "pubsub",
        "ratelimit",
        "session",
    ] {
        // What is meant for redkit's own crates: the simulation's seams, and the types that layers share.
        let internal = |feature: &str| {
            ["default", "simulation"].contains(&feature) || (package, feature) == ("core", "tower")
        };
        for feature in features(package).keys().filter(|name| !internal(name)) {
            let mut reached = BTreeSet::new();
            reach(&umbrella, feature, &mut reached);
            let named = format!("redkit-{package}/{feature}");
            let named_if_there = format!("redkit-{package}?/{feature}");
            let is_reached =
                reached.contains(named.as_str()) || reached.contains(named_if_there.as_str());
            assert!(is_reached, "`{feature}` of redkit does not reach {named}");
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} features were found");
}
