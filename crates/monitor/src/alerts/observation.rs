//! What rules are compared with: one look at the dependencies.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use redkit_core::breaker::NodeStatus;
use redkit_core::inspection::Snapshot;
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
        timeout: Duration,
    ) -> Self {
        let looks = health
            .all()
            .map(|dependency| look(dependency, figures, needs_servers, timeout));
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
        let read = within(timeout, (figures.read)()).await;
        let read = read.unwrap_or_else(|_| Err(format!("no end within {timeout:?}")));
        (figures.kind, figures.name.clone(), read)
    }));
    let (servers, read) = tokio::join!(servers, read);
    let (mut patterns, mut unread) = (statistics.patterns(), Vec::new());
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
        patterns,
        unread,
        breakers: dependency.client.breaker().nodes(),
    }
}
