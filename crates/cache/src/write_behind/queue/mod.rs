//! [`Queue`]: the queue on the server, divided into partitions. Scripts' arguments and replies are
//! known here and nowhere above.

mod batches;
mod letters;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
mod partition;
mod reply;
mod writes;

use futures_util::{StreamExt, TryStreamExt, stream};
use redkit_core::{Client, Keyspace};

pub(super) use self::batches::{Ending, Item, LeaseKey, Take};
pub(super) use self::letters::Letter;
pub(super) use self::partition::Partition;
pub(super) use self::writes::Put;
use super::metrics::Metrics;
use super::settings::Settings;
use crate::error::Error;

/// How many partitions are asked at the same time.
const AT_ONCE: usize = 16;

pub(super) struct Queue {
    pub(super) client: Client,
    pub(super) name: Box<str>,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    pub(super) partitions: Vec<Partition>,
    keys: Keyspace,
}

impl Queue {
    pub(super) fn new(client: Client, name: &str, settings: Settings) -> Result<Self, Error> {
        let keys = client.keyspace("write-behind", name)?;
        let partitions = (0..settings.partitions)
            .map(|index| Partition::new(&client, &keys, name, index, settings.partitions))
            .collect();
        Ok(Self {
            metrics: Metrics::new(name, settings.partitions),
            name: name.into(),
            client,
            settings,
            partitions,
            keys,
        })
    }

    /// Settles the number of partitions, in every one of them: whoever believes in another number
    /// meets at least one that says otherwise.
    pub(super) async fn open(&self) -> Result<(), Error> {
        self.on_all(Partition::open).await?;
        Ok(())
    }

    /// The partition of a key. The slot's computation is fixed for ever, and keeps user keys with the
    /// same hash tag together.
    pub(super) fn partition_of(&self, key: &[u8]) -> &Partition {
        // The settings' check makes sure that there is at least one.
        &self.partitions[usize::from(redkit_core::slot(key)) % self.partitions.len()]
    }

    /// The name of a user key in errors and for codecs; nothing is stored under it.
    pub(super) fn logical_key(&self, key: &[u8]) -> redkit_core::Key {
        self.keys.key(key)
    }

    /// Asks every partition and gives the answers in their order.
    pub(super) async fn on_all<'q, F, T>(
        &'q self,
        ask: impl Fn(&'q Partition) -> F,
    ) -> Result<Vec<T>, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let answers = stream::iter(self.partitions.iter().map(ask)).buffered(AT_ONCE);
        answers.try_collect().await
    }
}
