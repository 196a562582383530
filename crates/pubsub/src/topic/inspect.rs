//! A topic's group as core's [`Inspect`]: what monitoring and the command line see of it, and can do.

mod lists;

use std::sync::Arc;

use async_trait::async_trait;
use redkit_core::inspection::{Action, Inspect, InspectError, List, Page, Query, Snapshot};

use super::{Topic, check_group, scripts};
use crate::error::Error;
use crate::inbox::ItemId;

const ACTIONS: &[Action] = &[
    Action {
        name: "redrive",
        argument: "the partition, a slash, and the entry of a dead letter; nothing for all of them",
        description: "Publishes the group's dead letters again, for this group alone.",
        is_destructive: false,
    },
    Action {
        name: "pause",
        argument: "",
        description: "Stops the deliveries to the group, in all processes.",
        is_destructive: false,
    },
    Action {
        name: "resume",
        argument: "",
        description: "Goes on with the deliveries to the group.",
        is_destructive: false,
    },
];

const LISTS: &[List] = &[
    List {
        name: "dead_letters",
        filter: "",
        description: "What the group could not handle, the oldest first.",
    },
    List {
        name: "pending",
        filter: "",
        description: "What was delivered and is not acknowledged, the oldest first: in flight, or waiting for a retry.",
    },
];

impl<T: Send + 'static> Topic<T> {
    /// Makes a group visible to [`Client::inspect`](redkit_core::Client::inspect) for as long as the result is held,
    /// in a process that has no worker of it: a publisher, or a program for operators. A
    /// [`Worker`](super::Worker) does so by itself. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be a group.
    pub fn inspect(&self, group: impl Into<String>) -> Result<Arc<dyn Inspect>, Error> {
        let group = group.into();
        check_group(&group)?;
        Ok(register(self.clone(), group, None))
    }
}

/// What a worker in this process says of itself.
type OfWorker = Box<dyn Fn() -> Snapshot + Send + Sync>;

pub(super) fn register<T: Send + 'static>(
    topic: Topic<T>,
    group: String,
    worker: Option<OfWorker>,
) -> Arc<dyn Inspect> {
    let client = topic.inner.client.clone();
    let inspected: Arc<dyn Inspect> = Arc::new(Inspected {
        topic,
        group,
        worker,
    });
    client.register(Arc::downgrade(&inspected));
    inspected
}

struct Inspected<T> {
    topic: Topic<T>,
    group: String,
    worker: Option<OfWorker>,
}

#[async_trait]
impl<T: Send + 'static> Inspect for Inspected<T> {
    fn kind(&self) -> &'static str {
        "topic"
    }

    fn name(&self) -> String {
        format!("{}/{}", self.topic.name(), self.group)
    }

    fn snapshot(&self) -> Snapshot {
        match &self.worker {
            Some(worker) => worker(),
            None => Snapshot::default(),
        }
    }

    async fn measure(&self) -> Result<Snapshot, InspectError> {
        let stats = self.topic.stats(&self.group).await.map_err(failed)?;
        let mut snapshot = Snapshot::default()
            .fact("length", stats.length)
            .fact("delayed", stats.delayed)
            .fact("pending", stats.pending)
            .fact("in_flight", stats.in_flight)
            .fact("retries", stats.retries)
            .fact("dead_letters", stats.dead)
            .fact("consumers", stats.live_workers)
            .fact("is_paused", stats.is_paused);
        if let Some(lag) = stats.lag {
            snapshot = snapshot.fact("lag", lag);
        }
        // Also what was delivered to nobody yet: without consumers that is all there is.
        let oldest = stats.oldest_pending.max(stats.oldest_undelivered);
        Ok(snapshot.fact("oldest_pending", oldest.unwrap_or_default()))
    }

    fn lists(&self) -> &'static [List] {
        LISTS
    }

    async fn list(&self, list: &str, query: &Query) -> Result<Page, InspectError> {
        match list {
            "dead_letters" => self.dead_letters(query).await,
            "pending" => self.pending(query).await,
            _ => Err(InspectError::UnknownList {
                kind: self.kind(),
                list: list.into(),
            }),
        }
    }

    fn actions(&self) -> &'static [Action] {
        ACTIONS
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        match action {
            "redrive" if argument.is_empty() => {
                let letters = self
                    .topic
                    .dead_letters(self.group.as_str())
                    .map_err(failed)?;
                let count = letters.redrive_all().await.map_err(failed)?;
                Ok(format!("{count} dead letters were published again"))
            }
            "redrive" => self.redrive_one(argument).await,
            "pause" => {
                self.topic.pause(&self.group).await.map_err(failed)?;
                Ok("the group is paused".to_owned())
            }
            "resume" => {
                self.topic.resume(&self.group).await.map_err(failed)?;
                Ok("the group goes on".to_owned())
            }
            _ => Err(InspectError::UnknownAction {
                kind: self.kind(),
                action: action.into(),
            }),
        }
    }
}

impl<T> Inspected<T> {
    async fn redrive_one(&self, argument: &str) -> Result<String, InspectError> {
        let named = argument.split_once('/').and_then(|(partition, entry)| {
            let entry: ItemId = entry.parse().ok()?;
            Some((partition.parse::<u32>().ok()?, entry))
        });
        let inner = &self.topic.inner;
        let found = named.and_then(|(number, entry)| {
            let mut partitions = inner.partitions.iter();
            Some((partitions.find(|one| one.number == number)?, entry))
        });
        let Some((partition, entry)) = found else {
            let expected = "give the partition, a slash, and the entry of a dead letter, such as 0/1764428400000-0";
            return Err(InspectError::Argument(expected.into()));
        };
        let dead = partition.group(&self.group).dead;
        let only = Some(entry);
        let done = scripts::redrive(
            &inner.client,
            &partition.stream,
            &dead,
            &self.group,
            1,
            only,
        );
        Ok(match done.await? {
            0 => "this dead letter is not there any more".to_owned(),
            _ => "the dead letter was published again".to_owned(),
        })
    }
}

fn failed(error: Error) -> InspectError {
    match error {
        Error::Core(error) => InspectError::Core(error),
        other => InspectError::Failed(other.to_string().into()),
    }
}
