//! [`DeadLetters`]: what a group could not handle.

use std::collections::BTreeMap;

use bytes::Bytes;
use redkit_core::{Command, Key};
use serde::de::DeserializeOwned;

use super::{Topic, check_group, scripts};
use crate::error::Error;
use crate::inbox::ItemId;
use crate::scripts::Entries;

/// The dead letters of a group, from [`Topic::dead_letters`]. Their bytes and headers are kept as they were.
/// How many are kept, and for how long, is the consumers'
/// [setting](super::ConsumerBuilder::dead_letters).
#[derive(Debug, Clone)]
pub struct DeadLetters<T> {
    topic: Topic<T>,
    group: Box<str>,
}

/// A message that a group could not handle.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeadLetter<T> {
    /// Which of the partition's dead letters it is.
    pub entry: ItemId,
    /// In which partition.
    pub partition: u32,
    /// The message's id.
    pub id: String,
    /// Its key.
    pub key: Bytes,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// The message; an error with the bytes when it is not a `T`.
    pub payload: Result<T, redkit_core::Error>,
    /// Why it died.
    pub reason: String,
    /// How many attempts there were.
    pub attempts: u32,
}

impl<T> Topic<T> {
    /// The dead letters of a group.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be a group.
    pub fn dead_letters(&self, group: impl Into<String>) -> Result<DeadLetters<T>, Error> {
        let group = group.into();
        check_group(&group)?;
        Ok(DeadLetters {
            topic: self.clone(),
            group: group.into(),
        })
    }
}

impl<T> DeadLetters<T> {
    /// How many there are.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn count(&self) -> Result<u64, Error> {
        let mut count = 0;
        for (_, _, dead) in self.keys() {
            let client = &self.topic.inner.client;
            count += client.call::<u64>(Command::new("XLEN").key(&dead)).await?;
        }
        Ok(count)
    }

    /// Publishes one of them again, for this group alone, with all its attempts before it. `false` when it
    /// is not there any more.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn redrive(&self, letter: &DeadLetter<T>) -> Result<bool, Error> {
        self.redrive_entry(letter.partition, letter.entry).await
    }

    /// The same by [`DeadLetter::partition`] and [`DeadLetter::entry`], for a caller that has not read the letter.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn redrive_entry(&self, partition: u32, entry: ItemId) -> Result<bool, Error> {
        for (number, stream, dead) in self.keys() {
            if number == partition {
                let client = &self.topic.inner.client;
                let only = Some(entry);
                let done = scripts::redrive(client, &stream, &dead, &self.group, 1, only);
                return Ok(done.await? > 0);
            }
        }
        Ok(false)
    }

    /// Publishes all of them again that are there now, for this group alone. Gives how many.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked; those before were published.
    pub async fn redrive_all(&self) -> Result<u64, Error> {
        const AT_ONCE: u32 = 100;
        let client = &self.topic.inner.client;
        let mut redriven = 0;
        for (_, stream, dead) in self.keys() {
            let mut left = client.call::<u64>(Command::new("XLEN").key(&dead)).await?;
            while left > 0 {
                let done = scripts::redrive(client, &stream, &dead, &self.group, AT_ONCE, None);
                let done = done.await?;
                redriven += done;
                left = match done {
                    0 => 0,
                    done => left.saturating_sub(done),
                };
            }
        }
        Ok(redriven)
    }

    /// Deletes all of them.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn clear(&self) -> Result<(), Error> {
        for (_, _, dead) in self.keys() {
            let unlink = Command::new("UNLINK").key(&dead).idempotent(true);
            self.topic.inner.client.call::<u64>(unlink).await?;
        }
        Ok(())
    }

    fn keys(&self) -> impl Iterator<Item = (u32, Key, Key)> + '_ {
        let partitions = self.topic.inner.partitions.iter();
        partitions.map(|partition| {
            let dead = partition.group(&self.group).dead;
            (partition.number, partition.stream.clone(), dead)
        })
    }
}

impl<T: DeserializeOwned> DeadLetters<T> {
    /// The oldest of each partition, `most` of each.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn list(&self, most: u32) -> Result<Vec<DeadLetter<T>>, Error> {
        let client = &self.topic.inner.client;
        let mut letters = Vec::new();
        for (partition, stream, dead) in self.keys() {
            let range = Command::new("XRANGE").key(&dead).arg("-").arg("+");
            let Entries(raw): Entries<(ItemId, Vec<Bytes>)> =
                client.call(range.arg("COUNT").arg(most)).await?;
            for (entry, fields) in raw {
                let mut fields: BTreeMap<Bytes, Bytes> = fields
                    .chunks_exact(2)
                    .filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone())))
                    .collect();
                let mut field =
                    |name: &'static str| fields.remove(name.as_bytes()).unwrap_or_default();
                let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
                letters.push(DeadLetter {
                    entry,
                    partition,
                    id: text(field("i")),
                    key: field("k"),
                    headers: serde_json::from_slice(&field("h")).unwrap_or_default(),
                    payload: client.codec().decode(stream.as_bytes(), field("m")),
                    reason: text(field("r")),
                    attempts: text(field("a")).parse().unwrap_or_default(),
                });
            }
        }
        Ok(letters)
    }
}
