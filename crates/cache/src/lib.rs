//! Caching on Redis.
//!
//! A [`Cache<V>`] holds values of one type under keys of yours. [`get_or_load`](Cache::get_or_load)
//! is the way in: it gives the cached value, or loads it, once for everybody who asks at the same
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
//! assert_eq!((*price, price.source()), (1999, Source::Hit));
//!
//! prices.invalidate("42").await?; // after the database was written
//! # Ok(()) }
//! ```
//!
//! Values are stored by the client's codec (JSON by default, readable for others) under
//! `namespace:cache:name:{key}`, each with a time to live.
//!
//! **When Redis is down** `get_or_load` loads, still once for all who ask at the same time in this
//! process, and gives the value with [`Source::Bypassed`]. `get`, `set` and `invalidate` give the
//! error.

mod builder;
mod cache;
mod error;
mod fetched;
mod flight;
mod stats;
pub mod write_behind;

pub use builder::CacheBuilder;
pub use cache::Cache;
pub use error::{Error, LoadError};
pub use fetched::{Fetched, Loaded, Source};
pub use stats::CacheStats;
