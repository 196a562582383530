//! [`Database`]: what the queue writes to. It survives all processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::write_behind::{Change, Sink, SinkError, Verdict};
use redkit_testkit::simulation::checkers::WriteBehind;
use redkit_testkit::simulation::{Process, ProcessId};
use tokio::time::sleep;

/// A row of the database: the number that was written last, and the version that came with it.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    version: u64,
    number: u64,
}

/// The rows, and what was seen of them.
#[derive(Clone)]
pub(super) struct Database {
    rows: Arc<Mutex<BTreeMap<String, Row>>>,
    pub(super) seen: Arc<Mutex<WriteBehind>>,
    /// The processes that write now.
    writing: Arc<Mutex<Vec<ProcessId>>>,
    /// How often a batch takes long, and how long at most.
    slow: (f64, Duration),
    /// Whether it refuses a version that is older than the one that it has.
    compares_versions: bool,
}

impl Database {
    pub(super) fn new(compares_versions: bool, slow: (f64, Duration)) -> Self {
        Self {
            writing: Arc::default(),
            slow,
            rows: Arc::default(),
            seen: Arc::default(),
            compares_versions,
        }
    }

    /// The processes that write now, one of them as often as it has batches under way.
    pub(super) fn writing(&self) -> Vec<ProcessId> {
        self.writing.lock().clone()
    }

    /// The number of a key, 0 before the first.
    pub(super) fn number(&self, key: &str) -> u64 {
        self.rows.lock().get(key).map_or(0, |row| row.number)
    }

    /// Gives whether it was taken.
    fn write(&self, process: &Process, key: &str, version: u64, number: u64) -> bool {
        let mut rows = self.rows.lock();
        let row = rows.entry(key.to_owned()).or_default();
        if self.compares_versions && version < row.version {
            return false;
        }
        *row = Row { version, number };
        process.reached("stored");
        let mut seen = self.seen.lock();
        seen.stored(process.id(), key, number, process.now());
        true
    }
}

/// A process's way to the database.
pub(super) struct Way {
    pub(super) database: Database,
    pub(super) process: Process,
}

/// A batch that is being written.
struct Writing {
    database: Database,
    process: ProcessId,
}

impl Writing {
    fn begin(way: &Way) -> Self {
        let (database, process) = (way.database.clone(), way.process.id());
        database.writing.lock().push(process);
        Self { database, process }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut writing = self.database.writing.lock();
        if let Some(at) = writing.iter().position(|process| *process == self.process) {
            writing.remove(at);
        }
    }
}

impl Sink<u64> for Way {
    /// One batch in ten fails, before or after it was written; one change in ten is refused; some batches may take
    /// longer than a lease that is not renewed.
    async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
        let process = &self.process;
        let (how_often, how_long) = self.database.slow;
        let longest = match process.chance(how_often) {
            true => how_long,
            false => Duration::from_millis(20),
        };
        let _writing = Writing::begin(self);
        sleep(longest.mul_f64(process.random_range(0.0..1.0))).await;
        if process.chance(0.05) {
            return Err(SinkError::new("the connection broke on the way there"));
        }
        let write = |change: &Change<u64>| {
            if process.chance(0.1) {
                return Verdict::Retry(SinkError::new("not now"));
            }
            let key = change.key_str().unwrap_or_default();
            // The number of a delete is not known here; it stands in the value of none.
            let number = change.value().copied().unwrap_or_default();
            process.note(|| {
                let (version, attempt) = (change.version(), change.attempt());
                format!("writes {key} = {number}, version {version}, attempt {attempt}")
            });
            match self.database.write(process, key, change.version(), number) {
                true => Verdict::Written,
                false => Verdict::Stale,
            }
        };
        let verdicts = batch.iter().map(write).collect();
        let back = Duration::from_micros(process.random_range(0..20_000));
        sleep(back).await;
        match process.chance(0.05) {
            true => Err(SinkError::new("the connection broke on the way back")),
            false => Ok(verdicts),
        }
    }
}
