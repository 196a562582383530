//! The documents name the metrics that the code has, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use redkit_monitor::prometheus::{METRICS, SERVER_METRICS};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words of a text that consist of letters of names and begin so.
fn words<'t>(text: &'t str, prefix: &str) -> BTreeSet<&'t str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with(prefix) && word.len() > prefix.len())
        .collect()
}

/// The names of metrics in the sources: string literals that begin with `redkit_`, but for the list that is to be
/// held to them.
fn in_sources() -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs")
                || path.ends_with("descriptions.rs")
            {
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            for literal in source.split('"').skip(1).step_by(2) {
                let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                if literal.starts_with("redkit_") && literal.chars().all(is_name) {
                    found.insert(literal.to_owned());
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    for member in fs::read_dir(root().join("crates")).unwrap() {
        walk(&member.unwrap().path().join("src"), &mut found);
    }
    found
}

/// The names in the first column of the tables of `docs/metrics.md`, with the kinds in the second.
fn documented() -> BTreeSet<(String, String)> {
    let text = read("docs/metrics.md");
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let metrics =
        rows.filter(|(name, _)| name.starts_with("redkit_") || name.starts_with("redis_"));
    metrics
        .map(|(name, rest)| {
            let kind = rest.split(" |").next().unwrap_or_default();
            (name.to_owned(), kind.to_owned())
        })
        .collect()
}

#[test]
fn the_list_of_metrics_is_that_of_the_code() {
    let documented = documented();
    let names: BTreeSet<_> = documented.iter().map(|(name, _)| name.clone()).collect();
    let mut expected = in_sources();
    assert!(expected.len() > 50, "{expected:?}");
    expected.extend(SERVER_METRICS.iter().map(|metric| metric.name.to_owned()));
    let missing: Vec<_> = expected.difference(&names).collect();
    let unknown: Vec<_> = names.difference(&expected).collect();
    assert!(
        missing.is_empty(),
        "docs/metrics.md does not have {missing:?}"
    );
    assert!(unknown.is_empty(), "no source has {unknown:?}");
    let described: BTreeSet<_> = METRICS
        .iter()
        .map(|(name, kind, _)| ((*name).to_owned(), (*kind).to_owned()))
        .collect();
    // A metric without a description is shown without one.
    assert!(described.is_subset(&documented), "{described:?}");
    for metric in SERVER_METRICS {
        let row = (metric.name.to_owned(), metric.kind.to_owned());
        assert!(
            documented.contains(&row),
            "{row:?} stands otherwise in docs/metrics.md"
        );
    }
    for (name, kind) in documented {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} {kind}");
    }
}

fn assert_known(used: BTreeSet<&str>, place: &str) {
    let metrics = documented();
    let is_known = |name: &str| {
        let part = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        metrics.iter().any(|(metric, kind)| {
            *metric == name || (kind == "histogram" && Some(metric.as_str()) == part)
        })
    };
    assert!(used.len() > 10, "{place}: {used:?}");
    let unknown: Vec<_> = used.into_iter().filter(|name| !is_known(name)).collect();
    assert!(
        unknown.is_empty(),
        "{place} uses {unknown:?}, which nothing has"
    );
}

#[test]
fn each_query_of_the_dashboard_has_its_metric() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("docs/grafana/redkit.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let queries: Vec<_> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(queries.len() > 30);
    for query in &queries {
        let names = [words(query, "redkit_"), words(query, "redis_")].concat_all();
        assert!(!names.is_empty(), "{query} has no metric");
    }
    let all = queries.join(" ");
    assert_known(
        [words(&all, "redkit_"), words(&all, "redis_")].concat_all(),
        "the dashboard",
    );
}

/// Every instance of a program shows the same servers.
#[test]
fn each_query_of_the_dashboard_counts_a_server_once() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("docs/grafana/redkit.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array());
    let queries = targets
        .flatten()
        .map(|target| target["expr"].as_str().unwrap());
    let mut asked = 0;
    for query in queries {
        for metric in words(query, "redis_") {
            asked += 1;
            for (at, _) in query.match_indices(metric) {
                let before = &query[..at];
                let last = ["max by (", "count by ("]
                    .iter()
                    .filter_map(|by| before.rfind(by))
                    .max();
                let by = last.map_or("", |from| &before[from..]);
                assert!(is_open(by), "{query}: the aggregation ends before {metric}");
                // The innermost aggregation around the metric keeps the servers apart.
                assert!(
                    by.contains("(server") && !by.contains("sum") && !by.contains("topk"),
                    "{query}"
                );
            }
        }
    }
    assert!(asked > 10);
}

/// Whether the last parenthesis of an aggregation, which is around its values, has no end in this text: `max by (a) (b`.
fn is_open(aggregation: &str) -> bool {
    let Some((_, values)) = aggregation.split_once(") (") else {
        return false;
    };
    let mut depth = 1;
    for c in values.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return false;
        }
    }
    true
}

#[test]
fn an_aggregation_that_has_ended_is_not_around_what_follows() {
    for (text, expected) in [
        ("max by (server) (", true),
        ("max by (server) (rate(", true),
        ("max by (server) (rate(x[1m]) + ", true),
        ("max by (server) (x) + ", false),
        ("max by (server", false),
    ] {
        assert_eq!(is_open(text), expected, "{text}");
    }
}

#[test]
fn each_rule_for_prometheus_has_its_metric() {
    let rules = read("docs/prometheus/alerts.yml");
    let body: String = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n");
    assert_known(
        [words(&body, "redkit_"), words(&body, "redis_")].concat_all(),
        "alerts.yml",
    );
}

trait ConcatAll<'t> {
    fn concat_all(self) -> BTreeSet<&'t str>;
}

impl<'t> ConcatAll<'t> for [BTreeSet<&'t str>; 2] {
    fn concat_all(self) -> BTreeSet<&'t str> {
        self.into_iter().flatten().collect()
    }
}
