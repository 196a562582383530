//! The scripts of topics, and one typed call for each. `src/scripts/topic_*.lua` says what each does.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{Token, lua};
use redkit_core::{
    Client, Command, Error, FromValue, Invocation, Key, Request, Script, Value, ValueError,
};

use super::builder::Retention;
use super::entry::{HandledEntry, RawEntry};
use super::keys::{GroupKeys, Partition};
use crate::inbox::ItemId;
use crate::scripts::{micros, millis};

pub(super) const ENTRY: &str = include_str!("../scripts/topic_entry.lua");
pub(super) const FINISH: &str = include_str!("../scripts/topic_finish.lua");

const FLOOR: &str = include_str!("../scripts/topic_floor.lua");
pub(super) const DELAYED: &str = include_str!("../scripts/topic_delayed.lua");
pub(super) const BURY_TEXT: &str = include_str!("../scripts/topic_bury.lua");
pub(super) const ACK_FAST: &str = include_str!("../scripts/topic_ack_fast.lua");
pub(super) const ACK_TEXT: &str = include_str!("../scripts/topic_ack.lua");

static PUBLISH: Script = Script::of_parts(&[
    include_str!("../scripts/topic_publish_fast.lua"),
    lua::CLOCK,
    lua::WAKE_UP,
    ENTRY,
    include_str!("../scripts/topic_publish.lua"),
]);
static GROUP: Script = Script::new(include_str!("../scripts/topic_group.lua"));
static TICK: Script = Script::of_parts(&[
    lua::CLOCK,
    ENTRY,
    DELAYED,
    include_str!("../scripts/topic_tick.lua"),
]);
static ACK: Script = Script::of_parts(&[ACK_FAST, ENTRY, FINISH, ACK_TEXT]);
#[cfg(feature = "schedule")]
static SCHEDULE_LOOK: Script = Script::of_parts(&[
    lua::CLOCK,
    include_str!("../scripts/topic_schedule_look.lua"),
]);
#[cfg(feature = "schedule")]
static SCHEDULE: Script = Script::of_parts(&[
    lua::CLOCK,
    lua::WAKE_UP,
    ENTRY,
    include_str!("../scripts/topic_schedule.lua"),
]);
static RELEASE: Script =
    Script::of_parts(&[lua::CLOCK, include_str!("../scripts/topic_release.lua")]);
static NOW: Script = Script::of_parts(&[lua::CLOCK, include_str!("../scripts/topic_now.lua")]);
static HEARTBEAT: Script =
    Script::of_parts(&[lua::CLOCK, include_str!("../scripts/topic_heartbeat.lua")]);
static BURY: Script = Script::of_parts(&[lua::CLOCK, ENTRY, FINISH, BURY_TEXT]);
static REDRIVE: Script = Script::of_parts(&[ENTRY, include_str!("../scripts/topic_redrive.lua")]);
static TRIM: Script = Script::of_parts(&[
    lua::CLOCK,
    ENTRY,
    FINISH,
    FLOOR,
    include_str!("../scripts/topic_trim.lua"),
]);
static SWEEP: Script = Script::of_parts(&[
    ENTRY,
    FINISH,
    FLOOR,
    include_str!("../scripts/topic_sweep.lua"),
]);
static SWEPT: Script =
    Script::of_parts(&[ENTRY, FINISH, include_str!("../scripts/topic_swept.lua")]);
static DELETE_GROUP: Script = Script::new(include_str!("../scripts/topic_delete_group.lua"));
static STATS: Script = Script::of_parts(&[
    lua::CLOCK,
    ENTRY,
    include_str!("../scripts/topic_stats.lua"),
]);
static LEAVE: Script = Script::new(include_str!("../scripts/topic_leave.lua"));

/// How many entries one script acknowledges at most.
pub(crate) const MOST_ACKNOWLEDGED: usize = 100;

/// The consumer that owns the entries which wait for a retry. No consumer's own name: those are UUIDs.
pub(crate) const WAITING: &str = "~waiting";

pub(crate) struct Publish<'a> {
    pub(crate) mode: &'static str,
    pub(crate) record_ttl: Duration,
    pub(crate) due: String,
    pub(crate) id: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) headers: Bytes,
    pub(crate) payload: Bytes,
    /// The channel of wake-ups.
    pub(crate) wake: Option<Bytes>,
}

/// Replies with the entry and the outcome's name.
pub(crate) fn publish(to: &Partition, message: Publish<'_>) -> Invocation {
    let record = to.record(message.id.as_bytes());
    PUBLISH
        .invoke([&to.stream, &to.delayed, &to.bodies, &record])
        .arg(message.mode)
        .arg(millis(message.record_ttl))
        .arg(message.due)
        .arg(message.id)
        .arg(message.key)
        .arg(message.headers)
        .arg(message.payload)
        .arg(message.wake.unwrap_or_default())
        .arg(to.number)
}

/// Whether a call made a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was there.
    No,
    New,
    /// It had been there before, and the server had lost it.
    Anew,
    /// The server has lost it, and it was left so.
    LeftLost,
}

/// A group that is to be there.
pub(crate) struct GroupToMake<'a> {
    pub(crate) group: &'a str,
    /// Where it begins when it is new.
    pub(crate) begin: &'a str,
    pub(crate) mode: &'a str,
    /// The same in all repetitions of a call.
    pub(crate) token: Token,
    /// One that the server has lost is left as it is, for a worker to make anew.
    pub(crate) leaves_lost: bool,
}

/// Replies with a [`MadeGroup`].
pub(crate) fn group(partition: &Partition, to_make: &GroupToMake<'_>) -> Invocation {
    let call = GROUP.invoke([&partition.stream, &partition.state]);
    call.arg(to_make.group)
        .arg(to_make.begin)
        .arg(to_make.mode)
        .arg(to_make.token)
        .arg(u8::from(to_make.leaves_lost))
        .idempotent(true)
}

/// What became of a [`GroupToMake`].
pub(crate) struct MadeGroup {
    pub(crate) made: Made,
    pub(crate) mode: String,
}

impl FromValue for MadeGroup {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        let (made, mode): (u64, String) = value.to()?;
        let made = match made {
            1 => Made::New,
            2 => Made::Anew,
            3 => Made::LeftLost,
            _ => Made::No,
        };
        Ok(Self { made, mode })
    }
}

/// What a consumer's tick gave.
#[derive(Debug)]
pub(crate) enum Tick {
    /// There is no such group.
    NoGroup,
    Done {
        is_paused: bool,
        /// When the next message or retry is due.
        next_due: Option<Duration>,
        taken: Vec<RawEntry>,
    },
}

impl FromValue for Tick {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        let (state, next_due, taken): (i64, i64, Value) = value.to()?;
        if state < 0 {
            return Ok(Tick::NoGroup);
        }
        let crate::scripts::Entries(taken) = taken.to()?;
        Ok(Tick::Done {
            is_paused: state == 1,
            next_due: u64::try_from(next_due).ok().map(Duration::from_micros),
            taken,
        })
    }
}

/// Who consumes where.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) partition: Partition,
    pub(crate) keys: GroupKeys,
    pub(crate) group: Box<str>,
    pub(crate) consumer: Box<str>,
    pub(crate) lease: Duration,
}

impl Seat {
    /// Not repeated by the client: what a lost reply took is given back by [`heartbeat`](Self::heartbeat).
    pub(crate) async fn tick(
        &self,
        client: &Client,
        room: usize,
        looks_for_dead: bool,
    ) -> Result<Tick, Error> {
        let Partition {
            stream,
            delayed,
            bodies,
            state,
            ..
        } = &self.partition;
        let call = TICK
            .invoke([stream, delayed, bodies, state, &self.keys.retries])
            .arg(&*self.group)
            .arg(&*self.consumer)
            .arg(WAITING)
            .arg(millis(self.lease))
            .arg(room)
            .arg(u8::from(looks_for_dead));
        client.eval(call).await
    }

    /// Whether the group is paused, asked by itself.
    pub(crate) async fn is_paused(&self, client: &Client) -> Result<bool, Error> {
        let paused = Command::new("HEXISTS").key(&self.partition.state);
        let paused = paused.arg(format!("paused:{}", self.group));
        Ok(client.call::<u64>(paused).await? == 1)
    }

    /// Gives the entries that this consumer does not own any more. Entries that it owns and does not name,
    /// idle for `unknown_after`, go back to the group.
    pub(crate) async fn heartbeat(
        &self,
        client: &Client,
        known: &[ItemId],
        unknown_after: Duration,
    ) -> Result<Vec<ItemId>, Error> {
        let idle = micros(unknown_after) / 1000;
        self.keep(client, known, idle, None).await
    }

    /// The same, and gives back all that this consumer owns and does not name. While it reads on, `before` is a
    /// [`time`](Self::now) from before the call: an attempt that arrives late gives back nothing that was read since.
    pub(crate) async fn give_back_unknown(
        &self,
        client: &Client,
        known: &[ItemId],
        before: Option<u64>,
    ) -> Result<Vec<ItemId>, Error> {
        self.keep(client, known, 0, before).await
    }

    /// The server's time (ms since 1970).
    pub(crate) async fn now(&self, client: &Client) -> Result<u64, Error> {
        let call = NOW.invoke([&self.partition.stream]);
        client.eval(call.idempotent(true)).await
    }

    async fn keep(
        &self,
        client: &Client,
        known: &[ItemId],
        idle: u64,
        before: Option<u64>,
    ) -> Result<Vec<ItemId>, Error> {
        let call = HEARTBEAT
            .invoke([&self.partition.stream, &self.keys.retries])
            .arg(&*self.group)
            .arg(&*self.consumer)
            .arg(WAITING)
            .arg(idle)
            .arg(before.map_or_else(String::new, |before| before.to_string()));
        let call = known.iter().fold(call, |call, id| call.arg(id.to_string()));
        let lost: Option<Vec<String>> = client.eval(call.idempotent(true)).await?;
        Ok(lost
            .unwrap_or_default()
            .iter()
            .filter_map(|id| id.parse().ok())
            .collect())
    }

    /// Gives entries back, with how many deliveries they have had: the last one was no attempt. To be sent
    /// once: this consumer may take an entry again, of which a repetition would find the same.
    pub(crate) fn release_once(
        &self,
        entries: impl IntoIterator<Item = (ItemId, u32)>,
    ) -> Invocation {
        let entries = entries.into_iter();
        let entries = entries.map(|(id, deliveries)| {
            let count = deliveries.saturating_sub(1);
            (id, deliveries, count, Duration::ZERO)
        });
        self.release(entries).idempotent(false)
    }

    /// Each entry with how many deliveries it has had, how many of them count, and after which time it is due.
    pub(crate) fn release(
        &self,
        entries: impl IntoIterator<Item = (ItemId, u32, u32, Duration)>,
    ) -> Invocation {
        let call = RELEASE
            .invoke([&self.partition.stream, &self.keys.retries])
            .arg(&*self.group)
            .arg(&*self.consumer)
            .arg(WAITING);
        let call = entries
            .into_iter()
            .fold(call, |call, (id, deliveries, count, after)| {
                let call = call.arg(id.to_string()).arg(deliveries);
                call.arg(count).arg(micros(after))
            });
        // It changes nothing for an entry that the consumer does not own any more, or was delivered again.
        call.idempotent(true)
    }

    /// Acknowledges entries, [`MOST_ACKNOWLEDGED`] at most. Replies with how many were pending.
    pub(crate) fn ack(&self, entries: &[&HandledEntry], retention: Retention) -> Request {
        match retention {
            Retention::Queue => self.ack_by(&ACK, entries, retention, None).into(),
            Retention::Log { .. } => {
                let ack = Command::new("XACK").key(&self.partition.stream);
                let ack = ack.arg(&*self.group);
                let entries = entries.iter().map(|entry| entry.entry.to_string());
                ack.args(entries).idempotent(true).into()
            }
        }
    }

    pub(super) fn ack_by(
        &self,
        script: &'static Script,
        entries: &[&HandledEntry],
        retention: Retention,
        owner: Option<(&Key, Token)>,
    ) -> Invocation {
        let recorded = || {
            let with_record = entries.iter().filter(|entry| entry.record.is_some());
            with_record.filter_map(|entry| Some((entry, entry.record.as_ref()?)))
        };
        let without_record = entries.iter().filter(|entry| entry.record.is_none());
        let mut without_record: Vec<_> = without_record.collect();
        without_record.sort_unstable_by_key(|entry| entry.entry);
        let records = recorded().map(|(_, record)| self.partition.record(&record.id));
        let mut keys = vec![self.partition.stream.clone()];
        keys.extend(records);
        let count = keys.len() - 1;
        keys.extend(owner.map(|(key, _)| key.clone()));
        let call = script
            .invoke(keys)
            .arg(&*self.group)
            .arg(retention.as_str())
            .arg(entries.len())
            .arg(count);
        let ordered = recorded().map(|(entry, _)| entry).chain(without_record);
        let call = ordered.fold(call, |call, entry| call.arg(entry.entry.to_string()));
        let call = recorded().fold(call, |call, (_, record)| call.arg(&record.recorded));
        let call = match owner {
            Some((_, token)) => call.arg(token),
            None => call,
        };
        call.idempotent(true)
    }

    pub(crate) fn bury(&self, entry: &RawEntry, letter: &Burial<'_>) -> Invocation {
        let record = self.partition.record(&entry.id);
        let call = BURY.invoke([&self.partition.stream, &self.keys.dead, &record]);
        self.bury_args(call, entry, letter)
    }

    pub(super) fn bury_args(
        &self,
        call: Invocation,
        entry: &RawEntry,
        letter: &Burial<'_>,
    ) -> Invocation {
        call.arg(&*self.group)
            .arg(&*self.consumer)
            .arg(entry.entry.to_string())
            .arg(&entry.recorded)
            .arg(letter.retention)
            .arg(entry.deliveries)
            .arg(letter.reason)
            .arg(letter.most)
            .arg(millis(letter.keep))
            .idempotent(true)
    }

    pub(crate) fn leave(&self) -> Invocation {
        LEAVE
            .invoke([&self.partition.stream])
            .arg(&*self.group)
            .arg(&*self.consumer)
            .idempotent(true)
    }
}

/// How a dead letter is kept.
pub(crate) struct Burial<'a> {
    pub(crate) retention: &'static str,
    pub(crate) reason: &'a str,
    pub(crate) most: u32,
    pub(crate) keep: Duration,
}

pub(crate) async fn redrive(
    client: &Client,
    stream: &Key,
    dead: &Key,
    group: &str,
    most: u32,
    only: Option<ItemId>,
) -> Result<u64, Error> {
    let call = REDRIVE.invoke([stream, dead]).arg(group).arg(most);
    let only = only.map_or_else(String::new, |id| id.to_string());
    client.eval(call.arg(only)).await
}

/// How many entries one script removes.
const MOST_TRIMMED: u32 = 500;
/// How many bytes of entries one script reads.
pub(super) const MOST_READ: u32 = 256 * 1024;

pub(crate) async fn trim(
    client: &Client,
    stream: &Key,
    keep: Option<Duration>,
    most: Option<u64>,
) -> Result<bool, Error> {
    let call = TRIM
        .invoke([stream])
        .arg(keep.map_or(-1, |keep| i64::try_from(millis(keep)).unwrap_or(-1)))
        .arg(most.map_or(-1, |most| i64::try_from(most).unwrap_or(-1)))
        .arg(MOST_TRIMMED)
        .arg(MOST_READ);
    Ok(client.eval::<u64>(call.idempotent(true)).await? == 1)
}

/// Deletes the oldest entries of a queue that every group has acknowledged, as after the end of a group.
/// Gives whether there may be more.
pub(crate) async fn sweep(client: &Client, partition: &Partition) -> Result<bool, Error> {
    let call = SWEEP.invoke([&partition.stream]);
    let call = call.arg(MOST_TRIMMED).arg(MOST_READ).idempotent(true);
    let (more, recorded): (u64, Vec<(String, Bytes)>) = client.eval(call).await?;
    let swept = recorded.into_iter().map(|(entry, id)| {
        let call = SWEPT.invoke([&partition.stream, &partition.record(&id)]);
        call.arg(entry).idempotent(true)
    });
    for reply in client.eval_all(swept).await? {
        reply.map_err(|error| Error::Call {
            command: "EVALSHA".into(),
            error,
        })?;
    }
    Ok(more == 1)
}

/// Replies with 1 when there was such a group.
pub(crate) fn delete_group(partition: &Partition, group: &str) -> Invocation {
    let keys = partition.group(group);
    let call = DELETE_GROUP.invoke([
        &partition.stream,
        &partition.state,
        &keys.retries,
        &keys.dead,
        &keys.owner,
    ]);
    call.arg(group)
}

/// Replies with twelve numbers: see the script. `members` are given with the first partition.
pub(crate) fn stats(
    partition: &Partition,
    members: Option<&Key>,
    group: &str,
    lease: Duration,
) -> Invocation {
    let keys = partition.group(group);
    let mut named = vec![
        partition.stream.clone(),
        partition.delayed.clone(),
        partition.state.clone(),
        keys.retries,
        keys.dead,
    ];
    named.extend(members.cloned());
    STATS
        .invoke(named)
        .arg(group)
        .arg(WAITING)
        .arg(millis(lease))
        .idempotent(true)
}

/// Replies with the server's time and the last tick.
#[cfg(feature = "schedule")]
pub(crate) fn schedule_look(partition: &Partition, name: &str) -> Invocation {
    let call = SCHEDULE_LOOK.invoke([&partition.state]).arg(name);
    call.idempotent(true)
}

/// Replies with 1 when the tick was published.
#[cfg(feature = "schedule")]
pub(crate) fn schedule(
    to: &Partition,
    name: &str,
    tick: i64,
    id: &str,
    payload: Bytes,
    wake: Option<Bytes>,
) -> Invocation {
    SCHEDULE
        .invoke([&to.stream, &to.delayed, &to.bodies, &to.state])
        .arg(name)
        .arg(tick)
        .arg(id)
        .arg("")
        .arg("{}")
        .arg(payload)
        .arg(wake.unwrap_or_default())
        .arg(to.number)
        .idempotent(true)
}
