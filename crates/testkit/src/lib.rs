//! What redkit's own tests and benchmarks stand on:
//!
//! - [`Server`]: a private Redis or Valkey on a free port, in a temporary folder, that dies with
//!   the test whatever way the test ends;
//! - [`Cluster`]: such servers made into a cluster, with live migration of slots and failover;
//! - [`Sentinels`]: a master, its replicas and the sentinels that watch over them;
//! - [`TestProcess`]: another process of the test's own program, that is stopped, killed and heard;
//! - [`Proxy`]: a TCP proxy that delays, swallows, holds back, cuts, severs and refuses;
//! - [`FaultyBackend`]: a backend that fails, delays and loses calls as a test tells it to;
//! - [`Spans`]: the spans that a subscriber of traces would see;
//! - [`simulation`]: whole fleets in one thread and in virtual time, with faults from a seed;
//! - [`suite!`]: one test body that runs on every backend, each as a test of its own.
//!
//! `docs/testing.md` says how to use them. This crate is never published.

#[cfg(feature = "servers")]
mod admin;
#[cfg(feature = "servers")]
mod blocking;
#[cfg(feature = "servers")]
mod cluster;
#[cfg(feature = "servers")]
mod error;
#[cfg(feature = "servers")]
mod faulty;
#[cfg(feature = "servers")]
mod port;
#[cfg(feature = "servers")]
mod proxy;
#[cfg(feature = "servers")]
mod sentinels;
#[cfg(feature = "servers")]
mod server;
#[cfg(feature = "simulation")]
pub mod simulation;
#[cfg(feature = "servers")]
mod spans;
#[cfg(feature = "servers")]
mod suite;
#[cfg(feature = "servers")]
mod test_process;

#[cfg(feature = "servers")]
pub use self::{
    cluster::{Cluster, ClusterOptions, Migration},
    error::Error,
    faulty::{FaultyBackend, Function, Gate, Injection, Rule},
    proxy::{Close, Direction, Proxy},
    sentinels::{SentinelOptions, Sentinels},
    server::{Program, RawReply, Server, ServerOptions, Tls},
    spans::{Listening, RecordedSpan, Spans},
    suite::{BackendKind, Fixture, Outcome, Runtime, run},
    test_process::TestProcess,
};
