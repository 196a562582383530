//! [`Cursors`]: how far a subscription with replay has come on each channel, and how it fills gaps from
//! the logs.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::Backoff;
use redkit_core::{Client, Command, Key};
use tokio::time::{MissedTickBehavior, sleep};

use super::cursor::{Cursor, LogKeys, Step};
use super::event::{GapReason, Position};
use super::frame::Frame;
use super::pass::{Answer, Pass, ask};
use super::subscription::Outlet;
use super::{Address, read};
use crate::error::Error;
use crate::scripts::{Entries, Entry, millis};

const DAY: Duration = Duration::from_secs(86_400);

/// The pauses between two questions to servers that gave no answer.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
const MOST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Cursors {
    client: Client,
    by_channel: HashMap<Bytes, Cursor>,
    /// Whether a server of some log is away.
    has_away: bool,
    /// The next question to the servers of the logs that could not be read.
    asking: Option<Asking>,
    backoff: Backoff,
}

/// Gives the channels whose servers have answered.
type Asking = Pin<Box<dyn Future<Output = HashSet<Bytes>> + Send>>;

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
            commands.push(Command::new("GET").key(&keys.last).from_master());
            let newest = Command::new("XREVRANGE").key(&keys.log).arg("+").arg("-");
            commands.push(newest.arg("COUNT").arg(1).from_master());
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

    /// Hands on a live message, and before it what is missing. While the server of the log is away, the message waits there.
    /// `false` when the subscription has ended.
    pub(super) async fn receive(&mut self, channel: Bytes, frame: Frame, outlet: &Outlet) -> bool {
        let client = &self.client;
        let Some(cursor) = self.by_channel.get_mut(&channel) else {
            return true;
        };
        let mut pass = Pass::begin();
        if frame.number <= cursor.position {
            if cursor.came_from_log(frame.number) {
                return true;
            }
            if !cursor.has_gone_on || cursor.is_away {
                // When the log can be read it says of which history the message is.
                return true;
            }
            if frame.number <= cursor.lost_up_to && !cursor.has(frame.number, client).await {
                // From before the loss, and late: the subscriber has gone on by the log.
                return true;
            }
            outlet.gap(GapReason::WentBack);
        } else if cursor.is_away {
            cursor.hear(frame);
            return true;
        } else if (frame.before != cursor.position && frame.before != 0)
            || frame.number <= cursor.lost_up_to
        {
            let number = frame.number;
            match cursor.catch_up_to(number, client, outlet, &mut pass).await {
                Step::Ended => return false,
                Step::Away => {
                    cursor.hear(frame);
                    return self.read_grown(outlet).await;
                }
                Step::More { .. } | Step::Last | Step::Refused => {}
            }
            if cursor.position >= number {
                let is_long = pass.took_long(outlet) || pass.was_slow();
                return cursor.settle(frame, outlet) && (!is_long || self.read_grown(outlet).await);
            }
            if number <= cursor.lost_up_to {
                // The log, in which every message stands before it is told, does not know it: it is from before
                // the loss, and not later than what the subscriber has seen or was told of as missing.
                return true;
            }
            if cursor.position != frame.before {
                cursor.tell_gap(outlet);
            }
        }
        cursor.lost_up_to = 0;
        cursor.has_gone_on = true;
        cursor.move_to(frame.number);
        cursor.forget_replayed();
        outlet.message(channel, frame.message, Some(Position(frame.number)))
    }

    /// Hands on what all logs have beyond what was handed on: in passes, in each of which a page of each log is read in turn, so
    /// that a log that grows as fast as the subscriber reads does not hold up the others. Logs whose servers are away are read
    /// when these [answer](Self::answered). `false` when the subscription has ended.
    pub(super) async fn catch_up(&mut self, outlet: &Outlet) -> bool {
        let mut pass = Pass::begin();
        let cursors = self.by_channel.values_mut();
        let cursors = cursors.filter(|cursor| !cursor.is_away).collect();
        let separated = pass.behind(cursors, &self.client).await;
        let goes_on = pass.read_all(separated, &self.client, outlet).await;
        self.note_away();
        goes_on
    }

    /// The same in one pass over the logs that have grown, after the hole in one of them was filled or its server gave no
    /// answer. `false` when the subscription has ended.
    async fn read_grown(&mut self, outlet: &Outlet) -> bool {
        let mut pass = Pass::begin();
        let cursors = self.by_channel.values_mut();
        let cursors = cursors.filter(|cursor| !cursor.is_away).collect();
        let (behind, _) = pass.grown(cursors, &self.client).await;
        let goes_on = pass.read(behind, &self.client, outlet).await.is_some();
        self.note_away();
        goes_on
    }

    /// Asks the servers that are away again, after a pause; never ends while there is none. Gives the channels for which there
    /// was an answer. Dropping the future loses nothing: live messages of the other channels are received meanwhile.
    pub(super) async fn answered(&mut self) -> HashSet<Bytes> {
        let asking = match &mut self.asking {
            Some(asking) => asking,
            none if self.has_away => {
                let away = self.by_channel.values().filter(|cursor| cursor.is_away);
                let away = away.map(|cursor| (cursor.channel.clone(), cursor.keys.last.clone()));
                let (channels, keys): (Vec<Bytes>, Vec<Key>) = away.unzip();
                let (client, pause) = (self.client.clone(), self.backoff.next_pause());
                none.insert(Box::pin(async move {
                    sleep(pause).await;
                    let answers = ask(&client, keys.iter()).await;
                    let answers = channels.into_iter().zip(answers);
                    let answered = answers.filter(|(_, answer)| *answer != Answer::Away);
                    answered.map(|(channel, _)| channel).collect()
                }))
            }
            _ => return std::future::pending().await,
        };
        let answered = asking.await;
        self.asking = None;
        answered
    }

    /// Reads the logs whose servers have answered, also those that were at the last message then: the answer may be from
    /// before the last gap of the connection. `false` when the subscription has ended.
    pub(super) async fn go_on(&mut self, answered: HashSet<Bytes>, outlet: &Outlet) -> bool {
        if answered.is_empty() {
            return true;
        }
        let (mut behind, mut at_the_end) = (Vec::new(), Vec::new());
        for cursor in self.by_channel.values_mut() {
            if answered.contains(&cursor.channel) {
                behind.push(cursor);
            } else if !cursor.is_away {
                // A message that comes live meanwhile waits in the log, too.
                at_the_end.push(cursor);
            }
        }
        let separated = (behind, at_the_end);
        let pass = Pass::begin();
        if !pass.read_all(separated, &self.client, outlet).await {
            return false;
        }
        self.note_away();
        let channels = answered.iter();
        let mut read = channels.filter_map(|channel| self.by_channel.get(channel));
        if read.any(|cursor| !cursor.is_away) {
            self.backoff.reset();
        }
        let heard = self.by_channel.values_mut().filter_map(Cursor::take_heard);
        let heard: Vec<(Bytes, Frame)> = heard.collect();
        for (channel, frame) in heard {
            let goes_on = match self.by_channel.get_mut(&channel) {
                Some(cursor) if frame.number <= cursor.position => cursor.settle(frame, outlet),
                _ => self.receive(channel, frame, outlet).await,
            };
            if !goes_on {
                return false;
            }
        }
        true
    }

    fn note_away(&mut self) {
        self.has_away = self.by_channel.values().any(|cursor| cursor.is_away);
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
            has_away: false,
            asking: None,
            backoff: Backoff::new(LEAST_PAUSE, MOST_PAUSE),
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
