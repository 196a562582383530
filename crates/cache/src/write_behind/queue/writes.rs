//! Scripts that writers and readers use.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::lua;
use redkit_core::{Script, Value};

use super::super::settings::{Settings, micros};
use super::super::write_id::WriteId;
use super::partition::Partition;
use super::reply::{Reply, wrong};
use crate::error::Error;

static OPEN: Script = Script::new(include_str!("../../scripts/write_behind/open.lua"));
static PUT: Script = Script::of_parts(&[
    lua::WAKE_UP,
    include_str!("../../scripts/write_behind/put.lua"),
]);
static ROOM: Script = Script::new(include_str!("../../scripts/write_behind/room.lua"));
static LOOK: Script = Script::new(include_str!("../../scripts/write_behind/look.lua"));
static FLUSH: Script = Script::of_parts(&[
    lua::WAKE_UP,
    include_str!("../../scripts/write_behind/flush.lua"),
]);
static OLDER: Script = Script::new(include_str!("../../scripts/write_behind/older.lua"));
static STATS: Script = Script::new(include_str!("../../scripts/write_behind/stats.lua"));

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Put {
    Accepted {
        version: u64,
        pending: u64,
        coalesced: bool,
    },
    /// It was accepted before.
    Repeated {
        version: u64,
    },
    Full {
        pending: u64,
    },
}

/// How much a partition holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Contents {
    pub(in super::super) pending: u64,
    pub(in super::super) in_flight: u64,
    pub(in super::super) resting: u64,
    pub(in super::super) dead: u64,
    pub(in super::super) oldest: Duration,
}

impl Partition {
    pub(super) async fn open(&self) -> Result<(), Error> {
        let call = OPEN
            .invoke([&self.keys.state])
            .arg(self.of)
            .idempotent(true);
        let stored: u64 = self.client.eval(call).await?;
        self.check(stored)
    }

    /// Accepts a change: `v` and the value, or `d`. Repeating it is safe by its id.
    pub(in super::super) async fn put(
        &self,
        key: &[u8],
        change: &Bytes,
        id: WriteId,
        settings: &Settings,
    ) -> Result<Put, Error> {
        let keys = &self.keys;
        let call = PUT
            .invoke([
                &keys.state,
                &keys.changes,
                &keys.age,
                &keys.ready,
                &keys.flight,
                &keys.tries,
                &keys.ids,
                &keys.dead,
            ])
            .arg(key)
            .arg(change)
            .arg(id)
            .arg(self.of)
            .arg(settings.max_pending)
            .arg(micros(settings.write_id_window))
            .arg(settings.max_batch)
            .arg(&self.wake_ups.channel)
            .arg(&self.wake_ups.due)
            .idempotent(true);
        let mut reply = Reply::new(self.client.eval::<Vec<Value>>(call).await?);
        match reply.next::<i64>()? {
            1 => Ok(Put::Accepted {
                version: reply.next()?,
                pending: reply.next()?,
                coalesced: reply.next()?,
            }),
            2 => Ok(Put::Repeated {
                version: reply.next()?,
            }),
            0 => Ok(Put::Full {
                pending: reply.next()?,
            }),
            _ => Err(self.mismatch(reply.next()?)),
        }
    }

    /// Whether [`Partition::put`] would find room for this key now. If not, callers that
    /// [wait](Partition::wait_for_batches) are woken when a batch has ended.
    pub(in super::super) async fn has_room(
        &self,
        key: &[u8],
        settings: &Settings,
    ) -> Result<bool, Error> {
        let call = ROOM
            .invoke([&self.keys.state, &self.keys.changes])
            .arg(key)
            .arg(settings.max_pending)
            .idempotent(true);
        Ok(self.client.eval(call).await?)
    }

    /// The pending change of a key and its version.
    pub(in super::super) async fn look(&self, key: &[u8]) -> Result<Option<(u64, Bytes)>, Error> {
        let call = LOOK.invoke([&self.keys.changes]).arg(key).idempotent(true);
        let record: Option<Bytes> = self.client.eval(call).await?;
        let Some(record) = record else {
            return Ok(None);
        };
        let space = record.iter().position(|&b| b == b' ');
        let version = space
            .and_then(|end| std::str::from_utf8(record.get(..end)?).ok()?.parse().ok())
            .ok_or_else(|| wrong("a version and a change", "other bytes"))?;
        Ok(Some((version, record.slice(space.unwrap_or(0) + 1..))))
    }

    /// Makes everything pending due; gives the version to wait for with [`Partition::older`].
    pub(in super::super) async fn flush(&self) -> Result<u64, Error> {
        let call = FLUSH
            .invoke([&self.keys.state])
            .arg(&self.wake_ups.channel)
            .arg(&self.wake_ups.due)
            .idempotent(true);
        Ok(self.client.eval(call).await?)
    }

    /// How many changes are pending that are no newer than this version. If there are any, callers that
    /// [wait](Partition::wait_for_batches) are woken when a batch has ended.
    pub(in super::super) async fn older(&self, version: u64) -> Result<u64, Error> {
        let call = OLDER
            .invoke([&self.keys.state, &self.keys.age])
            .arg(version)
            .idempotent(true);
        Ok(self.client.eval(call).await?)
    }

    pub(in super::super) async fn contents(&self) -> Result<Contents, Error> {
        let keys = &self.keys;
        let call = STATS
            .invoke([
                &keys.changes,
                &keys.age,
                &keys.flight,
                &keys.later,
                &keys.dead,
            ])
            .idempotent(true);
        let mut reply = Reply::new(self.client.eval::<Vec<Value>>(call).await?);
        Ok(Contents {
            pending: reply.next()?,
            in_flight: reply.next()?,
            resting: reply.next()?,
            dead: reply.next()?,
            oldest: Duration::from_micros(reply.next()?),
        })
    }

    fn check(&self, stored: u64) -> Result<(), Error> {
        match stored == u64::from(self.of) {
            true => Ok(()),
            false => Err(self.mismatch(stored)),
        }
    }

    pub(super) fn mismatch(&self, stored: u64) -> Error {
        Error::Partitions {
            stored,
            configured: self.of,
        }
    }
}
