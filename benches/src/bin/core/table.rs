//! Rows, and whether they are good enough.

use std::fmt::{self, Write as _};
use std::process::ExitCode;

use redkit_benches::{Paired, Target};

use super::Operation;

/// Whom the client is measured beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Redis,
    Fred,
    /// The client's own connection.
    Bare,
}

impl Peer {
    pub(super) const ALL: [Self; 3] = [Self::Redis, Self::Fred, Self::Bare];

    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::Redis => "redis",
            Peer::Fred => "fred",
            Peer::Bare => "bare",
        }
    }

    pub(super) fn does(self, operation: Operation) -> bool {
        self != Peer::Bare || matches!(operation, Operation::Get | Operation::Set)
    }
}

pub(super) struct Row {
    pub(super) operation: Operation,
    pub(super) tasks: usize,
    pub(super) peer: Peer,
    pub(super) paired: Paired,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Paired { ours, peer, .. } = &self.paired;
        write!(
            f,
            "| {} | {} | {} | {:.0} | {:.0} | **{:.2}** | {:.2} | {:.2} | **{:.2}** | {}/{} | {}/{} |",
            self.operation.name(),
            self.tasks,
            self.peer.name(),
            ours.throughput,
            peer.throughput,
            self.paired.throughput_ratio,
            ours.cpu,
            peer.cpu,
            self.paired.cpu_ratio,
            ours.latency.value_at_quantile(0.5),
            ours.latency.value_at_quantile(0.99),
            peer.latency.value_at_quantile(0.5),
            peer.latency.value_at_quantile(0.99),
        )
    }
}

const HEAD: &str = "| operation | tasks | peer | redkit ops/s | peer ops/s | ratio | redkit CPU µs/op | peer CPU µs/op | ratio | redkit p50/p99 µs | peer p50/p99 µs |\n|---|---|---|---|---|---|---|---|---|---|---|";

pub(super) fn text(rows: &[Row], version: (u16, u16, u16)) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!(
        "## core: the client beside other clients\n\n\
         `cargo xtask bench core`, Redis {}.{}.{} on loopback, {cores} cores shared by client and \
         server.\n`redis` is `MultiplexedConnection` and `fred` one client of theirs, both with their \
         defaults and, as ours, RESP3 and\n`TCP_NODELAY`: no breaker, no retry by idempotence. `bare` \
         is redkit's own connection without the client above it. Values of 64 bytes;\nthe script is \
         one `GET`; MGET asks for 1,000 keys. The targets stand beside the better of `redis` and \
         `fred` in each row.\n\n{HEAD}\n",
        version.0, version.1, version.2
    );
    for row in rows {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{row}");
    }
    text
}

/// The least throughput and the most CPU time, as ratios to a peer's.
fn bounds(row: &Row) -> (Option<f64>, Option<f64>) {
    match (row.peer, row.operation, row.tasks) {
        (Peer::Bare, ..) | (_, Operation::Large, _) => (None, None),
        (_, Operation::Script | Operation::Many, _) => (Some(1.0), None),
        (_, _, 1) => (Some(1.05), Some(0.95)),
        (_, _, 16) => (Some(1.3), Some(0.75)),
        (_, _, 256) => (Some(1.6), Some(0.5)),
        _ => (Some(2.0), Some(0.45)),
    }
}

/// What the client may cost over its connection, in microseconds of CPU time a call.
const MOST_OVER_BARE: f64 = 0.8;

pub(super) fn verdict(rows: &[Row], check: bool) -> ExitCode {
    let mut targets = Vec::new();
    for row in rows {
        let (operation, tasks, peer) = (row.operation.name(), row.tasks, row.peer.name());
        let what = format!("{operation} at {tasks} tasks beside {peer}");
        let (at_least, at_most) = bounds(row);
        targets.push(Target {
            what: format!("{what}: throughput ratio"),
            value: row.paired.throughput_ratio,
            at_least,
            at_most: None,
        });
        targets.push(Target {
            what: format!("{what}: CPU ratio"),
            value: row.paired.cpu_ratio,
            at_least: None,
            at_most,
        });
        if row.peer == Peer::Bare && row.tasks >= 256 {
            targets.push(Target {
                what: format!("{what}: CPU µs a call above it"),
                value: row.paired.ours.cpu - row.paired.peer.cpu,
                at_least: None,
                at_most: Some(MOST_OVER_BARE),
            });
        }
    }
    let missed: Vec<_> = targets.iter().filter(|target| !target.is_met()).collect();
    for target in &missed {
        println!("missed: {} is {:.3}", target.what, target.value);
    }
    match check && !missed.is_empty() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
