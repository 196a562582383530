//! What an analysis has found, and how it is collected in bounded memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::AnalysisConfig;

/// The upper bounds of the classes of times to live; the last class is above them all.
pub const TTL_BOUNDS: [Duration; 7] = [
    Duration::from_secs(1),
    Duration::from_secs(60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(24 * 60 * 60),
    Duration::from_secs(7 * 24 * 60 * 60),
    Duration::from_secs(30 * 24 * 60 * 60),
];

/// How many examples of orphans are named.
const EXAMPLES: usize = 20;

/// What an analysis has found. Figures of sampled keys are those of the sample; sizes by prefix are estimated
/// for all of its keys.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct KeyspaceReport {
    /// Keys seen. `SCAN` may give a key twice while the table grows or shrinks.
    pub scanned: u64,
    /// Keys whose size and time to live were looked at.
    pub sampled: u64,
    /// Whether every key that stayed all the time was seen. Not after a failover or when slots have moved
    /// meanwhile: a cursor means nothing to another server.
    pub is_complete: bool,
    /// By prefix, the largest first.
    pub prefixes: Vec<PrefixStats>,
    /// The keys of all further prefixes, beyond
    /// [`max_prefixes`](AnalysisConfig::max_prefixes).
    pub other: PrefixStats,
    /// The biggest of the sampled keys, the biggest first.
    pub biggest: Vec<BigKey>,
    /// Sampled keys by time to live: a class for each of [`TTL_BOUNDS`], and one above.
    pub ttl: [u64; TTL_BOUNDS.len() + 1],
    /// Sampled keys without a time to live.
    pub without_ttl: u64,
    /// Sampled keys without a time to live whose prefix says that they should have one.
    pub orphans: u64,
    /// Some of them.
    pub orphan_examples: Vec<Bytes>,
    /// Servers whose walk ended early, and why.
    pub failed: Vec<(Arc<str>, redkit_core::Error)>,
    /// How long it took.
    pub took: Duration,
}

/// The keys of one prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefixStats {
    /// What the keys begin with; parts that are ids stand as `*`.
    pub prefix: String,
    /// Keys seen.
    pub keys: u64,
    /// Those that were looked at.
    pub sampled: u64,
    /// Bytes of the keys that were looked at.
    pub sampled_bytes: u64,
    /// Those of them without a time to live.
    pub without_ttl: u64,
}

impl PrefixStats {
    /// Bytes of all keys, estimated by those that were looked at.
    pub fn bytes(&self) -> u64 {
        let (bytes, keys) = (u128::from(self.sampled_bytes), u128::from(self.keys));
        match self.sampled {
            0 => 0,
            sampled => u64::try_from(bytes * keys / u128::from(sampled)).unwrap_or(u64::MAX),
        }
    }
}

/// A big key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct BigKey {
    /// Its bytes at the server.
    pub bytes: u64,
    /// The key.
    pub key: Bytes,
    /// `string`, `hash`, …
    pub kind: String,
}

/// Shows sizes and no key: keys hold users' ids.
impl fmt::Debug for BigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BigKey")
            .field("bytes", &self.bytes)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyspaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyspaceReport")
            .field("scanned", &self.scanned)
            .field("sampled", &self.sampled)
            .field("is_complete", &self.is_complete)
            .field("prefixes", &self.prefixes)
            .field("ttl", &self.ttl)
            .field("without_ttl", &self.without_ttl)
            .field("orphans", &self.orphans)
            .finish_non_exhaustive()
    }
}

/// A key that was looked at.
pub(super) struct Looked {
    pub(super) bytes: u64,
    pub(super) kind: String,
    /// `None` for a key that does not expire.
    pub(super) ttl: Option<Duration>,
}

/// Keys that should have a time to live.
pub(super) struct Expiring {
    /// What they begin with.
    pub(super) prefix: Vec<u8>,
    /// The ends of those among them that stay.
    pub(super) except: &'static [&'static [u8]],
}

impl Expiring {
    /// All keys with a prefix.
    pub(super) fn all(prefix: Vec<u8>) -> Self {
        Self {
            prefix,
            except: &[],
        }
    }

    fn matches(&self, key: &[u8]) -> bool {
        let stays = self.except.iter().any(|end| key.ends_with(end));
        key.starts_with(&self.prefix) && !stays
    }
}

/// Collects what is seen.
pub(super) struct Collector {
    config: AnalysisConfig,
    expiring: Vec<Expiring>,
    prefixes: BTreeMap<String, PrefixStats>,
    biggest: BinaryHeap<Reverse<BigKey>>,
    report: KeyspaceReport,
}

impl Collector {
    pub(super) fn new(config: AnalysisConfig, expiring: Vec<Expiring>) -> Self {
        Self {
            config,
            expiring,
            prefixes: BTreeMap::new(),
            biggest: BinaryHeap::new(),
            report: KeyspaceReport {
                is_complete: true,
                ..KeyspaceReport::default()
            },
        }
    }

    /// Counts a key. Gives how many were counted.
    pub(super) fn scanned(&mut self, key: &[u8]) -> u64 {
        self.report.scanned += 1;
        self.stats_of(key).keys += 1;
        self.report.scanned
    }

    pub(super) fn looked(&mut self, key: Bytes, looked: Looked) {
        self.report.sampled += 1;
        let stats = self.stats_of(&key);
        stats.sampled += 1;
        stats.sampled_bytes += looked.bytes;
        stats.without_ttl += u64::from(looked.ttl.is_none());
        match looked.ttl {
            Some(ttl) => {
                let class = TTL_BOUNDS.iter().position(|bound| ttl <= *bound);
                if let Some(count) = self.report.ttl.get_mut(class.unwrap_or(TTL_BOUNDS.len())) {
                    *count += 1;
                }
            }
            None => self.without_ttl(&key),
        }
        self.biggest.push(Reverse(BigKey {
            bytes: looked.bytes,
            key,
            kind: looked.kind,
        }));
        if self.biggest.len() > self.config.biggest {
            self.biggest.pop();
        }
    }

    pub(super) fn incomplete(&mut self) {
        self.report.is_complete = false;
    }

    pub(super) fn failed(&mut self, server: Arc<str>, error: redkit_core::Error) {
        self.report.is_complete = false;
        self.report.failed.push((server, error));
    }

    pub(super) fn finish(mut self, took: Duration) -> KeyspaceReport {
        self.report.prefixes = self.prefixes.into_values().collect();
        self.report
            .prefixes
            .sort_by_key(|prefix| Reverse((prefix.bytes(), prefix.keys)));
        let biggest = self.biggest.into_sorted_vec().into_iter();
        self.report.biggest = biggest.map(|Reverse(key)| key).collect();
        self.report.took = took;
        self.report
    }

    fn without_ttl(&mut self, key: &Bytes) {
        self.report.without_ttl += 1;
        if !self.expiring.iter().any(|expiring| expiring.matches(key)) {
            return;
        }
        self.report.orphans += 1;
        if self.report.orphan_examples.len() < EXAMPLES {
            self.report.orphan_examples.push(key.clone());
        }
    }

    fn stats_of(&mut self, key: &[u8]) -> &mut PrefixStats {
        let prefix = prefix_of(key, self.config.prefix_depth);
        let is_known = self.prefixes.contains_key(&prefix);
        if !is_known && self.prefixes.len() >= self.config.max_prefixes {
            return &mut self.report.other;
        }
        self.prefixes
            .entry(prefix)
            .or_insert_with_key(|prefix| PrefixStats {
                prefix: prefix.clone(),
                ..PrefixStats::default()
            })
    }
}

/// Longer parts are cut, so that a prefix is small.
const LONGEST: usize = 64;

/// The first parts of a key that end with a colon, up to a hash tag.
fn prefix_of(key: &[u8], depth: usize) -> String {
    let mut prefix = String::new();
    let before_tag = key.split(|byte| *byte == b'{').next().unwrap_or_default();
    let mut parts: Vec<&[u8]> = before_tag.split(|byte| *byte == b':').collect();
    // What stands behind the last colon is the key's own.
    parts.pop();
    for part in parts.into_iter().take(depth) {
        match is_id(part) {
            true => prefix.push('*'),
            false => {
                let cut = part.get(..LONGEST).unwrap_or(part);
                prefix.push_str(&cut.escape_ascii().to_string());
            }
        }
        prefix.push(':');
    }
    prefix
}

/// Whether a part of a key names one thing among many: a number, a UUID, a hash.
fn is_id(part: &[u8]) -> bool {
    let is_number = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let is_hash = part.len() >= 16 && part.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
    is_number || is_hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_hash_tags_make_no_prefixes() {
        for (key, prefix) in [
            ("shop:cache:products:{42}", "shop:cache:products:"),
            ("user:42:name", "user:*:"),
            ("user:42", "user:"),
            ("plain", ""),
            ("{tag}:a:b", ""),
            ("a:b:c:d:e", "a:b:c:"),
            ("s:550e8400-e29b-41d4-a716-446655440000:x", "s:*:"),
            ("a\n:b", "a\\n:"),
        ] {
            assert_eq!(prefix_of(key.as_bytes(), 3), prefix, "{key}");
        }
    }

    #[test]
    fn memory_is_bounded_whatever_the_keys_are() {
        let config = AnalysisConfig::default().max_prefixes(10).biggest(5);
        let mut collector = Collector::new(config, vec![Expiring::all(b"word9".to_vec())]);
        for number in 0..100_u64 {
            let key = Bytes::from(format!("word{number}:k"));
            collector.scanned(&key);
            let looked = Looked {
                bytes: number,
                kind: "string".to_owned(),
                ttl: (number < 90).then(|| Duration::from_secs(number)),
            };
            collector.looked(key, looked);
        }
        let report = collector.finish(Duration::ZERO);
        assert_eq!((report.prefixes.len(), report.other.keys), (10, 90));
        let biggest: Vec<_> = report.biggest.iter().map(|key| key.bytes).collect();
        assert_eq!(biggest, [99, 98, 97, 96, 95]);
        assert_eq!((report.without_ttl, report.orphans), (10, 10));
        assert_eq!(report.ttl.iter().sum::<u64>(), 90);
    }
}
