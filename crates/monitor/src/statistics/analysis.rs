//! Key-space analysis: what takes the memory, by prefix, by size and by time to live. It walks the keys with
//! `SCAN` at a bounded pace and keeps a bounded amount, however many keys there are.

mod lane;
mod report;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use redkit_core::ConfigError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use self::report::{BigKey, KeyspaceReport, PrefixStats, TTL_BOUNDS};
use self::walk::Walk;
use super::Statistics;
use crate::error::Error;

/// How thorough an analysis is, and what it may cost.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until an analysis takes it"]
pub struct AnalysisConfig {
    pub(super) keys_per_second: u32,
    pub(super) sample_every: u32,
    pub(super) max_keys: u64,
    pub(super) prefix_depth: usize,
    pub(super) max_prefixes: usize,
    pub(super) biggest: usize,
    pub(super) expiring: Option<Vec<Vec<u8>>>,
}

impl Default for AnalysisConfig {
    fn default() -> Self {
        Self {
            keys_per_second: 5_000,
            sample_every: 1,
            max_keys: u64::MAX,
            prefix_depth: 3,
            max_prefixes: 1_000,
            biggest: 20,
            expiring: None,
        }
    }
}

impl AnalysisConfig {
    /// At most so many keys in a second on each server. Default: 5,000.
    pub fn keys_per_second(mut self, keys: u32) -> Self {
        self.keys_per_second = keys;
        self
    }

    /// Looks at the size and the time to live of one key in so many; all keys are counted. Three commands are
    /// sent for each key that is looked at. Default: 1, every key.
    pub fn sample_every(mut self, keys: u32) -> Self {
        self.sample_every = keys;
        self
    }

    /// Ends after so many keys on each server: the counts are those of the part that was seen. `SCAN` gives
    /// keys in no order, so a part is a fair sample. Default: all keys.
    pub fn max_keys(mut self, keys: u64) -> Self {
        self.max_keys = keys;
        self
    }

    /// How many parts of a key, up to a colon each, make its prefix. Parts that are numbers or long
    /// hexadecimal ids count as `*`, and a hash tag ends the prefix. Default: 3.
    pub fn prefix_depth(mut self, parts: usize) -> Self {
        self.prefix_depth = parts;
        self
    }

    /// How many prefixes are told apart; keys of later ones are summed. Default: 1,000.
    pub fn max_prefixes(mut self, prefixes: usize) -> Self {
        self.max_prefixes = prefixes;
        self
    }

    /// How many of the biggest keys are named. Default: 20.
    pub fn biggest(mut self, keys: usize) -> Self {
        self.biggest = keys;
        self
    }

    /// Keys with this prefix should all have a time to live: one without is an orphan. Default: the prefixes
    /// of redkit's patterns whose keys always have one, in the client's namespace.
    pub fn expiring(mut self, prefix: impl Into<Vec<u8>>) -> Self {
        self.expiring.get_or_insert_default().push(prefix.into());
        self
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &'static str, fix: &'static str| {
            Err(ConfigError::new(field, "it is zero or too much", fix))
        };
        if self.keys_per_second == 0 {
            return wrong(
                "keys_per_second",
                "choose what the server can spare, such as 5,000",
            );
        }
        if self.sample_every == 0 {
            return wrong("sample_every", "choose 1 for every key, 10 for every tenth");
        }
        if self.max_prefixes > 100_000 {
            return wrong(
                "max_prefixes",
                "choose at most 100,000: they are kept in memory",
            );
        }
        if self.biggest > 10_000 {
            return wrong("biggest", "choose at most 10,000: they are kept in memory");
        }
        Ok(())
    }
}

/// How far an analysis is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Keys seen.
    pub scanned: u64,
    /// Keys that there were when it began, as far as they were to be seen.
    pub total: u64,
}

/// An analysis under way, from [`Statistics::analyze`]. Dropping it ends it.
#[derive(Debug)]
pub struct Analysis {
    progress: watch::Receiver<Progress>,
    cancel: CancellationToken,
    task: AbortOnDropHandle<Result<KeyspaceReport, Error>>,
}

impl Analysis {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// The same with a wake-up at each page.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Ends it after the present page: [`finish`](Self::finish) gives what has been seen.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::NoServer`] when no server could be walked; a server among others stands in
    /// [`KeyspaceReport::failed`].
    pub async fn finish(self) -> Result<KeyspaceReport, Error> {
        match self.task.await {
            Ok(report) => report,
            Err(panicked) => {
                tracing::error!(target: "redkit::monitor", error = %panicked, "an analysis panicked");
                Err(ConfigError::new("analysis", "it panicked", "report this as a bug").into())
            }
        }
    }
}

impl Statistics {
    /// Begins to walk the keys of every server, all servers at once, over a connection of its own to each, which is
    /// closed when the analysis ends.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work.
    pub fn analyze(&self, config: AnalysisConfig) -> Result<Analysis, Error> {
        config.check()?;
        let (sender, progress) = watch::channel(Progress::default());
        let cancel = CancellationToken::new();
        let walk = Walk::new(self.client.clone(), config, sender, cancel.clone());
        let task = tokio::spawn(Arc::new(walk).run());
        Ok(Analysis {
            progress,
            cancel,
            task: AbortOnDropHandle::new(task),
        })
    }
}

/// How long a page's commands may take.
const PATIENCE: Duration = Duration::from_secs(5);
