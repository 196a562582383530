//! Fetching what is at the keys of entries: the bytes, as they are.

use bytes::Bytes;
use redkit_core::{Command, Error as CoreError};

use super::Store;
use super::trip::next;
use crate::id::Id;
use crate::names::EntryKeys;

/// An entry as it was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) raw: Option<Bytes>,
    /// The value of its lease's key, when that was read.
    pub(super) lease: Option<Bytes>,
    /// The cache's.
    pub(super) generation: Option<Id>,
    /// The reply to `PTTL`, when it was asked.
    pub(super) left: Option<i64>,
}

impl<V> Store<V> {
    /// The entry and the generation by which it is judged come in one command where one server has
    /// both: reading them by two costs both sides almost twice as much.
    pub(super) async fn find(&self, keys: &EntryKeys) -> Result<Found, CoreError> {
        let (entry, generation) = (&keys.entry, &self.names.generation);
        if !self.settings.clearable {
            let get = Command::new("GET").key(entry);
            return Ok(Found {
                raw: self.hasty.call(get).await?,
                ..Found::default()
            });
        }
        let (raw, generation): (Option<Bytes>, Option<Bytes>) = match self.is_cluster {
            false => {
                let bytes = entry.as_bytes().len() + generation.as_bytes().len();
                let both = Command::with_capacity("MGET", bytes);
                let both = both.key(entry).key(generation);
                self.hasty.call(both).await?
            }
            true => {
                let both = self.gets([entry, generation]);
                let mut replies = self.hasty.pipeline(both).await?.into_iter();
                (next("GET", &mut replies)?, next("GET", &mut replies)?)
            }
        };
        Ok(Found {
            raw,
            generation: generation.and_then(|text| Id::read(&text)),
            ..Found::default()
        })
    }

    /// The time left comes before the entry. If the entry is replaced in between, it is cut to the new
    /// one's own; the other way round the old one would be given the new one's time. The lease comes
    /// before it as well: a load that ends in between is found by its entry.
    pub(super) async fn find_many(
        &self,
        wanted: &[(&EntryKeys, bool)],
        with_left: bool,
    ) -> Result<Vec<Result<Found, CoreError>>, CoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let keys_of = |(keys, with_lease): &(&'_ EntryKeys, bool)| {
            let lease = with_lease.then(|| keys.lease.clone());
            lease.into_iter().chain([keys.entry.clone()])
        };
        let all: Vec<_> = wanted.iter().flat_map(keys_of).collect();
        // After the entries: a cache that is cleared in between shows the new generation.
        let generation = self.settings.clearable.then_some(&self.names.generation);
        let mut commands: Vec<_> = match with_left {
            true => wanted
                .iter()
                .map(|(keys, _)| Command::new("PTTL").key(&keys.entry))
                .collect(),
            false => Vec::new(),
        };
        commands.extend(self.gets(all.iter().chain(generation)));
        let mut replies = self.hasty.pipeline(commands).await?.into_iter();
        let left: Vec<_> = wanted
            .iter()
            .map(|_| match with_left {
                true => next("PTTL", &mut replies).map(Some),
                false => Ok(None),
            })
            .collect();
        let asked = all.len() + usize::from(generation.is_some());
        let mut values = self.got(asked, &mut replies);
        let generation = match generation {
            Some(_) => values.pop().unwrap_or(Ok(None))?,
            None => None,
        };
        let generation = generation.and_then(|text| Id::read(&text));
        let mut values = values.into_iter();
        let mut value = || values.next().unwrap_or(Ok(None));
        let found = wanted.iter().zip(left).map(|((_, with_lease), left)| {
            let lease = if *with_lease { value() } else { Ok(None) };
            let raw = value();
            let left = left?;
            Ok(Found {
                // An entry that came in between has a time that is not known: a load finds it.
                raw: raw?.filter(|_| left != Some(-2)),
                lease: lease?,
                generation,
                left,
            })
        });
        Ok(found.collect())
    }
}
