//! [`Sweep`]: deleting by pattern.

use std::fmt;

use bytes::Bytes;

use super::scan::{Pages, Scan};
use super::unlink::Deleted;
use crate::error::Error;

/// Deletes the keys that a scan finds, a page at a time: see [`Scan::delete`].
///
/// `UNLINK`s of up to [`batch_keys`](crate::ClientConfig::batch_keys) keys (on a cluster one per slot),
/// a page's in one round trip, to the node that the page is from. In memory: one page. Other callers' commands go in between. Keys that
/// are written while it runs may stay.
#[must_use = "nothing is deleted before `run`"]
pub struct Sweep {
    scan: Scan,
    batch: usize,
    progress: Option<Progress>,
}

/// What is told after every page.
type Progress = Box<dyn FnMut(&SweepReport) + Send>;

/// How far a [`Sweep`] has come.
#[derive(Debug, Clone, Default)]
#[must_use = "some keys may not have been deleted"]
#[non_exhaustive]
pub struct SweepReport {
    /// Keys that the scan has found, twice those that it has found twice.
    pub found: u64,
    /// Keys that are deleted.
    pub deleted: u64,
    /// Keys that were not there any more when they were to be deleted.
    pub missing: u64,
    /// Keys whose deletion got no answer, or that the server refused to delete.
    pub failed: u64,
    /// The first error behind `failed`.
    pub error: Option<Error>,
    /// Why the scan ended before its end.
    pub stopped_by: Option<Error>,
}

impl SweepReport {
    /// Whether the scan came to its end and every key that it found is gone.
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.stopped_by.is_none()
    }
}

impl Sweep {
    pub(super) fn new(scan: Scan) -> Self {
        Self {
            batch: scan.client().batch_keys(),
            scan,
            progress: None,
        }
    }

    /// How many keys one `UNLINK` deletes at most, at least 1; at first
    /// [`batch_keys`](crate::ClientConfig::batch_keys).
    pub fn batch(mut self, keys: usize) -> Self {
        self.batch = keys.max(1);
        self
    }

    /// Called after every page. It must be quick: the sweep waits for it.
    pub fn on_progress(mut self, progress: impl FnMut(&SweepReport) + Send + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Goes through all masters. Batches that fail are counted and left; an error of the scan
    /// itself ends the sweep. Either way the outcome says what was done; running it again is safe.
    /// Dropping the future stops it at the next page.
    pub async fn run(mut self) -> SweepReport {
        let client = self.scan.client().clone();
        let mut pages = Pages::new(self.scan);
        let mut swept = SweepReport::default();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    swept.stopped_by = Some(error);
                    break;
                }
            };
            // The pattern has the namespace before it; this is the second lock on the same door.
            let own = |key: &&Bytes| client.strip(key).is_some();
            let keys = || page.iter().filter(own).map(|key| &key[..]);
            swept.found += keys().count() as u64;
            swept.add(client.unlink(keys(), self.batch).await);
            if let Some(progress) = &mut self.progress {
                progress(&swept);
            }
        }
        swept
    }
}

impl SweepReport {
    fn add(&mut self, deleted: Deleted) {
        self.deleted += deleted.deleted;
        self.missing += deleted.missing;
        self.failed += deleted.failed;
        self.error = self.error.take().or(deleted.error);
    }
}

impl fmt::Debug for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweep")
            .field("scan", &self.scan)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}
