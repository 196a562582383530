//! [`Violation`]: a guarantee that did not hold, told as a story.

use std::fmt;
use std::time::Duration;

use super::history::ProcessId;

/// A guarantee that did not hold, and the events that show it.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::Violation;
/// use redkit_testkit::simulation::history::ProcessId;
///
/// let violation = Violation::new("mutual exclusion", Duration::from_secs(2))
///     .event(Duration::from_secs(1), ProcessId(1), "enters `a` under fence 7")
///     .event(Duration::from_secs(2), ProcessId(2), "enters `a` under fence 8");
/// assert_eq!(violation.processes(), [ProcessId(1), ProcessId(2)]);
/// assert_eq!(
///     violation.to_string(),
///     "mutual exclusion does not hold at 2.000000 s\n  \
///      1.000000 s  process 1 enters `a` under fence 7\n  \
///      2.000000 s  process 2 enters `a` under fence 8"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    guarantee: &'static str,
    at: Duration,
    events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    at: Duration,
    process: Option<ProcessId>,
    text: String,
}

impl Violation {
    /// A guarantee that did not hold at a time since the world's beginning.
    pub fn new(guarantee: &'static str, at: Duration) -> Self {
        Self {
            guarantee,
            at,
            events: Vec::new(),
        }
    }

    /// Adds an act of a process, as a phrase that follows its name: "enters `a`".
    #[must_use]
    pub fn event(mut self, at: Duration, process: ProcessId, text: impl Into<String>) -> Self {
        self.add(at, Some(process), text.into());
        self
    }

    /// Adds a fact that no process did: "the bound is 2 s".
    #[must_use]
    pub fn fact(mut self, at: Duration, text: impl Into<String>) -> Self {
        self.add(at, None, text.into());
        self
    }

    /// The guarantee.
    pub fn guarantee(&self) -> &'static str {
        self.guarantee
    }

    /// When it did not hold any more.
    pub fn at(&self) -> Duration {
        self.at
    }

    /// The processes of the story, without doubles.
    pub fn processes(&self) -> Vec<ProcessId> {
        let mut processes: Vec<_> = self
            .events
            .iter()
            .filter_map(|event| event.process)
            .collect();
        processes.sort_unstable();
        processes.dedup();
        processes
    }

    fn add(&mut self, at: Duration, process: Option<ProcessId>, text: String) {
        let event = Event { at, process, text };
        let place = self.events.partition_point(|other| other.at <= at);
        self.events.insert(place, event);
    }
}

/// The earlier of two violations, for checkers that look at each key alone.
pub(crate) fn earlier(one: Option<Violation>, other: Option<Violation>) -> Option<Violation> {
    match (one, other) {
        (Some(one), Some(other)) if other.at < one.at => Some(other),
        (None, other) => other,
        (one, _) => one,
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} does not hold at {:.6} s",
            self.guarantee,
            self.at.as_secs_f64()
        )?;
        for event in &self.events {
            write!(f, "\n  {:.6} s  ", event.at.as_secs_f64())?;
            if let Some(process) = event.process {
                write!(f, "{process} ")?;
            }
            f.write_str(&event.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}
