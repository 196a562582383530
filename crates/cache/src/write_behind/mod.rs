//! Write-behind: writes that are durable in Redis at once and in your database a little later.
//!
//! [`put`](WriteBehind::put) and [`delete`](WriteBehind::delete) return when the change is in a queue
//! on the server, in one round trip. A [`Worker`], in this process or in others, takes what is
//! pending in batches and gives it to your [`Sink`], which writes it to the database. Reads through
//! the same handle see what is pending before they see the cache or the database.
//!
//! ```
//! use std::time::Duration;
//! use redkit_cache::Cache;
//! use redkit_cache::write_behind::{Change, Current, Sink, SinkError, Verdict, WriteBehind};
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//!
//! struct Database;
//!
//! impl Sink<u64> for Database {
//!     async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
//!         for change in &batch {
//!             // UPDATE stock SET n = $value, version = $version WHERE id = $key AND version <= $version
//!             let _ = (change.key_str(), change.value(), change.version());
//!         }
//!         Ok(Verdict::written(batch.len()))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
//! # async fn stock_in_database(_: u32) -> Result<u64, std::io::Error> { Ok(0) }
//! let cache: Cache<u64> = Cache::builder(&client, "stock").ttl(Duration::from_secs(60)).build()?;
//! let stock = WriteBehind::builder(&client, "stock").cache(&cache).open().await?;
//! let worker = stock.start(Database);
//!
//! stock.put("42", &7).await?; // durable as Redis is
//! let read = stock.get_or_load("42", || stock_in_database(42)).await?;
//! assert_eq!(read.into_value(), Some(7));
//!
//! worker.shutdown(Duration::from_secs(10)).await?; // what is pending is written first
//! # Ok(()) }
//! ```
//!
//! # What holds
//! - **Order and coalescing.** Each change has a [version](Change::version) that grows with every
//!   accepted write of its partition. Of several pending changes of a key the last one is kept. A key's
//!   changes reach the sink in the order of their versions, one at a time, also when workers die. A
//!   delete is a change like any other, so one after a put never lets the put come back.
//! - **At least once.** A worker that dies after the database has written, and before it has said
//!   so, leaves the same change with the same version to the next. Make the sink's write one that can
//!   be repeated: set, not add.
//! - **One worker per partition.** A batch is leased; the lease is renewed while the sink is at work
//!   and ends with the worker. The worker's own deadline is counted from when it *sent* the last
//!   successful renewal, on a clock that is never set, less a tenth. Past it, it starts no call and
//!   drops one that is running.
//! - **What remains.** A call that the worker has dropped (its lease ran out, or it took longer than
//!   `sink_timeout`), or whose process was stopped in the middle and goes on later, may still reach the
//!   database, after a newer change that another worker wrote. No lease can prevent that. Only the
//!   database can, by refusing versions older than the one it has: `… WHERE version <= $version`. Answer
//!   [`Verdict::Stale`] then. With that check no older change ever follows a newer one; without it,
//!   none does as long as no call outlives its lease or its timeout.
//! - **Failures hold up their own key only.** They are tried again with growing pauses, and given up
//!   after `max_attempts`: see [`Verdict`] and [`WriteBehind::dead_letters`]. A batch that fails as a
//!   whole (an error, a panic, a timeout, a dead worker) is halved for each further attempt, so that a
//!   change that breaks its batch ends up alone, and only then counts its attempts.
//! - **Bounds.** At most `max_pending` keys per partition are pending; a write of another key is refused
//!   with [`Error::QueueFull`](crate::Error::QueueFull). A key that is pending already can always be
//!   written.
//! - **Dead letters are not bounded**, because none is ever dropped: not even one whose key was written
//!   since. There is at most one per key. Watch [`WriteBehindStats::dead_letters`], and
//!   [redrive](WriteBehind::redrive_all) or [discard](WriteBehind::discard_all) them.
//!
//! # What "durable" means
//! As durable as the server makes it. With `appendonly yes` and `appendfsync always` an acknowledged
//! write survives a crash of the server's machine; with `everysec` the last second may be gone;
//! without an append-only file, everything since the last snapshot. Replication is asynchronous: a
//! failover can lose what the old master had acknowledged and not yet sent. What it loses may be in your
//! database already, with a version that the new master does not know: when the new master's clock
//! is behind the old one's, writes that it accepts until it has caught up can get smaller versions, a
//! database that compares versions answers [`Verdict::Stale`], and they are dropped though they are newer.
//! Keep the servers' clocks together, closer than a failover takes. The queue's keys have no
//! time to live, so they are safe from `volatile-*` eviction policies and from `noeviction`, and not
//! from `allkeys-*`: do not use those on this server.
//!
//! # With a cache
//! After the database has written a change, and before the change is taken off the queue, the key is
//! invalidated in the [`Cache`](crate::Cache). So a read through the handle finds the change in the queue, or a
//! cache that has been told. Who reads the cache directly sees the database's state. With a level-one
//! cache in the process, that level's bound applies from the moment at which the change leaves the
//! queue.
//!
//! # When Redis is down
//! Writes fail, and the error says whether the change may have been accepted; repeat it with the same
//! [`WriteId`] ([`WriteBehind::put_as`]) and it is accepted once. Reads through the handle fail too,
//! because nobody knows what is pending. Workers wait and go on. Nothing that was accepted is lost
//! while the server keeps its data.
//!
//! # What it costs
//! A write is one round trip, a read one more than the cache's. A batch is two, one for each key that the
//! cache is told of, and one for each third of the lease that the sink takes longer. An idle worker
//! asks each partition once per `poll_interval`; what is new is told by the server, through one subscription of
//! the client. Scripts take O(log n) for each change in n pending
//! ones.
//!
//! # Clusters
//! All keys of a partition share a slot (`{name.partition}`); the partitions are spread over the
//! nodes. A key's partition is its slot modulo their number, which is stored with the queue: a
//! process that is configured with another number gets [`Error::Partitions`](crate::Error::Partitions)
//! and changes nothing. To change the number, drain the queue and take a new name.

mod builder;
mod current;
mod dead_letter;
mod dead_letters;
mod flush;
mod handle;
mod inspect;
mod lease;
mod metrics;
mod queue;
mod round;
mod settings;
mod sink;
mod sink_call;
mod sink_error;
mod stored;
mod worker;
mod write_id;

pub use builder::WriteBehindBuilder;
pub use current::Current;
pub use dead_letter::{Cursor, DeadLetter, DeadLetterPage, Redriven};
pub use handle::WriteBehind;
pub use metrics::WriteBehindStats;
pub use sink::{Change, Sink, Verdict};
pub use sink_error::SinkError;
pub use worker::Worker;
pub use write_id::WriteId;
