//! [`Campaign`]: many seeds of many scenarios, on all cores.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fault::FaultKind;
use super::scenario::{Run, Scenario, simulate};

/// A range of seeds of one scenario, until the first violation or the end of the time.
#[derive(Debug, Clone)]
pub struct Campaign {
    seeds: Range<u64>,
    limit: Duration,
    threads: usize,
}

/// What became of a [`Campaign`].
#[derive(Debug, Clone)]
pub struct Report {
    /// The scenario's name.
    pub scenario: &'static str,
    /// How many seeds were run.
    pub seeds: u64,
    /// How long that took.
    pub took: Duration,
    /// How many faults of each kind have happened.
    pub faults: BTreeMap<FaultKind, u64>,
    /// How often each mark of the scenario was reached.
    pub marks: BTreeMap<&'static str, u64>,
    /// The run with the smallest seed that went wrong, of those that were run.
    pub violation: Option<Run>,
}

impl Campaign {
    /// These seeds, on all cores, however long it takes.
    pub fn new(seeds: Range<u64>) -> Self {
        Self {
            seeds,
            limit: Duration::MAX,
            threads: thread::available_parallelism().map_or(1, NonZero::get),
        }
    }

    /// No further seed is begun after this time. The first is run all the same: a report of none says nothing.
    #[must_use]
    pub fn limit(mut self, time: Duration) -> Self {
        self.limit = time;
        self
    }

    /// On so many threads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Runs the seeds.
    pub fn run(&self, scenario: &dyn Scenario) -> Report {
        let began = Instant::now();
        let next = AtomicU64::new(self.seeds.start);
        let is_over = AtomicBool::new(false);
        let report = Mutex::new(Report {
            scenario: scenario.name(),
            seeds: 0,
            took: Duration::ZERO,
            faults: BTreeMap::new(),
            marks: scenario.marks().iter().map(|mark| (*mark, 0)).collect(),
            violation: None,
        });
        let work = || {
            while !is_over.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let is_first = seed == self.seeds.start;
                if seed >= self.seeds.end || (!is_first && began.elapsed() >= self.limit) {
                    return;
                }
                let run = simulate(scenario, seed);
                if run.violation.is_some() {
                    is_over.store(true, Ordering::Relaxed);
                }
                report.lock().add(run);
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(work);
            }
        });
        let mut report = report.into_inner();
        report.took = began.elapsed();
        report
    }
}

impl Report {
    /// How many seeds were run in a second.
    #[expect(clippy::cast_precision_loss, reason = "it is shown")]
    pub fn seeds_per_second(&self) -> f64 {
        self.seeds as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// The marks of the scenario that no run has reached: as far as they go, nothing was checked.
    pub fn never_reached(&self) -> Vec<&'static str> {
        let never = self.marks.iter().filter(|(_, count)| **count == 0);
        never.map(|(mark, _)| *mark).collect()
    }

    fn add(&mut self, run: Run) {
        self.seeds += 1;
        for (kind, count) in &run.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
        for (mark, count) in &run.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        let is_first = self
            .violation
            .as_ref()
            .is_none_or(|known| run.seed < known.seed);
        if run.violation.is_some() && is_first {
            self.violation = Some(run);
        }
    }
}

/// One line of figures, one of faults, and one of marks.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let violations = usize::from(self.violation.is_some());
        write!(
            f,
            "{:<20} {:>7} seeds {:>8.1} s {:>8.1} seeds/s  violations: {violations}",
            self.scenario,
            self.seeds,
            self.took.as_secs_f64(),
            self.seeds_per_second()
        )?;
        write_counts(f, "faults", &self.faults)?;
        write_counts(f, "reached", &self.marks)
    }
}

fn write_counts<K: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    counts: &BTreeMap<K, u64>,
) -> fmt::Result {
    let counts: Vec<_> = counts
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    match counts.is_empty() {
        true => Ok(()),
        false => write!(f, "\n    {what}: {}", counts.join(", ")),
    }
}
