//! Writing and removing, and telling other processes of it.

use std::time::Duration;

use redkit_core::coordination::Release;
use redkit_core::{CallError, Command, Error as CoreError};
use tokio::time::Instant;

use super::Store;
use super::trip::{next, next_value, odd};
use crate::entry::{Encoded, Head, millis};
use crate::id::{Id, LeaseToken};
use crate::names::{EntryKeys, stripe};
use crate::scripts::{self, Broadcast, Fill, Filled, Generation, Invalidation, Snapshot, Written};

impl<V> Store<V> {
    /// Writes entries where the leases stand. One round trip; two more for one that an entry of a
    /// newer version, but of another generation, keeps away.
    pub(crate) async fn write_fills(
        &self,
        fills: &[Fill<'_>],
        snapshot: &Snapshot,
        broadcast: Broadcast,
    ) -> Vec<Result<Filled, CoreError>> {
        let mut filled = self.write_fills_once(fills, snapshot, broadcast).await;
        for (fill, filled) in fills.iter().zip(&mut filled) {
            if let Some(other) = other_generation(fill, filled) {
                *filled = self.write_fill_over(fill, other, snapshot, broadcast).await;
            }
        }
        filled
    }

    /// Writes over an entry of another generation, once it is certain that that one is over.
    async fn write_fill_over(
        &self,
        fill: &Fill<'_>,
        other: Generation,
        snapshot: &Snapshot,
        broadcast: Broadcast,
    ) -> Result<Filled, CoreError> {
        let obsolete = Some(other);
        // The lease still stands, and nothing is written without it.
        if self.snapshot().await?.generation == snapshot.generation {
            let again = [Fill { obsolete, ..*fill }];
            let filled = self
                .write_fills_once(&again, snapshot, broadcast)
                .await
                .pop();
            let filled = filled.unwrap_or(Ok(Filled::Fenced));
            if other_generation(fill, &filled).is_none() {
                return filled;
            }
        }
        // The loaded value is of the generation that is over.
        self.release(fill.keys, fill.token, Duration::ZERO, &[])
            .await?;
        Ok(Filled::Fenced)
    }

    async fn write_fills_once(
        &self,
        fills: &[Fill<'_>],
        snapshot: &Snapshot,
        broadcast: Broadcast,
    ) -> Vec<Result<Filled, CoreError>> {
        if fills.is_empty() {
            return Vec::new();
        }
        let meta_ms = self.settings.meta_ms(0);
        let mut steps: Vec<_> = fills
            .iter()
            .map(|fill| scripts::fill(fill, &self.names, broadcast, meta_ms))
            .collect();
        if self.settings.clearable {
            // Not a mere question: hash and generation must outlive what is written.
            let longest = fills.iter().map(|fill| fill.head.lifetime_ms()).max();
            let meta_ms = self.settings.meta_ms(longest.unwrap_or(0));
            steps.push(scripts::snapshot(&self.names, meta_ms));
        }
        let mut replies = match self.run_all(steps).await {
            Ok(replies) => replies.into_iter(),
            Err(error) => return vec![Err(error); fills.len()],
        };
        let mut filled: Vec<_> = replies
            .by_ref()
            .take(fills.len())
            .map(|reply| {
                let value = next_value(&mut std::iter::once(reply))?;
                scripts::filled(value).map_err(odd)
            })
            .collect();
        for (fill, filled) in fills.iter().zip(&mut filled) {
            if let Ok(Filled::Written) = filled
                && let Err(error) = self
                    .broadcast_after(broadcast, Invalidation::Entry(&fill.keys.entry))
                    .await
            {
                *filled = Err(error);
            }
        }
        if self.settings.clearable {
            // A cache that was cleared meanwhile does not serve it, whatever the lease says.
            let now =
                next_value(&mut replies).and_then(|reply| scripts::snapshotted(reply).map_err(odd));
            let stands = now.is_ok_and(|now| now.generation == snapshot.generation);
            if !stands {
                for (fill, filled) in fills.iter().zip(&mut filled) {
                    if filled.is_ok() && other_generation(fill, filled).is_none() {
                        *filled = Ok(Filled::Fenced);
                    }
                }
            }
        }
        filled
    }

    pub(crate) async fn release(
        &self,
        keys: &EntryKeys,
        token: LeaseToken,
        rest: Duration,
        error: &[u8],
    ) -> Result<(), CoreError> {
        let rest_ms = millis(rest);
        // A waiting caller looks again within the time of a lease.
        let stays_ms = millis(self.settings.lease.saturating_mul(2));
        let release = scripts::release(keys, &self.names, token, rest_ms, error, stays_ms);
        self.client.eval::<i64>(release).await.map(drop)
    }

    /// Gives `None` when the cache has another generation than the entry by now, so that it is not
    /// valid, and `false` when an entry of a newer version is there. One round trip; two more when
    /// that one may be of a generation that is over.
    pub(crate) async fn set(
        &self,
        keys: &EntryKeys,
        head: &Head,
        entry: &Encoded,
    ) -> Result<Option<bool>, CoreError> {
        let (written, now) = self.set_once(keys, head, entry, None).await?;
        let other = match written {
            Written::Newer(other) if head.generation.is_some() && other.0 != head.generation => {
                other
            }
            written => return Ok((now == head.generation).then_some(written == Written::Yes)),
        };
        // Asked after it was seen, because a generation that is another than this one is over.
        let now = Some(self.snapshot().await?.generation);
        if now == other.0 {
            return Ok(Some(false));
        }
        if now != head.generation {
            return Ok(None);
        }
        let (written, now) = self.set_once(keys, head, entry, Some(other)).await?;
        Ok((now == head.generation).then_some(written == Written::Yes))
    }

    /// Gives the generation that the cache has by now as well.
    async fn set_once(
        &self,
        keys: &EntryKeys,
        head: &Head,
        entry: &Encoded,
        obsolete: Option<Generation>,
    ) -> Result<(Written, Option<Id>), CoreError> {
        let broadcast = self.broadcast();
        let meta_ms = self.settings.meta_ms(0);
        let set = scripts::set(keys, &self.names, head, entry, obsolete, broadcast, meta_ms);
        let mut steps: Vec<_> = vec![set];
        if head.generation.is_some() {
            // Not a mere question: hash and generation must outlive what is written.
            let meta_ms = self.settings.meta_ms(head.lifetime_ms());
            steps.push(scripts::snapshot(&self.names, meta_ms));
        }
        let mut replies = self.run_all(steps).await?.into_iter();
        let written = scripts::written(next_value(&mut replies)?).map_err(odd)?;
        if written == Written::Yes {
            self.broadcast_after(broadcast, Invalidation::Entry(&keys.entry))
                .await?;
        }
        if head.generation.is_none() {
            return Ok((written, None));
        }
        let now = scripts::snapshotted(next_value(&mut replies)?).map_err(odd)?;
        self.know_generation(now.generation);
        Ok((written, Some(now.generation)))
    }

    pub(crate) async fn invalidate(&self, keys: &EntryKeys) -> Result<bool, CoreError> {
        self.remove(keys, None, None).await
    }

    /// Removes this entry and no other. On a cluster other processes are told in any case: "there was none" may be the
    /// answer to a repetition, whose first call has removed it.
    pub(crate) async fn invalidate_seen(
        &self,
        keys: &EntryKeys,
        seen: Id,
    ) -> Result<bool, CoreError> {
        self.remove(keys, None, Some(seen)).await
    }

    /// Ends a write of which nothing is kept.
    pub(crate) async fn end_write(
        &self,
        keys: &EntryKeys,
        token: LeaseToken,
    ) -> Result<(), CoreError> {
        self.remove(keys, Some(token), None).await.map(drop)
    }

    /// Ends a write in the background that has perhaps begun and writes nothing: there is no news for other processes.
    pub(crate) fn end_unwritten(&self, keys: &EntryKeys, token: LeaseToken) {
        let end = scripts::invalidate(keys, &self.names, Some(token), None, Broadcast::No, 0);
        let runs_out = Instant::now() + self.settings.lease;
        let release = Release::new([end]).until(runs_out);
        self.client.release_later(release);
    }

    async fn remove(
        &self,
        keys: &EntryKeys,
        ended: Option<LeaseToken>,
        only: Option<Id>,
    ) -> Result<bool, CoreError> {
        let broadcast = self.broadcast();
        let meta_ms = self.settings.meta_ms(0);
        let invalidate = scripts::invalidate(keys, &self.names, ended, only, broadcast, meta_ms);
        let removed = self.client.eval(invalidate).await?;
        self.broadcast_after(broadcast, Invalidation::Entry(&keys.entry))
            .await?;
        Ok(removed)
    }

    /// First the count, then the generations, then the news: see docs/decisions/0019.
    pub(crate) async fn invalidate_tags(&self, tags: &[Box<str>]) -> Result<(), CoreError> {
        if tags.is_empty() {
            return Ok(());
        }
        let meta_ms = self.settings.meta_ms(0);
        let mut stripes: Vec<_> = tags.iter().map(|tag| stripe(tag)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let mark = scripts::mark_tags(&self.names, &stripes, meta_ms);
        self.client.eval::<()>(mark).await?;
        let removals = tags
            .iter()
            .map(|tag| {
                Command::new("UNLINK")
                    .key(self.names.of_tag(tag))
                    .idempotent(true)
            })
            .collect();
        let mut replies = self.client.pipeline(removals).await?.into_iter();
        for _ in tags {
            next::<i64>("UNLINK", &mut replies)?;
        }
        if self.broadcast() != Broadcast::No {
            let news = tags
                .iter()
                .map(|tag| scripts::broadcast(&self.names, Invalidation::Tag(tag), meta_ms))
                .collect();
            let mut replies = self.run_all(news).await?.into_iter();
            for _ in tags {
                next_value(&mut replies)?;
            }
        }
        Ok(())
    }

    pub(crate) async fn clear(&self) -> Result<(), CoreError> {
        let meta_ms = self.settings.meta_ms(0);
        let clear = scripts::clear(&self.names, self.broadcast(), meta_ms);
        self.client.eval(clear).await
    }

    /// Takes the lease for a write, removes the entry, and reads what the write's tags will be
    /// judged by. `None` when another write of the same key is in progress. One round trip; on a
    /// cluster two.
    pub(crate) async fn begin_write(
        &self,
        keys: &EntryKeys,
        token: LeaseToken,
    ) -> Result<Option<Snapshot>, CoreError> {
        let lease_ms = millis(self.settings.lease);
        let (broadcast, meta_ms) = (self.broadcast(), self.settings.meta_ms(0));
        let begin = scripts::begin_write(keys, &self.names, token, lease_ms, broadcast, meta_ms);
        let snapshot = scripts::snapshot(&self.names, meta_ms);
        let steps = vec![snapshot, begin];
        let mut replies = self.run_all(steps).await?.into_iter();
        let snapshot = next_value(&mut replies);
        let begun = next::<bool>("EVALSHA", &mut replies)?;
        self.broadcast_after(broadcast, Invalidation::Entry(&keys.entry))
            .await?;
        let snapshot = scripts::snapshotted(snapshot?).map_err(odd)?;
        Ok(begun.then_some(snapshot))
    }

    /// How other processes are told of a change.
    pub(crate) fn broadcast(&self) -> Broadcast {
        match (self.settings.announces, self.is_cluster) {
            (false, _) => Broadcast::No,
            (true, true) => Broadcast::AfterScript,
            (true, false) => Broadcast::WithinScript,
        }
    }

    async fn broadcast_after(
        &self,
        broadcast: Broadcast,
        invalidation: Invalidation<'_>,
    ) -> Result<(), CoreError> {
        if broadcast == Broadcast::AfterScript {
            let meta_ms = self.settings.meta_ms(0);
            let news = scripts::broadcast(&self.names, invalidation, meta_ms);
            let told = self.client.eval::<i64>(news).await;
            told.map_err(already_made)?;
        }
        Ok(())
    }
}

/// The generation of an entry that keeps a fill away and may be over; then the lease still stands.
fn other_generation(fill: &Fill<'_>, filled: &Result<Filled, CoreError>) -> Option<Generation> {
    match filled {
        Ok(Filled::Newer(other)) if fill.head.generation.is_some() => {
            (other.0 != fill.head.generation).then_some(*other)
        }
        _ => None,
    }
}

/// The change was made, whatever became of its announcement.
fn already_made(error: CoreError) -> CoreError {
    match error {
        CoreError::Call {
            command,
            error: CallError::NotSent(fault),
        } => CoreError::Call {
            command,
            error: CallError::Maybe(fault),
        },
        error => error,
    }
}
