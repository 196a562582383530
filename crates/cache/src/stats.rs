//! A cache's numbers: its own counters, and the same as metrics. Handles are made once.

use redkit_core::Tally;

/// What a cache has done since it was built. Only this process's calls are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Reads that the cache could not answer, because Redis could not.
    pub bypasses: u64,
    /// Loads that gave a value.
    pub loads: u64,
    /// Loads that failed, took too long or panicked.
    pub load_failures: u64,
    /// Calls that waited for another call's load.
    pub shared: u64,
    /// Loaded values that could not be kept.
    pub fill_failures: u64,
    /// Stored values that were not of the cache's type, and were loaded anew.
    pub decode_failures: u64,
}

impl CacheStats {
    /// Hits as a share of the reads that were answered; 0 when there was none.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
            reads => self.hits as f64 / reads as f64,
        }
    }
}

pub(crate) struct Numbers {
    pub(crate) hits: Tally,
    pub(crate) misses: Tally,
    pub(crate) bypasses: Tally,
    pub(crate) loads: Tally,
    pub(crate) load_failures: Tally,
    pub(crate) shared: Tally,
    pub(crate) fill_failures: Tally,
    pub(crate) decode_failures: Tally,
}

impl Numbers {
    pub(crate) fn new(cache: &str) -> Self {
        let reads = |result: &'static str| {
            Tally::new(metrics::counter!(
                "redkit_cache_reads_total", "cache" => cache.to_owned(), "result" => result
            ))
        };
        let loads = |outcome: &'static str| {
            Tally::new(metrics::counter!(
                "redkit_cache_loads_total", "cache" => cache.to_owned(), "outcome" => outcome
            ))
        };
        Self {
            hits: reads("hit"),
            misses: reads("miss"),
            bypasses: reads("bypass"),
            loads: loads("loaded"),
            load_failures: loads("failed"),
            shared: loads("shared"),
            fill_failures: Tally::new(metrics::counter!(
                "redkit_cache_fill_failures_total", "cache" => cache.to_owned()
            )),
            decode_failures: Tally::new(metrics::counter!(
                "redkit_cache_decode_failures_total", "cache" => cache.to_owned()
            )),
        }
    }

    pub(crate) fn read(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            bypasses: self.bypasses.get(),
            loads: self.loads.get(),
            load_failures: self.load_failures.get(),
            shared: self.shared.get(),
            fill_failures: self.fill_failures.get(),
            decode_failures: self.decode_failures.get(),
        }
    }
}
