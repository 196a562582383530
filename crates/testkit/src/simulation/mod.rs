//! Whole fleets in one thread and in virtual time: faults from a seed, histories, and checks of what was
//! promised.
//!
//! A [`World`] has servers (embedded engines, which run the same scripts), processes (each with a runtime, a clock
//! and clients of its own), and a network between them. The world lets one of them run at a time,
//! up to the next thing that happens anywhere, so a run of many seconds takes milliseconds, and is the
//! same for the same seed: every delay, every fault and every random number comes from it.
//!
//! A [`Scenario`] says what the processes do and what must hold. [`simulate`] runs one seed of it, a
//! [`Campaign`] many; [`shrink`] makes a short story of a run that went wrong. `cargo xtask simulate`
//! does all three for the scenarios of this repository. `docs/simulation.md` shows how to check a use of one's
//! own.
//!
//! # What a process may do
//! It uses tokio as ever: tasks, timers, channels. It must not use threads, real time or the order of a
//! `HashMap`, and its `select!`s are `biased` where that decides anything, because tokio chooses at
//! random otherwise. Randomness is [`Process::random_range`] or `redkit_core::random`.
//!
//! tokio itself chooses at random in two places: which branch of a `select!` that is not `biased` it looks at first,
//! and which receiver of a `watch` it wakes first. These choices follow from the seed only when everything is built
//! with `--cfg tokio_unstable`, as `cargo xtask simulate` does ([`IS_REPEATABLE`]).
//!
//! # What is simulated, and what is not
//! - A process's clock drifts and leaps, its timers with it. It is paused and killed at any await.
//! - Messages of a connection keep their order, and connections break, hang and hold back what
//!   arrives late. A driver connects anew as those for real servers do, and tells its subscriptions of
//!   gaps; it is a driver of the world's own, so the networked drivers themselves are not
//!   simulated.
//! - Servers stop, restart, fail over to replicas that lag, lose data and scripts, and run out of memory.
//!   There are no clusters and no two masters of the same data at a time.

mod backend;
mod campaign;
pub mod checkers;
mod clock;
mod event;
mod fault;
pub mod history;
mod host;
mod network;
mod options;
mod panics;
mod process;
mod random;
mod scenario;
mod schedule;
mod server;
mod shrink;
mod trace;
mod violation;
mod world;

/// Whether a seed gives the same run each time, also where tokio chooses at random. Without it the checks are
/// as good, and a run may not be seen again.
pub const IS_REPEATABLE: bool = cfg!(tokio_unstable);

#[cfg(test)]
mod tests;

pub use campaign::{Campaign, Report};
pub use fault::{Data, Direction, Fault, FaultKind};
pub use history::ProcessId;
pub use options::{ProcessOptions, WorldOptions};
pub use process::{Process, ServerId};
pub use scenario::{Run, Scenario, ScenarioContext, simulate, simulate_and_tell};
pub use schedule::{FaultMenu, PlannedFault, Schedule};
pub use shrink::{Shrunk, shrink};
pub use trace::Detail;
pub use violation::Violation;
pub use world::World;
