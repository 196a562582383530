//! A cache's numbers: its own counters, and the same as metrics. Handles are made once.

use redkit_core::Tally;

/// Declares every number once: for [`CacheStats`], its counter and its metric.
macro_rules! metrics_of_a_cache {
    ($($(#[doc = $doc:literal])+ $name:ident: $metric:literal $(, $label:literal => $value:literal)?;)*) => {
        /// The numbers of a cache since it was built. Only this process's calls are counted.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct CacheStats {
            $($(#[doc = $doc])+ pub $name: u64,)*
            /// Values that are kept in this process now, more or less.
            pub l1_entries: u64,
        }

        pub(crate) struct Metrics {
            $(pub(crate) $name: Tally,)*
        }

        impl Metrics {
            pub(crate) fn new(cache: &str) -> Self {
                Self {
                    $($name: Tally::new(metrics::counter!(
                        $metric, "cache" => cache.to_owned() $(, $label => $value)?
                    )),)*
                }
            }

            pub(crate) fn read(&self) -> CacheStats {
                CacheStats {
                    $($name: self.$name.get(),)*
                    l1_entries: 0,
                }
            }
        }
    };
}

metrics_of_a_cache! {
    /// Reads that found a value in this process.
    l1_hits: "redkit_cache_reads_total", "result" => "l1_hit";
    /// Reads that found a fresh value in Redis.
    hits: "redkit_cache_reads_total", "result" => "hit";
    /// Reads that found none. Callers that wait for the same load count once.
    misses: "redkit_cache_reads_total", "result" => "miss";
    /// Reads that were given a stale value.
    stale: "redkit_cache_reads_total", "result" => "stale";
    /// Reads that the cache could not answer, because Redis could not.
    bypasses: "redkit_cache_reads_total", "result" => "bypass";
    /// Loads that gave a value.
    loads: "redkit_cache_loads_total", "outcome" => "loaded";
    /// Loads that failed, took too long or panicked.
    load_failures: "redkit_cache_loads_total", "outcome" => "failed";
    /// Calls that waited for another call's load in this process.
    shared: "redkit_cache_loads_total", "outcome" => "shared";
    /// Times that a load of another process was waited for.
    waits: "redkit_cache_loads_total", "outcome" => "waited";
    /// Loads in the background, of values that were still fresh.
    refreshes: "redkit_cache_refreshes_total";
    /// Loads that were refused because Redis was down and too many were running.
    overloads: "redkit_cache_overloads_total";
    /// Loaded values that were not kept because something happened to their keys meanwhile.
    fenced: "redkit_cache_fenced_total";
    /// Loaded values that could not be kept.
    fill_failures: "redkit_cache_fill_failures_total";
    /// Loaded values that were not even tried to be kept, because Redis could not be asked.
    dropped_writes: "redkit_cache_dropped_writes_total";
    /// Stored values that were not of the cache's type.
    decode_failures: "redkit_cache_decode_failures_total";
}

impl CacheStats {
    /// Hits, in the process and in Redis, as a share of the reads that the cache answered; 0 when
    /// there was none.
    pub fn hit_rate(&self) -> f64 {
        let hits = self.l1_hits + self.hits;
        match hits + self.stale + self.misses {
            0 => 0.0,
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
            reads => hits as f64 / reads as f64,
        }
    }
}
