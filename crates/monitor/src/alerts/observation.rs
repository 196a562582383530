//! What rules are compared with: one look at the dependencies.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redkit_core::breaker::NodeStatus;

use crate::health::{Dependency, Health, Report};
use crate::statistics::{PatternStats, ServerStatistics, Statistics};

/// One look at everything.
pub(super) struct Observation {
    pub(super) dependencies: Vec<Observed>,
    pub(super) report: Arc<Report>,
}

/// One dependency.
pub(super) struct Observed {
    pub(super) name: String,
    /// `None` when no rule needs them; the text says why they could not be read.
    pub(super) servers: Option<Result<ServerStatistics, String>>,
    pub(super) patterns: Vec<PatternStats>,
    pub(super) breakers: Vec<NodeStatus>,
}

impl Observation {
    /// Looks at everything at once, each part bounded.
    pub(super) async fn make(health: &Health, needs_servers: bool, timeout: Duration) -> Self {
        let looks = health
            .all()
            .map(|dependency| look(dependency, needs_servers, timeout));
        let (report, dependencies) = tokio::join!(health.ready(), join_all(looks));
        Self {
            dependencies,
            report,
        }
    }
}

async fn look(dependency: &Dependency, needs_servers: bool, timeout: Duration) -> Observed {
    let statistics = Statistics::new(&dependency.client).timeout(timeout);
    let servers = match needs_servers {
        true => Some(
            statistics
                .servers()
                .await
                .map_err(|error| error.to_string()),
        ),
        false => None,
    };
    Observed {
        name: dependency.name.clone(),
        servers,
        patterns: statistics.patterns(),
        breakers: dependency.client.breaker().nodes(),
    }
}
