//! [`GroupWatch`]: how a group stands, as metrics.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{GroupStats, Topic, check_group};
use crate::error::Error;
use crate::metrics::GroupGauges;

/// Shows how a group stands as metrics, for as long as it is held: see [`Topic::watch`].
#[must_use = "dropping it ends the watch"]
pub struct GroupWatch {
    group: Box<str>,
    _task: AbortOnDropHandle<()>,
}

impl<T: Send + 'static> Topic<T> {
    /// Looks how a group [stands](Self::stats), at once and then every so often, and shows it as the gauges
    /// `redkit_topic_lag`, `redkit_topic_pending`, `redkit_topic_oldest_seconds`, `redkit_topic_dead_letters` and
    /// `redkit_topic_live_workers`, until the result is dropped. They are not a number (`NaN`) while the server cannot be
    /// asked, and afterwards.
    ///
    /// All processes see the same group: one that watches it is enough, and of several the maximum is shown. Several watches of a
    /// group in one process share its gauges, which show the latest look of any of them, until the last of them is dropped. A look
    /// is one script for each partition, and the first is waited for.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redkit_pubsub::topic::Topic;
    /// # use redkit_core::{Client, ClientConfig};
    /// # use redkit_embedded::Embedded;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
    /// # let orders: Topic<u32> = Topic::builder(&client, "orders").build()?;
    /// let _watched = orders.watch("mail", Duration::from_secs(15)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be a group, and for less than a second. A server that is away or refuses is
    /// none: it is asked again.
    pub async fn watch(
        &self,
        group: impl Into<String>,
        every: Duration,
    ) -> Result<GroupWatch, Error> {
        const LEAST: Duration = Duration::from_secs(1);
        let group = group.into();
        check_group(&group)?;
        if every < LEAST {
            let fix = "give more: each look is a script for each partition";
            return Err(Error::invalid("every", "it is under a second", fix));
        }
        let watched = Watched {
            shown: Shown::begin(self.name(), &group),
            topic: self.clone(),
            group: group.clone(),
        };
        watched.look().await;
        let task = async move {
            loop {
                sleep(every).await;
                watched.look().await;
            }
        };
        Ok(GroupWatch {
            group: group.into(),
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        })
    }
}

/// A group whose gauges are shown, until this is dropped.
struct Watched<T> {
    topic: Topic<T>,
    group: String,
    shown: Arc<Shown>,
}

impl<T> Watched<T> {
    async fn look(&self) {
        match self.topic.stats(&self.group).await {
            Ok(stats) => self.shown.update(Some(stats)),
            Err(error) => {
                tracing::debug!(target: "redkit::pubsub", %error, "how a group stands is not known");
                self.shown.update(None);
            }
        }
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.shown.end();
    }
}

/// The watches of this process. Metrics go by the names of topics and groups: watches of the same names show the same gauges.
static WATCHES: Mutex<Vec<Weak<Shown>>> = Mutex::new(Vec::new());

/// What a watch shows.
struct Shown {
    topic: Box<str>,
    group: Box<str>,
    gauges: GroupGauges,
    /// When it looked last, and how the group stood, when the server could be asked. Locked while the gauges are set, so that they do not
    /// go back to an earlier look.
    last: Mutex<Option<(Instant, GroupStats)>>,
}

impl Shown {
    fn begin(topic: &str, group: &str) -> Arc<Self> {
        let shown = Arc::new(Self {
            topic: topic.into(),
            group: group.into(),
            gauges: GroupGauges::new(topic, group),
            last: Mutex::new(None),
        });
        WATCHES.lock().push(Arc::downgrade(&shown));
        shown
    }

    fn update(&self, stats: Option<GroupStats>) {
        let mut last = self.last.lock();
        *last = stats.map(|stats| (Instant::now(), stats));
        match &*last {
            Some((_, stats)) => self.gauges.show(stats),
            None => self.gauges.show_nothing(),
        }
    }

    /// Shows nothing any more, and other watches of the group show what they know, the one that looked last at last: the gauges
    /// are theirs, too. One that begins meanwhile shows its own look.
    fn end(self: &Arc<Self>) {
        WATCHES
            .lock()
            .retain(|watch| !std::ptr::eq(watch.as_ptr(), Arc::as_ptr(self)));
        self.update(None);
        let mut others: Vec<Arc<Self>> = WATCHES.lock().iter().filter_map(Weak::upgrade).collect();
        others.retain(|other| other.topic == self.topic && other.group == self.group);
        others.sort_by_cached_key(|other| other.last.lock().as_ref().map(|last| last.0));
        for other in others {
            if let Some((_, stats)) = &*other.last.lock() {
                other.gauges.show(stats);
            }
        }
    }
}

impl fmt::Debug for GroupWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupWatch")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
