//! What redkit promises, in simulated fleets: the scenarios that `cargo xtask simulate` runs.
//!
//! Each stands in a file of its own under `scenarios/`, by its pattern. `docs/simulation.md` says how to run them
//! and how to write one.

mod holds;
mod scenarios;
mod seeds;

pub use scenarios::all;
pub use seeds::{FAILED_ONCE, FEW_SEEDS, UNEXPLAINED};
