//! Typed handles over the data structures of Redis.
//!
//! | handle | what it is |
//! |---|---|
//! | [`Hash<V>`](struct@Hash) | named fields with values of one type |
//! | [`List<T>`](List) | items in order, pushed and popped at both ends; [`ListConsumer`] waits for them |
//! | [`Set<T>`](Set) | members without order, each once |
//! | [`SortedSet<T>`](SortedSet) | members in the order of their scores; [`SortedSetConsumer`] waits for them |
//! | [`Counter`], [`FloatCounter`], [`Counters`] | numbers that many count up |
//!
//! ```
//! use std::time::Duration;
//! use redkit_collections::{Hash, Lifetime};
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
//! // Ends an hour after it was last written to.
//! let basket: Hash<u32> = Hash::new(&client, "basket:7")
//!     .with_ttl(Lifetime::on_write(Duration::from_secs(3600))?);
//! basket.set("teapot", &1).await?;
//! basket.incr("cup", 4).await?;
//! assert_eq!(basket.get_many(["teapot", "cup", "spoon"]).await?, [Some(1), Some(4), None]);
//! # Ok(()) }
//! ```
//!
//! A handle is a client and a key: it is cheap to clone, holds no connection of its own (a consumer
//! does), and sends nothing when it is made. Keys are keys of your own in the client's namespace
//! ([`Client::key`](redkit_core::Client::key)); values go through the client's codec, JSON by
//! default, so that other programs read them. Nothing is trimmed or guessed: the text `"123"` is not
//! the number, and `null` is not absent.
//!
//! **Time to live.** A handle may carry a [`Lifetime`], and then no write of it leaves its key without
//! one: the write and the time go in one step, by a script, in one round trip.
//!
//! **When Redis is down** every operation gives the error, by the client's deadline. Reads are
//! repeated when that helps. Writes are repeated only when they certainly did not arrive:
//! [`Error::is_maybe`] says of the others that they may have been carried out.
//!
//! Each handle's page says what its operations cost and what it does in a cluster.

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod blocking;
mod counter;
mod encoding;
mod error;
mod handle;
mod hash;
mod increment;
mod lifetime;
mod list;
mod positions;
mod scan;
mod set;
mod sorted_set;
mod write;

pub use counter::{Bounded, Counter, Counters, FloatCounter};
pub use error::Error;
pub use hash::Hash;
pub use lifetime::{ExpirePolicy, Lifetime};
pub use list::{End, List, ListConsumer, Occurrences};
pub use scan::Scanned;
pub use set::Set;
pub use sorted_set::{Add, AddIf, Aggregate, Combine, Order, Select, SortedSet, SortedSetConsumer};
