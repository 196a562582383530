//! Production Redis patterns on one connection core that stays up.
//!
//! ```
//! use std::time::Duration;
//! use redkit::cache::Cache;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn from_database(_: u32) -> Result<String, std::io::Error> { Ok("Teapot".to_owned()) }
//! // `redis://…`, `rediss://…`, `unix:///…`, or an engine in this process:
//! let client = redkit::connect("embedded://").await?;
//!
//! let names: Cache<String> = Cache::builder(&client, "names").ttl(Duration::from_secs(60)).build()?;
//! let name = names.get_or_load("42", || from_database(42)).await?;
//! assert_eq!(*name, "Teapot");
//!
//! client.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! The core's items stand at the root; each pattern is a module, behind a feature of its name.
//! Every pattern is a crate of its own (`redkit-cache`, …) that depends on `redkit-core` only.
//!
//! # Features
//! Default: `redis`, `embedded`, `cache`, `collections`, `ratelimit`. Optional: `session`; `tls`; `messagepack`,
//! `postcard`, `zstd`, `lz4` and `encryption` for values (see [`Codec`]); `tower` and `axum` (the layers of
//! `ratelimit` and `cache`); `serde` (limiters from configuration files).

#[cfg(feature = "cache")]
pub use redkit_cache as cache;
#[cfg(feature = "collections")]
pub use redkit_collections as collections;
pub use redkit_core::*;
#[cfg(feature = "embedded")]
pub use redkit_embedded as embedded;
#[cfg(feature = "ratelimit")]
pub use redkit_ratelimit as ratelimit;
#[cfg(feature = "session")]
pub use redkit_session as session;

/// Connects to where `url` says: a server, or an engine in this process with `embedded://`. Every
/// setting of [`ClientConfig`] can stand in the query (`redis://localhost?namespace=shop`).
///
/// # Errors
/// [`Error::Config`] for a URL that cannot work, [`Error::Call`] when no connection could be made.
pub async fn connect(url: &str) -> Result<Client, Error> {
    connect_with(ClientConfig::from_url(url)?).await
}

/// Like [`connect`], for a configuration made by other means.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(config: ClientConfig) -> Result<Client, Error> {
    #[cfg(feature = "embedded")]
    if *config.endpoint() == Endpoint::Embedded {
        return Client::from_backend(std::sync::Arc::new(embedded::Embedded::new()), &config);
    }
    Client::connect(config).await
}
