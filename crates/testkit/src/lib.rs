//! What redkit's own tests and benchmarks stand on:
//!
//! - [`Server`]: a private Redis or Valkey on a free port, in a temporary folder, that dies with
//!   the test whatever way the test ends;
//! - [`Cluster`]: such servers made into a cluster, with live migration of slots and failover;
//! - [`Sentinels`]: a master, its replicas and the sentinels that watch over them;
//! - [`Proxy`]: a TCP proxy that delays, swallows, holds back, cuts, severs and refuses;
//! - [`FaultyBackend`]: a backend that fails, delays and loses calls as a test tells it to;
//! - [`simulation`]: whole fleets in one thread and in virtual time, with faults from a seed;
//! - [`suite!`]: one test body that runs on every backend, each as a test of its own.
//!
//! `docs/testing.md` says how to use them. This crate is never published.

mod admin;
mod blocking;
mod cluster;
mod error;
mod faulty;
mod port;
mod proxy;
mod sentinels;
mod server;
pub mod simulation;
mod suite;

pub use cluster::{Cluster, ClusterOptions, Migration};
pub use error::Error;
pub use faulty::{FaultyBackend, Function, Gate, Injection, Rule};
pub use proxy::{Close, Direction, Proxy};
pub use sentinels::{SentinelOptions, Sentinels};
pub use server::{Program, RawReply, Server, ServerOptions, Tls};
pub use suite::{BackendKind, Fixture, Outcome, Runtime, run};
