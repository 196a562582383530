//! How redkit is measured beside its peers: in one run, on one server, in turns, as ratios.

mod measure;
mod report;

pub use measure::{Load, Paired, Sample, Worker, compare, run_alone};
pub use report::{Section, Target, write_section};
