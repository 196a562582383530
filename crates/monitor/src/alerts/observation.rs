//! What rules are compared with: one look at the dependencies.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use redkit_core::breaker::NodeStatus;
use redkit_core::inspection::{Fact, Snapshot};
use tokio::time::timeout as within;

use crate::health::{Dependency, Health, Report};
use crate::statistics::{PatternStats, ServerStatistics, Statistics};

/// One look at everything.
pub(super) struct Observation {
    pub(super) dependencies: Vec<Observed>,
    pub(super) report: Arc<Report>,
}

/// Figures that a program reads for its rules.
pub(super) struct Figures {
    pub(super) dependency: String,
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) read: Box<dyn Fn() -> BoxFuture<'static, Result<Snapshot, String>> + Send + Sync>,
}

/// One dependency.
pub(super) struct Observed {
    pub(super) name: String,
    /// `None` when no rule needs them; the text says why they could not be read.
    pub(super) servers: Option<Result<ServerStatistics, String>>,
    pub(super) patterns: Vec<PatternStats>,
    /// Figures that could not be read: kind and name, and why.
    pub(super) unread: Vec<(String, String)>,
    pub(super) breakers: Vec<NodeStatus>,
}

impl Observation {
    /// Looks at everything at once, each part bounded.
    pub(super) async fn make(
        health: &Health,
        figures: &[Figures],
        needs_servers: bool,
        needs_measures: bool,
        timeout: Duration,
    ) -> Self {
        let looks = health
            .all()
            .map(|dependency| look(dependency, figures, needs_servers, needs_measures, timeout));
        let (report, dependencies) = tokio::join!(health.ready(), join_all(looks));
        Self {
            dependencies,
            report,
        }
    }
}

async fn look(
    dependency: &Dependency,
    figures: &[Figures],
    needs_servers: bool,
    needs_measures: bool,
    timeout: Duration,
) -> Observed {
    let statistics = Statistics::new(&dependency.client).timeout(timeout);
    let servers = async {
        match needs_servers {
            true => Some(
                statistics
                    .servers()
                    .await
                    .map_err(|error| error.to_string()),
            ),
            false => None,
        }
    };
    let own = figures
        .iter()
        .filter(|figures| figures.dependency == dependency.name);
    let read = join_all(own.map(async |figures| {
        // A panic of the program's code is a failure of these figures, and of no others.
        let read = AssertUnwindSafe(async { (figures.read)().await }).catch_unwind();
        let read = match within(timeout, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err("reading them panicked".to_owned()),
            Err(_) => Err(format!("no end within {timeout:?}")),
        };
        (figures.kind, figures.name.clone(), read)
    }));
    let measured = async {
        match needs_measures {
            true => measure(dependency, timeout).await,
            false => Vec::new(),
        }
    };
    let (servers, read, measured) = tokio::join!(servers, read, measured);
    let (mut patterns, panicked) = statistics.read_patterns();
    let mut unread: Vec<_> = panicked
        .into_iter()
        .map(|object| (object, "its snapshot panicked".to_owned()))
        .collect();
    for (kind, name, measured) in measured {
        match measured {
            Ok(snapshot) => add(&mut patterns, kind, &name, snapshot),
            Err(cause) => unread.push((format!("{kind}/{name}"), cause)),
        }
    }
    for (kind, name, read) in read {
        match read {
            Ok(snapshot) => patterns.push(PatternStats {
                kind,
                name,
                snapshot,
            }),
            Err(cause) => unread.push((format!("{kind}/{name}"), cause)),
        }
    }
    Observed {
        name: dependency.name.clone(),
        servers,
        patterns: merged(patterns),
        unread,
        breakers: dependency.client.breaker().nodes(),
    }
}

/// An object's kind and name, and what it keeps at the server, or why that could not be read.
type Measured = (&'static str, String, Result<Snapshot, String>);

/// What the objects of a dependency keep at the server.
async fn measure(dependency: &Dependency, timeout: Duration) -> Vec<Measured> {
    let objects = dependency.client.inspect();
    let measures = objects.iter().map(async |object| {
        // A panic of one object is a failure of its figures, and of no others.
        let read = AssertUnwindSafe(async {
            let measured = within(timeout, object.measure()).await;
            (object.kind(), object.name(), measured)
        });
        let (kind, name, measured) = match read.catch_unwind().await {
            Ok(read) => read,
            Err(_) => {
                return (
                    "object",
                    "unnamed".to_owned(),
                    Err("measuring it panicked".to_owned()),
                );
            }
        };
        let measured = match measured {
            Ok(measured) => measured.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no end within {timeout:?}")),
        };
        (kind, name, measured)
    });
    let all = join_all(measures).await.into_iter();
    let none = |measured: &Result<Snapshot, String>| {
        measured
            .as_ref()
            .is_ok_and(|snapshot| snapshot.facts.is_empty())
    };
    all.filter(|(_, _, measured)| !none(measured)).collect()
}

/// Adds what was measured to what the object itself knows.
fn add(patterns: &mut [PatternStats], kind: &str, name: &str, measured: Snapshot) {
    let mut patterns = patterns.iter_mut();
    let Some(pattern) = patterns.find(|other| other.kind == kind && other.name == name) else {
        return;
    };
    for (fact, value) in measured.facts {
        if pattern.snapshot.get(fact).is_none() {
            pattern.snapshot.facts.push((fact, value));
        }
    }
}

/// Objects of one kind and name as one, such as two caches that a program has made under one name.
fn merged(patterns: Vec<PatternStats>) -> Vec<PatternStats> {
    let mut all: Vec<PatternStats> = Vec::with_capacity(patterns.len());
    let mut places = HashMap::new();
    for pattern in patterns {
        let place = *places
            .entry((pattern.kind, pattern.name.clone()))
            .or_insert(all.len());
        match all.get_mut(place) {
            Some(first) => merge(&mut first.snapshot, pattern.snapshot),
            None => all.push(pattern),
        }
    }
    all
}

/// Counts are summed; of ages, and of counts that each object has from one server, the largest is taken.
fn merge(into: &mut Snapshot, from: Snapshot) {
    for (name, fact) in from.facts {
        let Some((_, known)) = into.facts.iter_mut().find(|(other, _)| *other == name) else {
            into.facts.push((name, fact));
            continue;
        };
        let is_largest = matches!(name, "oldest_pending" | "oldest" | "dead_letters");
        *known = match (&*known, fact) {
            (Fact::Count(a), Fact::Count(b)) if is_largest => Fact::Count(b.max(*a)),
            (Fact::Count(a), Fact::Count(b)) => Fact::Count(a.saturating_add(b)),
            (Fact::Number(a), Fact::Number(b)) => Fact::Number(a.max(b)),
            (known, _) => known.clone(),
        };
    }
}
