//! The analysis of the key space: begun by a viewer, one at a time in a process, with progress, and to be cancelled.

use parking_lot::Mutex;
use redkit_core::Client;
use serde_json::{Value, json};

use super::servers::seconds;
use crate::error::Error;
use crate::statistics::{
    Analysis, AnalysisConfig, KeyspaceReport, PrefixStats, Statistics, TTL_BOUNDS,
};

/// How many prefixes are shown.
const MOST_PREFIXES: usize = 200;

#[derive(Default)]
pub(super) struct KeyspaceView(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Nothing,
    Running(Analysis),
    Done(Value),
}

impl KeyspaceView {
    /// Begins, unless one is running. `sample_every`: of how many keys one is looked at.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work.
    pub(super) fn begin(&self, client: &Client, sample_every: u32) -> Result<(), Error> {
        let mut state = self.0.lock();
        if let State::Running(analysis) = &*state
            && !is_over(analysis)
        {
            return Ok(());
        }
        let config = AnalysisConfig::default()
            .sample_every(sample_every)
            .max_prefixes(2_000);
        *state = State::Running(Statistics::new(client).analyze(config)?);
        Ok(())
    }

    /// Ends it after the present page: what has been seen is shown.
    pub(super) fn cancel(&self) {
        if let State::Running(analysis) = &*self.0.lock() {
            analysis.cancel();
        }
    }

    /// How far it is, or what it has found.
    pub(super) async fn read(&self) -> Value {
        let finished = {
            let mut state = self.0.lock();
            match std::mem::take(&mut *state) {
                State::Nothing => return json!({ "state": "none" }),
                State::Done(report) => {
                    *state = State::Done(report.clone());
                    return report;
                }
                State::Running(analysis) if !is_over(&analysis) => {
                    let progress = analysis.progress();
                    *state = State::Running(analysis);
                    return json!({ "state": "running", "scanned": progress.scanned, "total": progress.total });
                }
                State::Running(analysis) => analysis,
            }
        };
        let report = match finished.finish().await {
            Ok(report) => report_json(&report),
            Err(error) => json!({ "state": "failed", "error": error.to_string() }),
        };
        *self.0.lock() = State::Done(report.clone());
        report
    }
}

/// Whether its task has dropped the sender of its progress.
fn is_over(analysis: &Analysis) -> bool {
    analysis.watch().has_changed().is_err()
}

fn report_json(report: &KeyspaceReport) -> Value {
    let prefix = |stats: &PrefixStats| {
        json!({
            "prefix": stats.prefix, "keys": stats.keys, "bytes": stats.bytes(), "sampled": stats.sampled,
            "withoutTtl": stats.without_ttl,
        })
    };
    let prefixes: Vec<_> = report
        .prefixes
        .iter()
        .take(MOST_PREFIXES)
        .map(prefix)
        .collect();
    let biggest = report.biggest.iter();
    let biggest: Vec<_> = biggest
        .map(|big| json!({ "key": big.key.escape_ascii().to_string(), "bytes": big.bytes, "kind": big.kind }))
        .collect();
    let orphans = report.orphan_examples.iter();
    let orphans: Vec<_> = orphans.map(|key| key.escape_ascii().to_string()).collect();
    let failed = report.failed.iter();
    let failed: Vec<_> = failed
        .map(|(server, error)| format!("{server}: {error}"))
        .collect();
    json!({
        "state": "done", "scanned": report.scanned, "sampled": report.sampled, "isComplete": report.is_complete,
        "prefixes": prefixes, "other": prefix(&report.other), "biggest": biggest,
        "ttl": report.ttl, "ttlBounds": TTL_BOUNDS.map(seconds), "withoutTtl": report.without_ttl,
        "orphans": report.orphans, "orphanExamples": orphans, "failed": failed, "took": seconds(report.took),
    })
}
