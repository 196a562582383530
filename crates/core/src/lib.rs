//! The connection core of redkit: one seam, [`Backend`], through which every command goes to
//! Redis, Valkey or an engine in the process, and one handle, [`Client`], that treats every call
//! the same way.
//!
//! ```no_run
//! use redkit_core::{Client, ClientConfig, Command};
//!
//! # async fn example() -> Result<(), redkit_core::Error> {
//! let client = Client::connect(ClientConfig::from_url("redis://localhost")?).await?;
//! let total: i64 = client.call(Command::new("INCRBY").key("total").arg(5)).await?;
//! # let _ = total; Ok(()) }
//! ```
//!
//! What a client does to every call, in this order: it admits it (at most
//! [`max_in_flight`](ClientConfig::max_in_flight)), gives it a deadline, asks the
//! [circuit breaker](breaker), sends it, and repeats it when that is safe. [`CallError`] tells
//! what may be concluded from a failure: the command was not sent, may have been carried out, or
//! was refused by the server.
//!
//! Below it, a supervisor owns the connection, probes it when it is silent, and replaces it when
//! it no longer answers.
//!
//! # Features
//! - `native` (default): the networked driver.
//! - `fred`: a second networked driver, on the `fred` crate, for one server; see [`fred`].
//! - `tls`: encrypted connections by rustls.
//! - `simulation`: for simulated runs, a thread's [randomness](random) can be replaced.
//! - `messagepack`, `postcard`: values in these formats; `zstd`, `lz4`: compressed values;
//!   `encryption`: encrypted values. See [`Codec`].
//! - `tower`: what the layers of the patterns for HTTP services share; see [`http_layer`].

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod backend;
pub mod breaker;
mod client;
mod codec;
mod command;
mod config;
pub mod coordination;
mod driver;
mod error;
#[cfg(feature = "tower")]
pub mod http_layer;
pub mod inspection;
mod keys;
mod push;
pub mod random;
mod script;
mod tally;
mod value;
mod values;

pub use admission::{Admission, AdmissionPermit, Admitted};
pub use backend::{Backend, Capabilities, ConnectionState, ServerKind, ServerNode, Topology};
pub use client::{Client, ClientStats, Latency, Request, check_pipeline, check_shareable};
pub use codec::{Codec, CodecError, Compression, CompressionAlgorithm, Format, StoredForm};
#[cfg(feature = "encryption")]
pub use codec::{EncryptionKey, KeyRing};
pub use command::{Command, ToArg};
pub use config::{
    Address, ClientConfig, ConfigError, CredentialProvider, Credentials, Driver, Endpoint,
    ReconnectConfig, RetryConfig, TlsConfig,
};
#[cfg(feature = "fred")]
pub use driver::fred;
#[cfg(all(any(test, fuzzing), feature = "native"))]
#[doc(hidden)]
pub use driver::native::fuzzing;
pub use error::{CallError, Error, ErrorKind, Fault, FaultKind, ServerError, TypeName};
pub use inspection::Inspect;
pub use keys::{Key, Keyspace, PatternKey, escape_glob, slot};
pub use push::{GapReason, Interest, Push, PushCloser, PushSink, PushStream, push_channel};
pub use script::{Invocation, Script};
pub use tally::Tally;
pub use value::{FromValue, Value, ValueError};
pub use values::{
    Change, Conditional, Deleted, ExpireIf, Expiry, Group, Grouping, Groups, KeyType, Pattern,
    Pipeline, Previous, Queued, RandomKey, ReencodeOutcome, Replies, Scan, ScanStream, SetItem,
    SetOptions, Stored, Swap, Sweep, SweepReport, ToKey, Transaction, Ttl, Unconditional, Update,
    Write, WriteMode, check_same_slot,
};
