//! Work that one process of the fleet does for all: filling the cache ahead, at the start and every hour. It goes
//! through a topic, so that one process does it, another one goes on when that one dies, and no clock of a process
//! decides when.

use std::sync::Arc;
use std::time::Duration;

use redkit::Client;
use redkit::pubsub::topic::{
    Deduplication, Delivery, Outcome, Publication, Schedule, Topic, Worker,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::cached::CachedCatalogue;
use crate::popular::Popular;

/// Every hour, on the hour.
const HOURLY: &str = "0 * * * *";

/// Processes that start within this time of one another warm once.
const START: Duration = Duration::from_secs(60);

/// How long the progress is shown after the last step of it.
const SHOWN: Duration = Duration::from_secs(3600);

/// The key of the progress, for all processes to show.
const PROGRESS: &str = "warming";

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Job {
    /// Fills the cache ahead, and says why.
    Warm { reason: String },
}

/// How far the cache is warmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) reason: String,
    pub(crate) done: u64,
    pub(crate) total: u64,
    /// What it came to, once it is over.
    pub(crate) outcome: Option<String>,
}

/// The jobs of the fleet. Clones share everything.
#[derive(Clone)]
pub(crate) struct Jobs {
    client: Client,
    topic: Topic<Job>,
    catalogue: Arc<CachedCatalogue>,
    popular: Popular,
}

impl Jobs {
    /// The jobs in the client's namespace.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(crate) fn new(
        client: &Client,
        catalogue: Arc<CachedCatalogue>,
        popular: Popular,
    ) -> Result<Self, redkit::pubsub::Error> {
        Ok(Self {
            client: client.clone(),
            topic: Topic::builder(client, "jobs").build()?,
            catalogue,
            popular,
        })
    }

    /// Asks for a warming. Those that are asked for under one id within a minute are one.
    ///
    /// # Errors
    /// When it cannot be published.
    pub(crate) async fn ask_for_warming(
        &self,
        id: &str,
        reason: &str,
    ) -> Result<(), redkit::pubsub::Error> {
        let job = Job::Warm {
            reason: reason.to_owned(),
        };
        let once = Publication::new()
            .id(id)
            .deduplicate(Deduplication::For(START));
        self.topic.publish_with(&job, once).await.map(|_| ())
    }

    /// Starts to do jobs, in this process among others, and takes part in the schedule.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub(crate) async fn start(&self) -> Result<(Worker, Schedule), redkit::pubsub::Error> {
        let schedule = self
            .topic
            .schedule("warm", HOURLY, "UTC")
            .start(|_| Job::Warm {
                reason: "every hour".to_owned(),
            })?;
        let jobs = self.clone();
        let worker = self
            .topic
            .consumer("shop")
            .lease(Duration::from_secs(5))
            .start(move |delivery: Delivery<Job>| {
                let jobs = jobs.clone();
                async move {
                    let Job::Warm { reason } = delivery.payload;
                    jobs.warm(reason).await
                }
            })
            .await?;
        Ok((worker, schedule))
    }

    /// How far the latest warming is; `None` where there was none, or Redis cannot be asked.
    pub(crate) async fn progress(&self) -> Option<Progress> {
        self.client.get(PROGRESS).await.ok().flatten()
    }

    async fn warm(&self, reason: String) -> Outcome {
        let popular = self.popular.top().await.unwrap_or_default();
        let popular: Vec<_> = popular.into_iter().map(|(id, _)| id).collect();
        let (told, progress) = watch::channel(Progress {
            reason,
            ..Progress::default()
        });
        let warming = async {
            let warmed = self.catalogue.warm(&popular, |done, total| {
                told.send_modify(|progress| (progress.done, progress.total) = (done, total));
            });
            let (text, outcome) = match warmed.await {
                Ok(warmed) if warmed.failed == 0 => {
                    let (loaded, present) = (warmed.loaded, warmed.present);
                    let took = warmed.took;
                    let text = format!("{loaded} loaded, {present} there already, in {took:.1?}");
                    (text, Outcome::Ack)
                }
                Ok(warmed) => {
                    let text = format!("{} of them failed", warmed.failed);
                    (text.clone(), Outcome::retry(text))
                }
                Err(error) => (error.to_string(), Outcome::retry(error)),
            };
            told.send_modify(|progress| progress.outcome = Some(text));
            drop(told);
            outcome
        };
        let (outcome, ()) = tokio::join!(warming, self.tell(progress));
        outcome
    }

    /// Writes down how far it is, as often as Redis takes it.
    async fn tell(&self, mut progress: watch::Receiver<Progress>) {
        loop {
            let now = progress.borrow_and_update().clone();
            // Progress that cannot be told is no reason not to go on.
            let _ = self.client.set(PROGRESS, &now).ttl(SHOWN).await;
            if progress.changed().await.is_err() {
                let last = progress.borrow().clone();
                if last != now {
                    let _ = self.client.set(PROGRESS, &last).ttl(SHOWN).await;
                }
                return;
            }
        }
    }
}
