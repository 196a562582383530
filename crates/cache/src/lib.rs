//! Caching on Redis.
//!
//! A [`Cache<V>`] holds values of one type under keys of yours. [`get_or_load`](Cache::get_or_load)
//! is the way in: it gives the cached value, or loads it, once for all callers that ask at the same
//! time, and keeps it.
//!
//! ```
//! use std::time::Duration;
//! use redkit_cache::{Cache, Source};
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
//! # async fn price_from_database(_: u32) -> Result<u64, std::io::Error> { Ok(1999) }
//! let prices: Cache<u64> = Cache::builder(&client, "prices").ttl(Duration::from_secs(60)).build()?;
//!
//! let price = prices.get_or_load("42", || price_from_database(42)).await?;
//! assert_eq!((*price, price.source()), (1999, Source::Loaded));
//! let price = prices.get_or_load("42", || price_from_database(42)).await?;
//! assert_eq!((*price, price.source()), (1999, Source::Redis));
//!
//! prices.invalidate("42").await?; // after the database was written
//! # Ok(()) }
//! ```
//!
//! # What it takes care of
//!
//! - **One load** per key, among all callers of all processes. Others wait for it, and are woken.
//! - **Nothing old**: a value that was read from the source before an [`invalidate`](Cache::invalidate) is
//!   neither kept after it nor given to a caller that asks after it. `docs/guarantees/cache.md` says
//!   exactly which promises hold, and names the tests.
//! - **Stale values** ([`stale_for`](CacheBuilder::stale_for)) when the source fails or is slow, and
//!   loading anew before the end ([`refresh_ahead`](CacheBuilder::refresh_ahead)), by one process.
//! - **Tags** ([`Loaded::tags`], [`invalidate_tag`](Cache::invalidate_tag)) and
//!   [`clear`](Cache::clear), in the same time for any number of values.
//! - **A local cache** ([`L1`]), in the process, that hears of all changes, or stops serving within a bound;
//!   of what other programs do to the keys as well, when it is [tracked](L1::tracked).
//! - **Several keys** with [`get_many_or_load`](Cache::get_many_or_load), functions with
//!   [`memoize`](Cache::memoize), a source that may have nothing with
//!   [`find_or_load`](Cache::find_or_load), writing with
//!   [`write_through`](Cache::write_through), filling ahead with [`warm`](Cache::warm), named caches
//!   from a configuration with [`Caches`].
//! - **Caches on top of this one**: [`peek`](Cache::peek) looks without loading. `redkit-http-cache`,
//!   which keeps responses of HTTP services, is built on it.
//!
//! # How it is stored
//!
//! An entry is one line of text and the value by the client's codec (JSON by default), under
//! `namespace:cache:name:{key}`, with a time to live. Programs in other languages cut off the line;
//! `docs/keyspace.md` documents it and every other key. On a cluster everything works; a change
//! costs a round trip more there.
//!
//! # When Redis is down
//!
//! `get_or_load` loads, one load per key at a time and a bounded number at once, and gives the value
//! with [`Source::Bypassed`]. An [`L1`] serves for its bound. `get`, `set` and `invalidate` give the
//! error; `write_through` writes the source and then gives the error.
//!
//! # Sources
//!
//! Leases after Nishtala et al., *Scaling Memcache at Facebook* (2013); early refreshing after
//! Vattani et al., *Optimal Probabilistic Cache Stampede Prevention* (2015).

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod bulk;
mod cache;
mod config;
mod entry;
mod error;
mod extend;
mod fetched;
mod fill;
mod id;
mod inspect;
mod invalidate;
mod l1;
mod lease;
mod load_outcome;
mod load_task;
mod local_cache;
#[cfg(test)]
mod lost_tests;
mod memoize;
mod miss;
mod names;
mod refresh;
mod scripts;
mod settings;
mod share;
mod single_flight;
mod stats;
mod store;
mod tasks;
mod warm;
pub mod write_behind;
mod write_through;

pub use builder::{CacheBuilder, HasTtl, NoTtl};
pub use cache::Cache;
pub use config::{CacheConfig, Caches};
pub use error::{Error, LoadError};
pub use fetched::{Fetched, Loaded, Source};
pub use l1::L1;
pub use memoize::Memoized;
pub use stats::CacheStats;
pub use warm::{Warmed, Warming};
