//! [`GroupWatch`]: how a group stands, as metrics.

use std::fmt;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{Topic, check_group};
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
    /// All processes see the same group: one that watches it is enough, and of several the maximum is shown. In a process a
    /// group is watched once: the end of one watch ends what another shows until that looks again. A look is one script for each
    /// partition, and the first is waited for.
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
            gauges: GroupGauges::new(self.name(), &group),
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
    gauges: GroupGauges,
}

impl<T> Watched<T> {
    async fn look(&self) {
        match self.topic.stats(&self.group).await {
            Ok(stats) => self.gauges.show(&stats),
            Err(error) => {
                tracing::debug!(target: "redkit::pubsub", %error, "how a group stands is not known");
                self.gauges.show_nothing();
            }
        }
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.gauges.show_nothing();
    }
}

impl fmt::Debug for GroupWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupWatch")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
