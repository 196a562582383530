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
//! At the root stands what a program names: clients and their configuration, commands, keys, values,
//! errors. Each pattern is a module, behind a feature of its name, and a crate of its own
//! (`redkit-cache`, …) on `redkit-core`; `redkit-http-cache` is on `redkit-cache`. All of that is in
//! [`core`], with what an author of a backend or of a pattern needs besides.
//!
//! # Features
//! - Default: `native` (the networked driver), `cache`, `collections`, `lock`, `pubsub`, `ratelimit`, `session`.
//! - `embedded`: engines in this process, by `embedded://`. For tests, add redkit once more, among the
//!   `dev-dependencies`, with this feature.
//! - `listen`: an engine in this process on a port, for `redis-cli` and other languages.
//! - `tls`: connections by `rediss://`.
//! - `messagepack`, `postcard`, `zstd`, `lz4`, `encryption`: forms of values; see [`Codec`].
//! - `http-cache`: a cache of HTTP responses, on `redkit-cache`.
//! - `monitor`: health, statistics and alerts; `prometheus`: its exporter; `webhook`: alerts by HTTP; `dashboard`: a page
//!   for people.
//! - `tower`: the layers of `ratelimit`, `session` and `lock` (idempotent requests); `axum`: what these layers, the `http-cache`,
//!   `pubsub` and `monitor` do for it. Both are of the patterns that are switched on.
//! - `tower-sessions`: the store of `session` for that crate.
//! - `schedule`: messages by cron patterns; `ws`: events for browsers by WebSocket, beside Server-Sent Events of `axum`.
//! - `serde`: limiters from configuration files.
//! - `fred`: a second networked driver, for one server or sentinels.
//! - `full`: everything but `embedded`, `listen` and `fred`.

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clients;
#[cfg(feature = "embedded")]
mod engines;

pub use clients::Clients;
#[cfg(feature = "cache")]
pub use redkit_cache as cache;
#[cfg(feature = "collections")]
pub use redkit_collections as collections;
pub use redkit_core as core;
pub use redkit_core::breaker;
#[cfg(feature = "encryption")]
pub use redkit_core::{EncryptionKey, KeyRing};
// Clients and their configuration.
pub use redkit_core::{
    Address, Client, ClientConfig, ClientStats, ConfigError, ConnectionState, CredentialProvider,
    Credentials, Driver, Endpoint, Latency, ReconnectConfig, RetryConfig, TlsConfig, Topology,
};
// Commands, replies and errors.
pub use redkit_core::{
    CallError, Command, Error, ErrorKind, Fault, FaultKind, FromValue, Script, ServerError, ToArg,
    Value,
};
// Keys and values.
pub use redkit_core::{
    Change, Codec, CodecError, Compression, CompressionAlgorithm, ExpireIf, Expiry, Format, Key,
    KeyType, Pattern, Pipeline, SetItem, SetOptions, ToKey, Transaction, Ttl,
};
// Messages.
pub use redkit_core::{GapReason, Interest, Push, PushStream};
#[cfg(feature = "embedded")]
pub use redkit_embedded as embedded;
#[cfg(feature = "http-cache")]
pub use redkit_http_cache as http_cache;
#[cfg(feature = "lock")]
pub use redkit_lock as lock;
#[cfg(feature = "monitor")]
pub use redkit_monitor as monitor;
#[cfg(feature = "pubsub")]
pub use redkit_pubsub as pubsub;
#[cfg(feature = "ratelimit")]
pub use redkit_ratelimit as ratelimit;
#[cfg(feature = "session")]
pub use redkit_session as session;

/// Connects to where `url` says: a server, or an engine in this process with `embedded://` (feature
/// `embedded`). Every setting of [`ClientConfig`] can stand in the query
/// (`redis://localhost?namespace=shop`).
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
    match config.endpoint() {
        #[cfg(feature = "embedded")]
        Endpoint::Embedded { name } => {
            Client::from_backend(engines::engine(name.as_deref()), &config)
        }
        #[cfg(not(feature = "embedded"))]
        Endpoint::Embedded { .. } => Err(ConfigError::new(
            "url",
            "this build has no engine for embedded://",
            "add the feature `embedded` to redkit in Cargo.toml",
        )
        .into()),
        _ => Client::connect(config).await,
    }
}
