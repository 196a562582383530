//! [`shrink`]: from a run that went wrong to a short one that does.

use super::scenario::{Run, RunPlan, Scenario, simulate_as};
use super::schedule::{PlannedFault, Schedule};
use super::trace::Detail;

/// How many runs are tried at most.
const TRIES: usize = 300;

/// A short run that violates what the first one did, or something else.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The run, with its story.
    pub run: Run,
    /// How many faults the first run had.
    pub faults_before: usize,
    /// How many operations a process does at most.
    pub operations: usize,
    /// How many runs were tried.
    pub tries: usize,
}

/// Looks for a run with fewer faults and fewer operations that goes wrong as well: it takes away what can
/// be done without, halves of it first (Zeller and Hildebrandt, *Simplifying and Isolating
/// Failure-Inducing Input*, 2002). All else stays as the seed says.
pub fn shrink(scenario: &dyn Scenario, run: &Run) -> Shrunk {
    let mut search = Search {
        scenario,
        best: RunPlan {
            seed: run.seed,
            schedule: Some(run.schedule.clone()),
            most_operations: run.operations.max(1),
            detail: Detail::None,
        },
        tries: 0,
    };
    // Fewer operations may do with fewer faults, and the other way round.
    for _ in 0..2 {
        search.take_faults_away();
        search.take_operations_away();
    }
    let plan = RunPlan {
        detail: Detail::Story,
        ..search.best
    };
    Shrunk {
        run: simulate_as(scenario, &plan),
        faults_before: run.schedule.faults.len(),
        operations: plan.most_operations,
        tries: search.tries,
    }
}

struct Search<'a> {
    scenario: &'a dyn Scenario,
    best: RunPlan,
    tries: usize,
}

impl Search<'_> {
    /// Takes a plan over if its run goes wrong, too.
    fn try_out(&mut self, plan: RunPlan) -> bool {
        if self.tries >= TRIES {
            return false;
        }
        self.tries += 1;
        let goes_wrong = simulate_as(self.scenario, &plan).violation.is_some();
        if goes_wrong {
            self.best = plan;
        }
        goes_wrong
    }

    fn faults(&self) -> Vec<PlannedFault> {
        let schedule = self.best.schedule.as_ref();
        schedule.map_or_else(Vec::new, |schedule| schedule.faults.clone())
    }

    fn take_faults_away(&mut self) {
        let mut size = self.faults().len();
        while size > 0 {
            let mut start = 0;
            while start < self.faults().len() {
                let mut faults = self.faults();
                let end = (start + size).min(faults.len());
                faults.drain(start..end);
                let plan = RunPlan {
                    schedule: Some(Schedule { faults }),
                    ..self.best.clone()
                };
                if !self.try_out(plan) {
                    start += size;
                }
            }
            size /= 2;
        }
    }

    fn take_operations_away(&mut self) {
        let mut less = self.best.most_operations / 2;
        while less > 0 {
            let plan = RunPlan {
                most_operations: self.best.most_operations.saturating_sub(less).max(1),
                ..self.best.clone()
            };
            let is_less = plan.most_operations < self.best.most_operations;
            if !is_less || !self.try_out(plan) {
                less /= 2;
            }
        }
    }
}
