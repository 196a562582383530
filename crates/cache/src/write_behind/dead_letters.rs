//! Listing dead letters, putting them back, discarding them.

use bytes::Bytes;
use redkit_core::ToArg;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dead_letter::{Cursor, DeadLetter, DeadLetterPage, Redriven};
use super::handle::WriteBehind;
use super::queue::{Partition, Queue};
use super::stored::{bytes_of, decode_value};
use crate::error::Error;

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> WriteBehind<V> {
    /// At most `count` dead letters (1 to 1000), from the beginning or after a page. They stay until they are
    /// [put back](Self::redrive) or [discarded](Self::discard); reads do not see them. One round trip
    /// per partition that the page touches.
    ///
    /// # Errors
    /// [`Error::Core`].
    pub async fn dead_letters(
        &self,
        after: Option<&Cursor>,
        count: usize,
    ) -> Result<DeadLetterPage, Error> {
        let count = count.clamp(1, 1000);
        let mut place = after.cloned().unwrap_or(Cursor {
            partition: 0,
            after: None,
        });
        let mut letters = Vec::new();
        while let Some(partition) = self.queue.partitions.get(place.partition) {
            let wanted = count - letters.len();
            let some = partition.letters(place.after.as_deref(), wanted).await?;
            place = match some.last() {
                Some(last) if some.len() == wanted => Cursor {
                    after: Some(last.key.clone()),
                    ..place
                },
                _ => Cursor {
                    partition: place.partition + 1,
                    after: None,
                },
            };
            letters.extend(some.into_iter().map(DeadLetter::new));
            if letters.len() == count {
                break;
            }
        }
        let is_more = place.partition < self.queue.partitions.len();
        Ok(DeadLetterPage {
            letters,
            next: is_more.then_some(place),
        })
    }

    /// The value of a dead letter; `None` for a delete.
    ///
    /// # Errors
    /// [`Error::Core`] when its bytes are not a `V`.
    pub fn value_of(&self, letter: &DeadLetter) -> Result<Option<V>, Error> {
        match letter.raw() {
            None => Ok(None),
            Some(raw) => decode_value(&self.queue, letter.key(), raw).map(Some),
        }
    }

    /// Puts the dead letter of `key` back into the queue, unless the key was written since; it
    /// may take the queue over `max_pending`. One round trip.
    ///
    /// # Errors
    /// [`Error::Core`].
    pub async fn redrive(&self, key: impl ToArg) -> Result<Redriven, Error> {
        self.queue.redrive(bytes_of(&key)).await
    }

    /// Puts back all dead letters whose keys were not written since. Two round trips for each
    /// hundred of them, and one per partition.
    ///
    /// # Errors
    /// [`Error::Core`]; some may be back then.
    pub async fn redrive_all(&self) -> Result<Redriven, Error> {
        self.queue.redrive_all().await
    }

    /// Throws the dead letter of `key` away; gives whether there was one. One round trip.
    ///
    /// # Errors
    /// [`Error::Core`].
    pub async fn discard(&self, key: impl ToArg) -> Result<bool, Error> {
        let key = bytes_of(&key);
        Ok(self.queue.partition_of(&key).discard(&[key]).await? > 0)
    }

    /// Throws all dead letters away; gives how many there were. Two round trips for each hundred of
    /// them, and one per partition.
    ///
    /// # Errors
    /// [`Error::Core`]; some may be gone then.
    pub async fn discard_all(&self) -> Result<u64, Error> {
        let mut sum = 0;
        for partition in &self.queue.partitions {
            let mut after = None;
            loop {
                let keys = keys_after(partition, after.as_ref()).await?;
                let Some(last) = keys.last().cloned() else {
                    break;
                };
                sum += partition.discard(&keys).await?;
                after = Some(last);
            }
        }
        Ok(sum)
    }
}

impl Queue {
    pub(super) async fn redrive(&self, key: Bytes) -> Result<Redriven, Error> {
        let partition = self.partition_of(&key);
        Ok(redriven(partition.redrive(&[key]).await?))
    }

    pub(super) async fn redrive_all(&self) -> Result<Redriven, Error> {
        let mut sum = Redriven::default();
        for partition in &self.partitions {
            let mut after = None;
            loop {
                let keys = keys_after(partition, after.as_ref()).await?;
                let Some(last) = keys.last().cloned() else {
                    break;
                };
                let part = redriven(partition.redrive(&keys).await?);
                sum.redriven += part.redriven;
                sum.superseded += part.superseded;
                after = Some(last);
            }
        }
        Ok(sum)
    }
}

async fn keys_after(partition: &Partition, after: Option<&Bytes>) -> Result<Vec<Bytes>, Error> {
    let letters = partition.letters(after.map(|key| &**key), 100).await?;
    Ok(letters.into_iter().map(|letter| letter.key).collect())
}

fn redriven([redriven, superseded, missing]: [u64; 3]) -> Redriven {
    Redriven {
        redriven,
        superseded,
        missing,
    }
}
