//! Scripts that workers use: taking a batch under a lease, keeping the lease, reporting.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::lua;
use redkit_core::{Invocation, Key, Script, Value};

use super::super::settings::{Settings, micros};
use super::partition::Partition;
use super::reply::Reply;
use crate::error::Error;

static TAKE: Script = Script::new(include_str!("../../scripts/write_behind/take.lua"));
static RENEW: Script = Script::new(include_str!("../../scripts/write_behind/renew.lua"));
static REPORT: Script = Script::of_parts(&[
    lua::WAKE_UP,
    include_str!("../../scripts/write_behind/report.lua"),
]);

/// The reply to a worker that asks for a batch, and how the partition stands.
#[derive(Debug)]
pub(in super::super) struct Taken {
    pub(in super::super) take: Take,
    pub(in super::super) pending: u64,
    pub(in super::super) oldest: Duration,
    /// Dead letters.
    pub(in super::super) dead: u64,
}

#[derive(Debug)]
pub(in super::super) enum Take {
    /// Another has the lease, for so long at most.
    Leased(Duration),
    /// Nothing is due, and will be in so long, if anything is pending.
    Nothing(Option<Duration>),
    Batch(Vec<Item>),
}

/// A change as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Item {
    pub(in super::super) key: Bytes,
    pub(in super::super) version: u64,
    /// Failures of its own.
    pub(in super::super) own: u32,
    /// Failures of batches that it was in with others.
    pub(in super::super) shared: u32,
    /// `v` and the value, or `d`.
    pub(in super::super) change: Bytes,
}

/// How a change of a batch has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Ending {
    Written,
    /// It failed; try again after the pause.
    Failed(Duration),
    /// A batch with others failed; try again after the pause.
    BatchFailed(Duration),
    /// It was not tried, and does not count; after the pause.
    Untried(Duration),
    /// It is given up, with the last error's text.
    Dead(Box<str>),
}

/// Where a partition's lease is.
pub(in super::super) struct LeaseKey(Key);

impl LeaseKey {
    /// Lets the lease run for so long from now on, if it is still the token's. The reply is 1 then.
    pub(in super::super) fn renew(&self, token: &str, lease: Duration) -> Invocation {
        RENEW.invoke([&self.0]).arg(token).arg(micros(lease))
    }
}

impl Partition {
    /// Takes a batch. With the same token again, when no reply came: then what was taken for it
    /// before is taken anew.
    pub(in super::super) async fn take(
        &self,
        token: &str,
        settings: &Settings,
    ) -> Result<Taken, Error> {
        let keys = &self.keys;
        let call = TAKE
            .invoke([
                &keys.state,
                &keys.changes,
                &keys.age,
                &keys.ready,
                &keys.flight,
                &keys.tries,
                &keys.later,
                &keys.dead,
            ])
            .arg(token)
            .arg(micros(settings.lease))
            .arg(settings.max_batch)
            .arg(settings.max_batch_bytes)
            .arg(micros(settings.max_age))
            .arg(self.of)
            .arg(micros(settings.backoff.1))
            .idempotent(true);
        let mut reply = Reply::new(self.client.eval::<Vec<Value>>(call).await?);
        let kind: i64 = reply.next()?;
        if kind < 0 {
            return Err(self.mismatch(reply.next()?));
        }
        let wait: i64 = reply.next()?;
        let wait = u64::try_from(wait).ok().map(Duration::from_micros);
        let pending = reply.next()?;
        let oldest = Duration::from_micros(reply.next()?);
        let dead = reply.next()?;
        let take = match kind {
            0 => Take::Leased(wait.unwrap_or_default()),
            1 => Take::Nothing(wait),
            _ => {
                let mut items = Vec::new();
                while !reply.is_empty() {
                    items.push(Item {
                        key: reply.next()?,
                        version: reply.next()?,
                        own: reply.next()?,
                        shared: reply.next()?,
                        change: reply.next()?,
                    });
                }
                Take::Batch(items)
            }
        };
        Ok(Taken {
            take,
            pending,
            oldest,
            dead,
        })
    }

    /// The partition as the one that renews its lease knows it.
    pub(in super::super) fn lease_key(&self) -> LeaseKey {
        LeaseKey(self.keys.state.clone())
    }

    /// Whether the report was taken, now or before: nobody has taken the partition over. Repeating
    /// it changes nothing.
    pub(in super::super) async fn report(
        &self,
        token: &str,
        endings: &[(Bytes, u64, Ending)],
    ) -> Result<bool, Error> {
        let keys = &self.keys;
        let call = REPORT
            .invoke([
                &keys.state,
                &keys.changes,
                &keys.age,
                &keys.ready,
                &keys.flight,
                &keys.tries,
                &keys.later,
                &keys.dead,
                &keys.letters,
            ])
            .arg(token)
            .arg(&self.wake_ups.channel)
            .arg(&self.wake_ups.done)
            .idempotent(true);
        let call = endings.iter().fold(call, |call, (key, version, ending)| {
            let (verdict, pause, text) = match ending {
                Ending::Written => ("w", Duration::ZERO, ""),
                Ending::Failed(pause) => ("o", *pause, ""),
                Ending::BatchFailed(pause) => ("s", *pause, ""),
                Ending::Untried(pause) => ("u", *pause, ""),
                Ending::Dead(text) => ("d", Duration::ZERO, &**text),
            };
            call.arg(key)
                .arg(*version)
                .arg(verdict)
                .arg(micros(pause))
                .arg(text)
        });
        Ok(self.client.eval(call).await?)
    }
}
