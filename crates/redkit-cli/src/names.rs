//! What names of a pattern there are, by the keys.

use std::collections::{BTreeMap, BTreeSet};

use redkit_core::{Client, Pattern, ScanStream};

use crate::failure::Failure;

/// Calls `take` with the parts of each key of a pattern, in no order and some of them twice, until it gives `false`.
pub(crate) async fn each_key(
    client: &Client,
    pattern: &str,
    name: Option<&str>,
    mut take: impl FnMut(&redkit_core::PatternKey<'_>) -> bool,
) -> Result<(), Failure> {
    let mut keys = scan(client, pattern, name);
    while let Some(key) = keys.next().await {
        let key = client.key(key?);
        if let Some(parts) = client.parse_key(key.as_bytes())
            && parts.pattern == pattern
            && !take(&parts)
        {
            break;
        }
    }
    Ok(())
}

/// The keys that may be of a pattern, and of this name if there is one, in no order and some of them twice.
pub(crate) fn scan(client: &Client, pattern: &str, name: Option<&str>) -> ScanStream {
    let prefix = match name {
        Some(name) => format!("{pattern}:{name}:{{"),
        None => format!("{pattern}:"),
    };
    // A name is taken literally, whatever it holds.
    client.scan(Pattern::prefix(prefix)).keys()
}

/// The names of a pattern, and how many main keys each has.
pub(crate) async fn counts(
    client: &Client,
    pattern: &str,
    is_main: impl Fn(&redkit_core::PatternKey<'_>) -> bool,
) -> Result<BTreeMap<String, u64>, Failure> {
    let mut seen: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    each_key(client, pattern, None, |key| {
        let of_name = seen.entry(key.name.to_owned()).or_default();
        if is_main(key) {
            of_name.insert(digest(&(&key.user_key, &key.tagged)));
        }
        true
    })
    .await?;
    let counted = seen.into_iter().map(|(name, keys)| {
        let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        (name, count)
    });
    Ok(counted.collect())
}

/// What stands for a key in memory, where a scan may show it twice.
pub(crate) fn digest(key: &impl std::hash::Hash) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}
