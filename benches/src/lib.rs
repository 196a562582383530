//! How redkit is measured beside its peers: in one run, on one server, in turns, as ratios.

mod measure;
mod report;
pub mod server;

pub use measure::{Load, Paired, Sample, Worker, compare, median, run_alone};
pub use report::{COMPARISON, Section, Target, comparison, verdict, write_section};
