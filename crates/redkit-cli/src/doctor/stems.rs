//! What the keys and channels of each pattern begin with, behind the namespace: `docs/keyspace.md`.

use super::Need;

/// What keys begin with. All commands of the pattern are tried on the first of them.
pub(super) fn of_keys(need: Need) -> &'static [&'static str] {
    match need {
        Need::Cache => &["cache", "cache-meta", "cache-tag"],
        Need::WriteBehind => &["write-behind"],
        // Keys of the program's own.
        Need::Collections => &["collections"],
        Need::Lock => &[
            "lock",
            "rwlock",
            "semaphore",
            "latch",
            "redlock",
            "idempotent",
            "fenced",
        ],
        Need::Ratelimit => &["ratelimit"],
        Need::Session => &["session"],
        Need::Channel => &["inbox", "channel"],
        Need::Topic => &["topic"],
    }
}

/// What channels begin with.
pub(super) fn of_channels(need: Need) -> &'static [&'static str] {
    match need {
        Need::Cache => &["cache"],
        Need::WriteBehind => &["write-behind"],
        Need::Collections => &[],
        Need::Lock => &[
            "lock",
            "rwlock",
            "semaphore",
            "latch",
            "redlock",
            "election",
        ],
        Need::Ratelimit => &["ratelimit"],
        Need::Session => &["session"],
        Need::Channel => &["inbox", "channel"],
        Need::Topic => &["topic"],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_pattern_of_the_documented_keys_is_tried() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/keyspace.md");
        let text = std::fs::read_to_string(path).unwrap();
        let keys = text.split("`ns:").skip(1);
        let named = keys.filter_map(|rest| Some(rest.split_once([':', '`'])?.0));
        // A program's own keys (`ns:key`), and what only monitors write.
        let named: BTreeSet<_> = named
            .filter(|name| !matches!(*name, "key" | "monitor"))
            .collect();
        let all = Need::value_variants().iter();
        let tried = all.flat_map(|need| [of_keys(*need), of_channels(*need)].concat());
        let mut tried: BTreeSet<_> = tried.collect();
        assert!(tried.remove("collections") && named.len() > 15);
        assert_eq!(named, tried);
    }
}
