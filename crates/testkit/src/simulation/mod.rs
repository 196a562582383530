//! Simulation: whole fleets in one thread, in virtual time.
//!
//! - [`history`]: what processes did, and what they know of it.
//! - [`checkers`]: one for each guarantee, which refuse a history that breaks it. They are told times and
//!   outcomes, so they serve histories of real processes as well.

pub mod checkers;
pub mod history;
mod violation;

pub use violation::Violation;
