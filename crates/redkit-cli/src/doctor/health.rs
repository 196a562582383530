//! What the deep health check of `redkit-monitor` finds.

use std::collections::BTreeSet;
use std::time::Duration;

use redkit_core::Client;
use redkit_monitor::{Cause, CauseKind, Check, Dependency, Health, Observed};

use super::finding::{Finding, Severity};
use crate::format;

/// The findings of the health checks.
pub(super) struct Looked {
    pub(super) findings: Vec<Finding>,
}

impl Looked {
    /// The servers that answer nothing, of which nothing else can be said.
    pub(super) fn silent_servers(&self) -> BTreeSet<String> {
        let failed = self
            .findings
            .iter()
            .filter(|finding| finding.check == "ping" && finding.severity == Severity::Error);
        failed
            .filter_map(|finding| finding.server.clone())
            .collect()
    }
}

/// Checks that are named otherwise here, or say nothing about a server.
const LEFT_OUT: &[&str] = &["breaker"];

pub(super) async fn look(client: &Client, patience: Duration) -> Looked {
    let health = Health::builder()
        .dependency(Dependency::hard("redis", client))
        .timeout(patience)
        .fresh_for(Duration::ZERO)
        .deep_fresh_for(Duration::ZERO)
        .build();
    let health = match health {
        Ok(health) => health,
        Err(error) => {
            let finding = Finding::error("ping", error.to_string(), "choose another --timeout");
            return Looked {
                findings: vec![finding],
            };
        }
    };
    let (ready, deep) = tokio::join!(health.ready(), health.deep());
    let mut seen = BTreeSet::new();
    let checks = ready.checks.iter().chain(&deep.checks);
    let checks = checks.filter(|check| !LEFT_OUT.contains(&check.measurement));
    // Readiness and the deep check ask some things alike.
    let checks = checks.filter(|check| seen.insert((check.server.clone(), check.measurement)));
    let checks: Vec<&Check> = checks.collect();
    let is_silent = |check: &&&Check| {
        let ping = checks.iter().find(|other| {
            other.measurement == "ping" && other.server == check.server && other.cause.is_some()
        });
        ping.is_some() && check.measurement != "ping"
    };
    let mut causes = BTreeSet::new();
    let findings = checks
        .iter()
        .filter(|check| !is_silent(check))
        // A replica refuses a write however it is asked.
        .filter(|check| match &check.cause {
            Some(cause) => causes.insert((check.server.clone(), cause.kind.as_str(), right(cause))),
            None => true,
        })
        .map(|check| finding(check))
        .collect();
    Looked { findings }
}

/// Rights that are missing are told apart.
fn right(cause: &Cause) -> Option<Box<str>> {
    match cause.kind {
        CauseKind::MissingRight => cause.detail.clone(),
        _ => None,
    }
}

fn finding(check: &Check) -> Finding {
    let finding = match &check.cause {
        None => Finding::ok(check.measurement, observed(&check.observed)),
        Some(cause) => {
            let found = match &cause.error {
                Some(error) => format!("{cause} ({error})"),
                None => cause.to_string(),
            };
            match severity(cause.kind) {
                Severity::Error => Finding::error(check.measurement, found, remedy(cause)),
                _ => Finding::warning(check.measurement, found, remedy(cause)),
            }
        }
    };
    match &check.server {
        Some(server) => finding.on(server),
        None => finding,
    }
}

fn severity(kind: CauseKind) -> Severity {
    match kind {
        CauseKind::OutOfBounds | CauseKind::NotPersisting => Severity::Warning,
        _ => Severity::Error,
    }
}

fn remedy(cause: &Cause) -> String {
    let fixed = match cause.kind {
        CauseKind::Unreachable => {
            "start the server, or let this machine reach it; a cluster can fail over to a replica"
        }
        CauseKind::Silent => {
            "look at the process and its load (`SLOWLOG`), and at the network between"
        }
        CauseKind::Unauthorized => "check the user and password in REDIS_URL",
        CauseKind::MissingRight => {
            return cause
                .detail
                .as_deref()
                .unwrap_or("grant the right to the user")
                .to_owned();
        }
        CauseKind::ReadOnly => {
            "name the master, or use redis-sentinel:// or redis-cluster://, which find it"
        }
        CauseKind::OutOfMemory => "raise maxmemory, or delete what is not needed (`redkit keys`)",
        CauseKind::Loading => "wait until it has loaded its data",
        CauseKind::ClusterDown => {
            "bring the missing masters back, or promote their replicas (`CLUSTER FAILOVER TAKEOVER`)"
        }
        CauseKind::NotPersisting => {
            "free the disk, or mend the rights of the folder: see the server's log"
        }
        CauseKind::TooFewReplicas => "bring replicas back, or lower min-replicas-to-write",
        CauseKind::MasterDown => "bring its master back, or promote the replica",
        CauseKind::Busy => "wait for the script to end, or end it (`SCRIPT KILL`)",
        CauseKind::OutOfBounds => {
            "look at what grows (`redkit keys`, `redkit watch`), and raise the limit if it is right"
        }
        CauseKind::NotDelivered => {
            "see whether something between passes on no pushes (a proxy), and the server's output buffer limits"
        }
        _ => "see what the server said, and its log",
    };
    fixed.to_owned()
}

fn observed(observed: &Observed) -> String {
    match observed {
        Observed::Time(time) => format::duration(*time),
        Observed::Number(number, unit) if unit.starts_with("share") => {
            format!("{:.0} % of maxmemory", number * 100.0)
        }
        Observed::Number(number, unit) => format!("{number} {unit}"),
        Observed::Text(text) => text.to_string(),
        _ => String::new(),
    }
}
