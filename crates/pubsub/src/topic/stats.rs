//! [`GroupStats`]: how a group stands, on the server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redkit_core::{CallError, Command, Value};

use super::{Topic, check_group, scripts};
use crate::channel::read;
use crate::error::Error;

/// How a group stands, over all partitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GroupStats {
    /// Messages in the streams.
    pub length: u64,
    /// Messages that wait for their time. A message whose time has come is part of the lag, also before a worker or a reader has
    /// moved it into its stream; where the lag is not known, it stays here until then.
    pub delayed: u64,
    /// Messages that were not delivered to the group yet; `None` when the server does not know, after
    /// entries were deleted, and for a group that is not there.
    pub lag: Option<u64>,
    /// Messages that were delivered and are not acknowledged: in flight, or waiting for a retry.
    pub pending: u64,
    /// Messages in the hands of consumers.
    pub in_flight: u64,
    /// Messages that wait for a retry.
    pub retries: u64,
    /// Dead letters.
    pub dead: u64,
    /// The age of the oldest message that is pending, since it was published.
    pub oldest_pending: Option<Duration>,
    /// The age of the oldest message that was not delivered to the group yet: since it was published, or of a delayed message
    /// since it was due, and since a worker or a reader has moved it into its stream once that is done.
    pub oldest_undelivered: Option<Duration>,
    /// Workers that gave a sign of life within a lease (30 s, or of an ordered group within their own), the most of any
    /// partition.
    pub live_workers: u64,
    /// Whether the group is paused.
    pub is_paused: bool,
}

impl<T> Topic<T> {
    /// How a group stands.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked; [`Error::Invalid`] for a name that cannot be a group.
    pub async fn stats(&self, group: &str) -> Result<GroupStats, Error> {
        const LEASE: Duration = Duration::from_secs(30);
        check_group(group)?;
        let inner = &self.inner;
        let members = inner.partitions.first().map(|first| first.members(group));
        let calls = inner.partitions.iter().enumerate();
        let calls = calls.map(|(index, partition)| {
            let members = members.as_ref().filter(|_| index == 0);
            scripts::stats(partition, members, group, LEASE)
        });
        let mut stats = GroupStats {
            lag: Some(0),
            ..GroupStats::default()
        };
        let mut due = 0;
        for reply in inner.client.eval_all(calls).await? {
            let numbers: Vec<i64> = read("EVALSHA", reply)?;
            let Ok(numbers) = <[i64; 12]>::try_from(numbers) else {
                let wrong = Ok(Value::Nil);
                read::<Vec<i64>>("EVALSHA", wrong)?;
                continue;
            };
            due += stats.add(numbers);
        }
        match &mut stats.lag {
            Some(lag) => *lag += due,
            None => stats.delayed += due,
        }
        Ok(stats)
    }
}

impl<T> Topic<T> {
    /// The groups that the topic has on the server, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked.
    pub async fn groups(&self) -> Result<Vec<String>, Error> {
        let mut groups = BTreeSet::new();
        for partition in &self.inner.partitions {
            let ask = Command::new("XINFO").arg("GROUPS").key(&partition.stream);
            let rows: Vec<Value> = match self.inner.client.call(ask).await {
                // A partition to which nothing was published.
                Err(error) if is_no_such_key(&error) => continue,
                rows => rows?,
            };
            for row in rows {
                let mut fields: BTreeMap<String, Value> = read("XINFO", Ok(row))?;
                let name = fields.remove("name").unwrap_or_default();
                groups.insert(read::<String>("XINFO", Ok(name))?);
            }
        }
        Ok(groups.into_iter().collect())
    }
}

fn is_no_such_key(error: &redkit_core::Error) -> bool {
    let reply = error.call_error().and_then(CallError::server_error);
    reply.is_some_and(|reply| reply.message().contains("no such key"))
}

impl GroupStats {
    /// Adds a partition, and gives how many of its delayed messages are due.
    fn add(&mut self, numbers: [i64; 12]) -> u64 {
        let [
            length,
            delayed,
            dead,
            retries,
            paused,
            lag,
            pending,
            age,
            held,
            live,
            undelivered,
            due,
        ] = numbers.map(|number| u64::try_from(number).ok());
        let count = Option::unwrap_or_default;
        self.length += count(length);
        self.delayed += count(delayed);
        self.dead += count(dead);
        self.retries += count(retries);
        self.is_paused |= paused == Some(1);
        self.lag = self.lag.zip(lag).map(|(sum, lag)| sum + lag);
        self.pending += count(pending);
        self.in_flight += count(held);
        self.live_workers = self.live_workers.max(count(live));
        let undelivered = undelivered.map(Duration::from_millis);
        self.oldest_undelivered = self.oldest_undelivered.max(undelivered);
        if count(pending) > 0 {
            let age = age.map(Duration::from_millis);
            self.oldest_pending = self.oldest_pending.max(age);
        }
        count(due)
    }
}
