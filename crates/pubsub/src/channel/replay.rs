//! [`Cursors`]: how far a subscription with replay has come on each channel, and how it fills gaps from
//! the logs.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, Command, Key};
use tokio::time::{MissedTickBehavior, sleep};

use super::builder::Replay;
use super::event::{GapReason, Position};
use super::subscription::Outlet;
use super::{Address, read};
use crate::error::Error;
use crate::page_size::PageSize;
use crate::scripts::{Entries, Entry, millis};

const DAY: Duration = Duration::from_secs(86_400);

/// For how long a message that came from the log is known again, in µs, and how many are. While a slot moves, two
/// masters tell of a channel's messages, and over the bus of a cluster those of the one come after later ones of the
/// other.
const KNOWN_FOR: u64 = 60_000_000;
const MOST_KNOWN: usize = 4096;

/// How far the clocks of servers are apart at most, in µs, for a number of one of them to be taken for real by the others.
const CLOCKS_APART: u64 = 60_000_000;

/// How many entries of a log are read at once at most.
const PAGE: usize = 256;

/// Where a channel's log is.
#[derive(Clone)]
pub(super) struct LogKeys {
    pub(super) log: Key,
    /// The number of the last message.
    pub(super) last: Key,
    pub(super) replay: Replay,
}

/// A live message of a channel with replay.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The number of the message before it.
    before: u64,
    number: u64,
    message: Bytes,
}

/// `<number before> <number>\n<message>`; `None` for anything else.
pub(super) fn read_frame(payload: &Bytes) -> Option<Frame> {
    let end = payload.iter().position(|&byte| byte == b'\n')?;
    let (before, number) = std::str::from_utf8(payload.get(..end)?)
        .ok()?
        .split_once(' ')?;
    Some(Frame {
        before: before.parse().ok()?,
        number: number.parse().ok()?,
        message: payload.slice(end + 1..),
    })
}

pub(super) struct Cursors {
    client: Client,
    by_channel: HashMap<Bytes, Cursor>,
}

struct Cursor {
    channel: Bytes,
    keys: LogKeys,
    /// The number of the last message that was handed on; 0 when there was none ever.
    position: u64,
    /// What came from the log and may come once more, live.
    replayed: BTreeSet<u64>,
    /// The greatest number of a history that the server has lost, of which live messages may yet come, as
    /// over the bus of a cluster.
    lost_up_to: u64,
    /// Whether a live message came that was published after the subscription was made. Until then, those that were under way before the
    /// subscription was made may still come: subscriptions share a connection.
    has_gone_on: bool,
    page_size: PageSize,
}

impl Cursor {
    fn new(channel: Bytes, keys: LogKeys, position: u64) -> Self {
        Self {
            channel,
            keys,
            position,
            replayed: BTreeSet::new(),
            lost_up_to: 0,
            has_gone_on: false,
            page_size: PageSize::new(),
        }
    }
}

impl Cursors {
    /// From the end of each log on.
    pub(super) async fn at_the_end(client: &Client, addresses: &[Address]) -> Result<Self, Error> {
        let logs = || {
            addresses
                .iter()
                .filter_map(|address| Some((address, address.log.as_ref()?)))
        };
        let mut commands = Vec::with_capacity(addresses.len() * 2);
        for (_, keys) in logs() {
            commands.push(Command::new("GET").key(&keys.last));
            let newest = Command::new("XREVRANGE").key(&keys.log).arg("+").arg("-");
            commands.push(newest.arg("COUNT").arg(1));
        }
        let mut replies = client.pipeline(commands).await?.into_iter();
        let mut cursors = Self::of(client);
        for (address, keys) in logs() {
            let (Some(last), Some(newest)) = (replies.next(), replies.next()) else {
                break;
            };
            let last: Option<u64> = read("GET", last)?;
            let Entries(newest): Entries<Entry<2>> = read("XREVRANGE", newest)?;
            let newest = newest.first().map_or(0, |entry| entry.id.millis());
            cursors.add(address, keys, last.unwrap_or(newest));
        }
        Ok(cursors)
    }

    /// From a position on.
    pub(super) fn after(client: &Client, addresses: &[Address], position: Position) -> Self {
        let mut cursors = Self::of(client);
        for address in addresses {
            if let Some(keys) = &address.log {
                cursors.add(address, keys, position.0);
            }
        }
        cursors
    }

    /// Hands on a live message, and before it what is missing. `false` when the subscription has ended.
    pub(super) async fn receive(&mut self, channel: Bytes, frame: Frame, outlet: &Outlet) -> bool {
        let Some(cursor) = self.by_channel.get_mut(&channel) else {
            return true;
        };
        let mut pass = Pass::default();
        if frame.number <= cursor.position {
            if cursor.replayed.remove(&frame.number) {
                cursor.has_gone_on = true;
                return true;
            }
            if !cursor.has_gone_on {
                return true;
            }
            if frame.number <= cursor.lost_up_to && !cursor.has(frame.number, &self.client).await {
                // From before the loss, and late: the subscriber has gone on by the log.
                return true;
            }
            outlet.gap(GapReason::WentBack);
        } else if (frame.before != cursor.position && frame.before != 0)
            || frame.number <= cursor.lost_up_to
        {
            let client = &self.client;
            if !cursor
                .catch_up_to(frame.number, client, outlet, &mut pass)
                .await
            {
                return false;
            }
            if cursor.position >= frame.number {
                cursor.replayed.remove(&frame.number);
                cursor.has_gone_on = true;
                return !pass.took_long(outlet) || self.read_grown(outlet).await;
            }
            if frame.number <= cursor.lost_up_to {
                // The log, in which every message stands before it is told, does not know it: it is from before
                // the loss, and not later than what the subscriber has seen or was told of as missing.
                return true;
            }
            if cursor.position != frame.before {
                outlet.gap(GapReason::NotInLog);
            }
        }
        cursor.lost_up_to = 0;
        cursor.has_gone_on = true;
        cursor.position = frame.number;
        cursor.forget_replayed();
        outlet.message(channel, frame.message, Some(Position(frame.number)))
    }

    /// Hands on what all logs have beyond what was handed on: in passes, in each of which a page of each log is read in turn, so
    /// that a log that grows as fast as the subscriber reads does not hold up the others. After a pass that took long the logs that
    /// have grown meanwhile are read once more: messages that come live do not wait for the subscriber's room, and would be told
    /// as a gap though their log holds them. `false` when the subscription has ended.
    pub(super) async fn catch_up(&mut self, outlet: &Outlet) -> bool {
        let client = &self.client;
        let mut behind: Vec<&mut Cursor> = self.by_channel.values_mut().collect();
        let mut at_the_end = Vec::new();
        loop {
            let mut pass = Pass::default();
            match pass.read(behind, client, outlet).await {
                Some(read) => at_the_end.extend(read),
                None => return false,
            }
            if !pass.has_moved || !pass.took_long(outlet) {
                return true;
            }
            let grown = have_grown(&at_the_end, client).await;
            (behind, at_the_end) = separate(at_the_end, grown);
            if behind.is_empty() {
                return true;
            }
        }
    }

    /// The same in one pass over the logs that have grown, after the hole in one of them was filled. `false` when the subscription
    /// has ended.
    async fn read_grown(&mut self, outlet: &Outlet) -> bool {
        let all: Vec<&mut Cursor> = self.by_channel.values_mut().collect();
        let grown = have_grown(&all, &self.client).await;
        let (behind, _) = separate(all, grown);
        let read = Pass::default().read(behind, &self.client, outlet).await;
        read.is_some()
    }

    pub(super) fn last_numbers(&self) -> LastNumbers {
        let keys = self.by_channel.values().map(|cursor| cursor.keys.clone());
        LastNumbers {
            client: self.client.clone(),
            keys: keys.collect(),
        }
    }

    fn of(client: &Client) -> Self {
        Self {
            client: client.clone(),
            by_channel: HashMap::new(),
        }
    }

    fn add(&mut self, address: &Address, keys: &LogKeys, position: u64) {
        let channel = address.channel.to_bytes();
        let cursor = Cursor::new(channel.clone(), keys.clone(), position);
        self.by_channel.insert(channel, cursor);
    }
}

/// The last numbers of the channels of a subscription.
pub(super) struct LastNumbers {
    client: Client,
    keys: Vec<LogKeys>,
}

impl LastNumbers {
    /// Lets them live on, until this is dropped. A quiet channel's would go a day after its last message, and then nobody
    /// could tell a day without messages from lost data.
    pub(super) async fn keep(&self) {
        let ttls = self.keys.iter().map(|keys| keys.replay.last_ttl());
        let mut keeping = tokio::time::interval(ttls.fold(DAY, Duration::min) / 4);
        keeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            keeping.tick().await;
            let keep = self.keys.iter().map(|keys| {
                let keep = Command::new("PEXPIRE").key(&keys.last);
                let keep = keep.arg(millis(keys.replay.last_ttl()));
                keep.idempotent(true)
            });
            if let Err(error) = self.client.pipeline(keep.collect()).await {
                tracing::debug!(target: "redkit::pubsub", %error, "last numbers are kept later");
            }
        }
    }
}

/// A pass over the logs of several channels.
#[derive(Default)]
struct Pass {
    /// Whether a message was handed on, or told as missing.
    has_moved: bool,
    /// Whether the subscriber's room or the server was waited for, or some log had more than a page.
    has_waited: bool,
}

impl Pass {
    /// Whether more may have come live meanwhile than the subscriber has room for. Half a page is enough after a pass that waited for
    /// nothing: a quick subscriber is not kept at the logs by messages that never cease.
    fn took_long(&self, outlet: &Outlet) -> bool {
        self.has_waited || !outlet.has_room(outlet.page(PAGE).div_ceil(2))
    }

    /// Reads each log up to the message that was the last one when its first page was read, a page of each in turn. Gives the
    /// cursors whose logs can be read; `None` when the subscription has ended.
    async fn read<'c>(
        &mut self,
        behind: Vec<&'c mut Cursor>,
        client: &Client,
        outlet: &Outlet,
    ) -> Option<Vec<&'c mut Cursor>> {
        let mut read = Vec::with_capacity(behind.len());
        let first = behind.into_iter().map(|cursor| (cursor, None));
        let mut behind: Vec<(&mut Cursor, Option<u64>)> = first.collect();
        while !behind.is_empty() {
            for (cursor, end) in std::mem::take(&mut behind) {
                match cursor.step(client, outlet, self).await {
                    Step::Ended => return None,
                    // The subscriber was told, once.
                    Step::Refused => {}
                    Step::Last => read.push(cursor),
                    Step::More { last } => {
                        let end = end.unwrap_or(last);
                        match cursor.position < end {
                            true => behind.push((cursor, Some(end))),
                            false => read.push(cursor),
                        }
                    }
                }
            }
        }
        Some(read)
    }
}

/// Which of the channels have a later message than the last that was handed on, or might, all asked at once. Where the server
/// does not answer the log is read, which waits for it.
async fn have_grown(cursors: &[&mut Cursor], client: &Client) -> Vec<bool> {
    let last = |cursor: &&mut Cursor| Command::new("GET").key(&cursor.keys.last).from_master();
    let replies = match client.pipeline(cursors.iter().map(last).collect()).await {
        Ok(replies) => replies,
        Err(error) => return vec![error.is_retryable(); cursors.len()],
    };
    let grown = cursors.iter().zip(replies).map(|(cursor, reply)| {
        match read::<Option<u64>>("GET", reply) {
            Ok(last) => last.is_some_and(|last| last > cursor.position),
            Err(error) => error.is_retryable(),
        }
    });
    grown.collect()
}

/// The cursors that have grown, and the others.
fn separate(cursors: Vec<&mut Cursor>, grown: Vec<bool>) -> (Vec<&mut Cursor>, Vec<&mut Cursor>) {
    let mut separated = (Vec::new(), Vec::new());
    for (cursor, has_grown) in cursors.into_iter().zip(grown) {
        match has_grown {
            true => separated.0.push(cursor),
            false => separated.1.push(cursor),
        }
    }
    separated
}

/// What a page of a log was.
enum Step {
    /// It was full: there may be more.
    More {
        /// The number of the last message when the page was read, or the greatest number there is when the server does not
        /// know it.
        last: u64,
    },
    /// It was the last.
    Last,
    /// The server does not let it be read.
    Refused,
    /// The subscription has ended.
    Ended,
}

impl Cursor {
    /// Forgets what came from the log long ago: it comes no more. Numbers are the server's time.
    fn forget_replayed(&mut self) {
        let oldest = self.position.saturating_sub(KNOWN_FOR);
        while let Some(first) = self.replayed.first()
            && (*first < oldest || self.replayed.len() > MOST_KNOWN)
        {
            self.replayed.pop_first();
        }
    }

    /// Whether the last message of the channel was handed on. Without an answer the log is read.
    async fn is_at_the_last(&self, client: &Client) -> bool {
        let last = Command::new("GET").key(&self.keys.last).from_master();
        let last = client.call::<Option<u64>>(last).await;
        last.is_ok_and(|last| last == Some(self.position))
    }

    /// Whether a message stands in the log, or might. Every message stands there before it is told,
    /// at the master.
    async fn has(&self, number: u64, client: &Client) -> bool {
        let id = format!("{number}-0");
        let range = Command::new("XRANGE").key(&self.keys.log);
        let range = range.arg(&*id).arg(&*id).from_master();
        let found = client.call::<Entries<Entry<2>>>(range);
        found.await.map_or(true, |Entries(found)| !found.is_empty())
    }

    /// Hands on what the log has until this message, which has been told. `false` when the subscription has ended.
    async fn catch_up_to(
        &mut self,
        number: u64,
        client: &Client,
        outlet: &Outlet,
        pass: &mut Pass,
    ) -> bool {
        loop {
            match self.step(client, outlet, pass).await {
                Step::Ended => return false,
                Step::Last | Step::Refused => return true,
                Step::More { .. } if self.position >= number => return true,
                Step::More { .. } => {}
            }
        }
    }

    /// Hands on a page of the log, however long the server cannot be asked: the subscriber would
    /// only be told of a gap that is none. Nor does it hand on more than the subscriber has room for: what is dropped from
    /// the queue would not come again.
    async fn step(&mut self, client: &Client, outlet: &Outlet, pass: &mut Pass) -> Step {
        const LEAST: Duration = Duration::from_millis(50);
        const MOST: Duration = Duration::from_secs(1);
        let mut pause = LEAST;
        loop {
            let most = self.page_size.of(outlet.page(PAGE));
            if !outlet.has_room(most) {
                if self.is_at_the_last(client).await {
                    // Nothing waits there for a subscriber who is busy.
                    return Step::Last;
                }
                pass.has_waited = true;
            }
            if !outlet.room(most).await {
                return Step::Ended;
            }
            let (last, page) = match self.page(client, most).await {
                Ok(page) => page,
                Err(error) if error.is_retryable() => {
                    if error.is_maybe() {
                        self.page_size.was_lost(most);
                    }
                    tracing::debug!(target: "redkit::pubsub", %error, ?pause, "the log is read again");
                    pass.has_waited = true;
                    sleep(pause).await;
                    pause = (pause * 2).min(MOST);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(target: "redkit::pubsub", %error, "the log cannot be read");
                    outlet.gap(GapReason::NotInLog);
                    return Step::Refused;
                }
            };
            self.page_size.came();
            let after = self.position;
            let is_last = page.len() < most;
            let is_empty = page.is_empty();
            for entry in page {
                if !self.hand_on(entry, outlet) {
                    return Step::Ended;
                }
            }
            if is_empty && last != self.position {
                // The log has nothing, and the last message is another one: some were dropped.
                outlet.gap(GapReason::NotInLog);
                if last < self.position && self.may_have_been_published(client).await {
                    self.lost_up_to = self.lost_up_to.max(self.position);
                }
                self.position = last;
            }
            pass.has_moved |= self.position != after;
            pass.has_waited |= !is_last;
            return match is_last {
                true => Step::Last,
                // A number that was handed on before is none of a log that goes on behind it, nor is nought.
                false => Step::More {
                    last: if last == 0 || last < after {
                        u64::MAX
                    } else {
                        last
                    },
                },
            };
        }
    }

    /// Whether a message of the server's may have had this number. A subscriber says where it was, and may make that up:
    /// each message below would be looked for in the log.
    async fn may_have_been_published(&self, client: &Client) -> bool {
        if self.has_gone_on {
            return true;
        }
        // Without an answer it is believed: that costs readings, and the other mistake a message handed on twice.
        let time = client.call::<(u64, u64)>(Command::new("TIME").idempotent(true));
        time.await.map_or(true, |(seconds, micros)| {
            let now = seconds.saturating_mul(1_000_000).saturating_add(micros);
            self.position <= now.saturating_add(CLOCKS_APART)
        })
    }

    /// The last number, and a page of the log behind what was handed on: in this order, so that an
    /// empty page means that everything up to the last number was handed on or dropped.
    async fn page(&self, client: &Client, most: usize) -> Result<(u64, Vec<Entry<2>>), Error> {
        let after = format!("({}-0", self.position);
        let range = Command::new("XRANGE")
            .key(&self.keys.log)
            .arg(after)
            .arg("+");
        let commands = vec![
            Command::new("GET").key(&self.keys.last),
            range.arg("COUNT").arg(most),
        ];
        let mut replies = client.pipeline(commands).await?.into_iter();
        let (Some(last), Some(page)) = (replies.next(), replies.next()) else {
            return Ok((self.position, Vec::new()));
        };
        let last: Option<u64> = read("GET", last)?;
        let Entries(page) = read("XRANGE", page)?;
        Ok((last.unwrap_or_default(), page))
    }

    fn hand_on(&mut self, entry: Entry<2>, outlet: &Outlet) -> bool {
        let Entry {
            id,
            values: [before, message],
        } = entry;
        let number = id.millis();
        let before = std::str::from_utf8(&before)
            .ok()
            .and_then(|text| text.parse::<u64>().ok());
        if before != Some(self.position) {
            outlet.gap(GapReason::NotInLog);
        }
        self.position = number;
        self.replayed.insert(number);
        if self.replayed.len() > MOST_KNOWN {
            // Live messages that are not known any more come before those that are: they are passed over until then.
            self.replayed.pop_first();
            self.has_gone_on = false;
        }
        outlet.metrics.replayed.increment(1);
        outlet.message(self.channel.clone(), message, Some(Position(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_and_anything_else_is_none() {
        let frame = read_frame(&Bytes::from_static(b"7 8\n\"a\nb\"")).unwrap();
        let expected = Frame {
            before: 7,
            number: 8,
            message: Bytes::from_static(b"\"a\nb\""),
        };
        assert_eq!(frame, expected);
        for other in ["", "\n", "7\nx", "7 x\n", "\"text\"", "{\"a\":\n1 2\n}"] {
            assert_eq!(
                read_frame(&Bytes::from_static(other.as_bytes())),
                None,
                "{other}"
            );
        }
    }
}
