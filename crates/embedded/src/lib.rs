//! A Redis-compatible engine in the process, as a [`Backend`](redkit_core::Backend): the same commands, the same error
//! texts, the same Lua, and nothing to install.
//!
//! It is for trying things out, for tests without a server, for single-process programs and as a
//! local fallback. It is not a server: it has no socket, unless a program asks for one to look into it
//! (`Embedded::listen`, feature `listen`), and keeps nothing when it is dropped.
//! A command that it does not have is an `unknown command` error; they are listed below.
//!
//! Its clock is tokio's, so that a test can move time:
//!
//! ```
//! use std::time::Duration;
//!
//! use redkit_core::{Backend, Command, Value};
//! use redkit_embedded::Embedded;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), redkit_core::CallError> {
//! let engine = Embedded::new();
//! engine.call(&Command::new("SET").key("greeting").arg("hello").arg("EX").arg(60)).await?;
//! assert_eq!(engine.call(&Command::new("GET").key("greeting")).await?, Value::bulk("hello"));
//!
//! tokio::time::advance(Duration::from_secs(61)).await;
//! assert_eq!(engine.call(&Command::new("GET").key("greeting")).await?, Value::Nil);
//! # Ok(())
//! # }
//! ```
//!
//! # What it has
//!
//! The commands of Redis 7.0 for keys, strings, bits, hashes, lists, sets, sorted sets, streams with
//! groups, publishing, transactions, scripts, and commands about the server; from later
//! versions the commands about the expiry of hash fields (`HEXPIRE` and its kin of 7.4, `HGETDEL`,
//! `HGETEX` and `HSETEX` of 8.0).
//!
//! Commands run one at a time under one lock, as on the server. Data live as long as a clone of the
//! [`Embedded`] that stored them, or one of its dedicated sessions.
//!
//! **Waiting.** `BLPOP` and its kin, and `XREAD` and `XREADGROUP` with `BLOCK`, wait on a
//! [`dedicated`](redkit_core::Backend::dedicated) session: first come, first served, after the whole
//! command, script or transaction that brought something. What is sent on the same session comes
//! after it. A call that is dropped, or whose deadline passes, leaves the queue and takes nothing;
//! a call that is dropped after it was served, before it saw the reply, loses the value, as on a
//! connection that breaks. Waiting needs a tokio runtime; all else works without one.
//!
//! **Near caches.** [`Interest::Invalidations`](redkit_core::Interest::Invalidations) is told of
//! every change of a key in the order of the commands, one message for each command, script or
//! transaction, and of expired keys and fields in their millisecond (without a runtime: with the
//! next command). A change of a consumer group is no change of its stream, as on the server.
//!
//! **Scripts** run in Lua 5.1 with the libraries `redis`, `bit` and `cjson` (with its settings) beside
//! Lua's own. The
//! caller's thread runs them, so a script is ended after five seconds, or when scripts together use
//! more than 256 MB; its writes until then stay. One call of Lua's own, such as a `string.find` with many repetitions in
//! its pattern, is not interrupted. Calls of other threads wait for a script until their deadlines; a
//! blocking pop whose deadline comes while such a script runs leaves its queue first, and ends with the script. Of the scripts
//! that came by `EVAL` and never by `SCRIPT LOAD`, the 500 used last are known by their digests, as on Redis 7.4; fewer
//! when their texts take 128 MB.
//!
//! **Estimates.** `MEMORY USAGE` and `used_memory` are reckoned from samples. `OBJECT ENCODING` says
//! how Redis 7.0 would store a value of this size that was written at once; the engine has one form
//! for each type. `MAXLEN ~` trims whole nodes of 100 entries or about 4 KB, as the server does.
//!
//! # Not there
//!
//! Of the commands of Redis 7.0 these are absent:
//!
//! - places and counting by hash: `GEOADD`, `GEODIST`, `GEOHASH`, `GEOPOS`, `GEORADIUS`,
//!   `GEORADIUSBYMEMBER`, `GEORADIUSBYMEMBER_RO`, `GEORADIUS_RO`, `GEOSEARCH`, `GEOSEARCHSTORE`,
//!   `PFADD`, `PFCOUNT`, `PFDEBUG`, `PFMERGE`, `PFSELFTEST`
//! - functions, and debugging of scripts: `FCALL`, `FCALL_RO`, `FUNCTION`, `SCRIPT DEBUG`
//! - dumps, files, and other databases: `BGREWRITEAOF`, `BGSAVE`, `CONFIG REWRITE`, `DUMP`, `LASTSAVE`,
//!   `MIGRATE`, `MOVE`, `RESTORE`, `RESTORE-ASKING`, `SAVE`, `SWAPDB`
//! - replicas and clusters: `ASKING`, `CLUSTER`, `FAILOVER`, `PSYNC`, `READONLY`, `READWRITE`, `REPLCONF`,
//!   `REPLICAOF`, `SLAVEOF`, `SYNC`
//! - connections: `ACL`, `CLIENT CACHING`, `CLIENT KILL`, `CLIENT PAUSE`, `CLIENT REPLY`,
//!   `CLIENT TRACKING`, `CLIENT TRACKINGINFO`, `CLIENT UNPAUSE`, `MONITOR`
//! - helps: the subcommand `HELP` of every family
//! - the rest: `COMMAND` without a subcommand, `COMMAND DOCS`, `COMMAND GETKEYS`, `COMMAND GETKEYSANDFLAGS`, `COMMAND INFO`, `DEBUG`,
//!   `LATENCY`, `LOLWUT`, `MEMORY DOCTOR`, `MEMORY MALLOC-STATS`, `MEMORY PURGE`, `MEMORY STATS`, `MODULE`,
//!   `SHUTDOWN`
//!
//! Besides: nothing is evicted, there is one database, keyspace notifications are not sent, there are no
//! settings, scripts do not have the Lua libraries struct and cmsgpack, and INFO lacks all sections and
//! fields but these:
//!
//! # `INFO`
//!
//! - Server: `redis_version`, `redis_mode`, `process_id`, `server_time_usec`, `uptime_in_seconds`,
//!   `uptime_in_days`
//! - Clients: `connected_clients`, `maxclients`, `blocked_clients`
//! - Memory: `used_memory`, `maxmemory`, `maxmemory_policy`
//! - Stats: `total_connections_received`, `total_commands_processed`, `expired_keys`, `evicted_keys`,
//!   `keyspace_hits`, `keyspace_misses`, `pubsub_channels`, `pubsub_patterns`
//! - Replication: `role`, `connected_slaves`
//! - Keyspace: the keys of the database, how many of them expire, and an average time to live of 0
//! - Commandstats: calls, time, refusals and failures of every command

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod args;
mod backend;
mod blocking;
mod clock;
mod command_stats;
mod commands;
mod engine;
mod error;
mod full_memory;
mod glob;
mod keyspace;
#[cfg(feature = "listen")]
mod listen;
mod number;
mod observers;
mod pubsub;
mod script;
mod session;
mod slow_log;
mod state;
mod tracking;
mod unsupported;
mod value;

pub use backend::{Embedded, Snapshot};
#[cfg(feature = "listen")]
pub use listen::{ListenError, Listener};
