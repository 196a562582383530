//! The engine: compares observations with rules and tells what begins and ends. It has no clock, sends
//! nothing and waits for nothing.

mod reading;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use self::reading::{Reading, Verdict};
use self::window::{Window, Windows};
use super::alert::{AlertState, Context};
use super::observation::Observation;
use super::rule::Rule;

/// The rules and how each of their subjects stands.
pub(super) struct Engine {
    pub(super) rules: Vec<Rule>,
    subjects: BTreeMap<(usize, String), Subject>,
    windows: BTreeMap<(usize, String), Window>,
    /// The rules and dependencies that the latest look said something about.
    read: BTreeSet<(usize, String)>,
}

/// How an alert that is open in the fleet stands in this instance.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// Its condition has not held since then.
    Good(Instant, Context),
    /// What it is about is not there.
    Absent,
    /// Anything else: it may go on, or nobody knows.
    Open,
}

struct Subject {
    phase: Phase,
    /// Since when it has read well, and when it did so last.
    good: Option<(Instant, Instant)>,
    context: Context,
    /// The part of the observation that it is read from: without it, nothing is known.
    dependency: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Quiet,
    Pending {
        since: Instant,
    },
    Firing {
        since: Instant,
        clear_since: Option<Instant>,
    },
}

/// An alert begins or ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Transition {
    pub(super) rule: usize,
    pub(super) subject: String,
    pub(super) state: AlertState,
    /// Since when the condition has held.
    pub(super) since: Instant,
    pub(super) context: Context,
}

/// How many subjects are kept: programs that make patterns for each request must not fill memory.
const MOST_SUBJECTS: usize = 10_000;

impl Engine {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            subjects: BTreeMap::new(),
            windows: BTreeMap::new(),
            read: BTreeSet::new(),
        }
    }

    /// Compares what is seen now. Gives what has begun or ended.
    pub(super) fn evaluate(&mut self, now: Instant, seen: &Observation) -> Vec<Transition> {
        let mut changes = Vec::new();
        self.read.clear();
        for index in 0..self.rules.len() {
            for dependency in &seen.dependencies {
                let Some(rule) = self.rules.get(index) else {
                    continue;
                };
                if rule
                    .dependency
                    .as_ref()
                    .is_some_and(|only| *only != dependency.name)
                {
                    continue;
                }
                let windows = Windows {
                    rule: index,
                    all: &mut self.windows,
                };
                let readings = reading::of(rule, dependency, &seen.report, windows, now);
                // What is not known changes nothing: it is an alert of its own.
                let Some(readings) = readings else { continue };
                let readings = one_of_each(readings);
                self.read.insert((index, dependency.name.clone()));
                self.forget_gone(index, &dependency.name, &readings, now, &mut changes);
                for reading in readings {
                    self.step(index, &dependency.name, reading, now, &mut changes);
                }
            }
        }
        self.windows.retain(|_, window| !window.is_over(now));
        changes
    }

    /// The alerts that fire: rule, subject, since when and the latest figures.
    pub(super) fn firing(&self) -> impl Iterator<Item = (usize, &str, Instant, &Context)> {
        self.subjects
            .iter()
            .filter_map(|((rule, name), subject)| match subject.phase {
                Phase::Firing { since, .. } => {
                    Some((*rule, name.as_str(), since, &subject.context))
                }
                _ => None,
            })
    }

    /// How an alert stands here after the look of `now`: the rule's number is given, if there is such a rule.
    pub(super) fn standing(
        &self,
        rule: &str,
        subject: &str,
        now: Instant,
    ) -> Option<(usize, Standing)> {
        let index = self.rules.iter().position(|other| other.name == rule)?;
        let dependency = subject.split('/').next().unwrap_or_default();
        let was_read = self.read.contains(&(index, dependency.to_owned()));
        let standing = match self.subjects.get(&(index, subject.to_owned())) {
            Some(subject) => match (subject.phase, subject.good) {
                (Phase::Quiet, Some((since, last))) if last == now => {
                    Standing::Good(since, subject.context.clone())
                }
                _ => Standing::Open,
            },
            None if was_read => Standing::Absent,
            None => Standing::Open,
        };
        Some((index, standing))
    }

    fn step(
        &mut self,
        rule: usize,
        dependency: &str,
        reading: Reading,
        now: Instant,
        changes: &mut Vec<Transition>,
    ) {
        let Some((hold, recover)) = self.rules.get(rule).map(|rule| (rule.hold, rule.recover))
        else {
            return;
        };
        let key = (rule, reading.subject.clone());
        if self.subjects.len() >= MOST_SUBJECTS && !self.subjects.contains_key(&key) {
            return;
        }
        let subject = self.subjects.entry(key).or_insert_with(|| Subject {
            phase: Phase::Quiet,
            good: None,
            context: reading.context.clone(),
            dependency: dependency.to_owned(),
        });
        let (phase, change) = next(subject.phase, reading.verdict, now, hold, recover);
        subject.phase = phase;
        subject.good = match reading.verdict {
            Verdict::Good => Some((subject.good.map_or(now, |(since, _)| since), now)),
            _ => None,
        };
        if reading.verdict != Verdict::Unknown {
            subject.context = reading.context;
        }
        if let Some((state, since)) = change {
            changes.push(Transition {
                rule,
                subject: reading.subject,
                state,
                since,
                context: subject.context.clone(),
            });
        }
    }

    /// Subjects that are there no more: a pattern that was dropped, a server that left the cluster.
    fn forget_gone(
        &mut self,
        rule: usize,
        dependency: &str,
        readings: &[Reading],
        now: Instant,
        changes: &mut Vec<Transition>,
    ) {
        self.subjects.retain(|(other, name), subject| {
            let is_gone = *other == rule
                && subject.dependency == dependency
                && !readings.iter().any(|reading| reading.subject == *name);
            if let (true, Phase::Firing { since, .. }) = (is_gone, subject.phase) {
                changes.push(Transition {
                    rule,
                    subject: name.clone(),
                    state: AlertState::Resolved,
                    since: since.min(now),
                    context: Context::Gone,
                });
            }
            !is_gone
        });
    }
}

/// One reading of each subject, the one with most weight: two objects of one name are one subject.
fn one_of_each(readings: Vec<Reading>) -> Vec<Reading> {
    let mut of_each: BTreeMap<String, Reading> = BTreeMap::new();
    for reading in readings {
        match of_each.get(&reading.subject) {
            Some(other) if other.verdict.weight() >= reading.verdict.weight() => {}
            _ => {
                of_each.insert(reading.subject.clone(), reading);
            }
        }
    }
    of_each.into_values().collect()
}

/// The next phase, and what begins or ends with it (with the moment since which the condition has held).
fn next(
    phase: Phase,
    verdict: Verdict,
    now: Instant,
    hold: Duration,
    recover: Duration,
) -> (Phase, Option<(AlertState, Instant)>) {
    match (phase, verdict) {
        (Phase::Quiet, Verdict::Bad) => {
            next(Phase::Pending { since: now }, verdict, now, hold, recover)
        }
        // Between the limits a condition does not hold, and one that fires is not over.
        (Phase::Quiet | Phase::Pending { .. }, Verdict::Between | Verdict::Good) => {
            (Phase::Quiet, None)
        }
        (Phase::Pending { since }, Verdict::Bad) => match now.duration_since(since) >= hold {
            true => (
                Phase::Firing {
                    since,
                    clear_since: None,
                },
                Some((AlertState::Firing, since)),
            ),
            false => (phase, None),
        },
        (Phase::Firing { since, .. }, Verdict::Bad | Verdict::Between | Verdict::Lasting) => (
            Phase::Firing {
                since,
                clear_since: None,
            },
            None,
        ),
        (Phase::Firing { since, clear_since }, Verdict::Good) => {
            let clear = clear_since.unwrap_or(now);
            match now.duration_since(clear) >= recover {
                true => (Phase::Quiet, Some((AlertState::Resolved, since))),
                false => (
                    Phase::Firing {
                        since,
                        clear_since: Some(clear),
                    },
                    None,
                ),
            }
        }
        (_, Verdict::Unknown | Verdict::Lasting) => (phase, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Which changes a row of verdicts, one a second, brings about at which second.
    fn changes(row: &[Verdict], hold: u32, recover: u32) -> Vec<(usize, AlertState)> {
        let start = Instant::now();
        let mut phase = Phase::Quiet;
        let mut seen = Vec::new();
        for (second, verdict) in row.iter().enumerate() {
            let now = start + SECOND * u32::try_from(second).unwrap();
            let (next, change) = next(phase, *verdict, now, SECOND * hold, SECOND * recover);
            phase = next;
            seen.extend(change.map(|(state, _)| (second, state)));
        }
        seen
    }

    #[test]
    fn an_alert_fires_after_its_time_and_ends_after_its_time() {
        use AlertState::{Firing, Resolved};
        use Verdict::{Bad, Between, Good, Lasting, Unknown};
        assert_eq!(changes(&[Bad, Good], 0, 0), [(0, Firing), (1, Resolved)]);
        assert_eq!(changes(&[Bad, Bad, Bad, Bad], 2, 0), [(2, Firing)]);
        // A break begins the time anew.
        assert_eq!(changes(&[Bad, Good, Bad, Bad, Bad], 2, 0), [(4, Firing)]);
        assert_eq!(changes(&[Bad, Between, Bad, Bad, Bad], 2, 0), [(4, Firing)]);
        assert_eq!(
            changes(&[Bad, Good, Good, Good], 0, 2),
            [(0, Firing), (3, Resolved)]
        );
        assert_eq!(changes(&[Bad, Good, Bad, Good, Good], 0, 2), [(0, Firing)]);
        // Wavering between the limits changes nothing.
        assert_eq!(
            changes(&[Bad, Between, Bad, Between, Between, Good], 0, 0),
            [(0, Firing), (5, Resolved)]
        );
        assert_eq!(changes(&[Between, Between], 0, 0), []);
        // What lasts begins nothing, breaks nothing off, and is no end.
        assert_eq!(
            changes(&[Lasting, Bad, Lasting, Lasting, Bad], 3, 0),
            [(4, Firing)]
        );
        assert_eq!(
            changes(&[Bad, Good, Lasting, Good, Good], 0, 2),
            [(0, Firing)]
        );
        // What is unknown is neither good nor bad.
        assert_eq!(
            changes(&[Bad, Unknown, Unknown, Good], 0, 0),
            [(0, Firing), (3, Resolved)]
        );
    }
}
