//! [`Cursor`]: how far a subscription with replay has come on one channel, and how it reads a page of its log.

use std::collections::BTreeSet;

use bytes::Bytes;
use redkit_core::{Client, Command, Key};

use super::builder::Replay;
use super::event::{GapReason, Position};
use super::frame::Frame;
use super::pass::Pass;
use super::read;
use super::subscription::{Outlet, Room};
use crate::error::Error;
use crate::page_size::PageSize;
use crate::scripts::{Entries, Entry};

/// For how long a message that came from the log is known again, in µs, and how many are. While a slot moves, two
/// masters tell of a channel's messages, and over the bus of a cluster those of the one come after later ones of the
/// other.
const KNOWN_FOR: u64 = 60_000_000;
const MOST_KNOWN: usize = 4096;

/// How far the clocks of servers are apart at most, in µs, for a number of one of them to be taken for real by the others.
const CLOCKS_APART: u64 = 60_000_000;

/// How many entries of a log are read at once at most.
pub(super) const PAGE: usize = 256;

/// Where a channel's log is.
#[derive(Clone)]
pub(super) struct LogKeys {
    pub(super) log: Key,
    /// The number of the last message.
    pub(super) last: Key,
    pub(super) replay: Replay,
}

pub(super) struct Cursor {
    pub(super) channel: Bytes,
    pub(super) keys: LogKeys,
    /// The number of the last message that was handed on; 0 when there was none ever.
    pub(super) position: u64,
    /// The numbers of messages that came from the log, and may come once more, live.
    pub(super) replayed: BTreeSet<u64>,
    /// The greatest number of a history that the server has lost, of which live messages may yet come, as
    /// over the bus of a cluster.
    pub(super) lost_up_to: u64,
    /// Whether a live message came that was published after the subscription was made, or behind the last gap that the log told.
    /// Until then, live messages may still come that were under way before: subscriptions share a connection, and what comes
    /// while a log is read waits, also when the log is cut meanwhile and the subscriber told of a gap.
    pub(super) has_gone_on: bool,
    /// The first message behind the last place where the log was cut. Those that came from the log before may come live yet, and
    /// behind them those that are missing.
    cut_up_to: u64,
    /// Whether the log is still to be read, and its server gave no answer when it was asked last.
    pub(super) is_away: bool,
    /// The live message with the greatest number that came meanwhile. Should the server have lost it when it answers, the
    /// subscriber is told of a gap by it.
    heard: Option<Frame>,
    /// Whether the subscriber has been told of a gap behind the position.
    is_gap_told: bool,
    page_size: PageSize,
}

/// How the reading of a page of a log ended.
pub(super) enum Step {
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
    /// The server gave no answer.
    Away,
    /// The subscription has ended.
    Ended,
}

impl Cursor {
    pub(super) fn new(channel: Bytes, keys: LogKeys, position: u64) -> Self {
        Self {
            channel,
            keys,
            position,
            replayed: BTreeSet::new(),
            lost_up_to: 0,
            has_gone_on: false,
            cut_up_to: 0,
            is_away: false,
            heard: None,
            is_gap_told: false,
            page_size: PageSize::new(),
        }
    }

    /// A live message came while the log is to be read first, which has it.
    pub(super) fn hear(&mut self, frame: Frame) {
        let heard = self.heard.as_ref();
        if heard.is_none_or(|heard| heard.number < frame.number) {
            self.heard = Some(frame);
        }
    }

    /// The live message that came while the server of the log was away, when the log has been read since.
    pub(super) fn take_heard(&mut self) -> Option<(Bytes, Frame)> {
        if self.is_away {
            return None;
        }
        Some((self.channel.clone(), self.heard.take()?))
    }

    /// Hands on a message that was heard, unless it came from the log: when the log has dropped all up to it, the subscriber was
    /// told of a gap, and it is the next message. `false` when the subscription has ended.
    pub(super) fn settle(&mut self, heard: Frame, outlet: &Outlet) -> bool {
        if self.came_from_log(heard.number) || heard.number != self.position {
            return true;
        }
        self.has_gone_on = true;
        let position = Some(Position(heard.number));
        outlet.message(self.channel.clone(), heard.message, position)
    }

    /// A message was handed on, or everything up to it told as missing.
    pub(super) fn move_to(&mut self, number: u64) {
        self.position = number;
        self.is_gap_told = false;
    }

    /// The log goes on elsewhere than behind the position: the subscriber is told of a gap. Of what is missing in the log, live
    /// messages may yet come, behind which the subscriber is then.
    fn log_was_cut(&mut self, up_to: u64, outlet: &Outlet) {
        self.tell_gap(outlet);
        self.has_gone_on = false;
        self.cut_up_to = up_to;
    }

    /// Whether a live message came from the log before.
    pub(super) fn came_from_log(&mut self, number: u64) -> bool {
        let is_known = self.replayed.remove(&number);
        self.has_gone_on |= is_known && number >= self.cut_up_to;
        is_known
    }

    /// Tells the subscriber that messages behind the position are missing; once, until it moves.
    pub(super) fn tell_gap(&mut self, outlet: &Outlet) {
        if !std::mem::replace(&mut self.is_gap_told, true) {
            outlet.gap(GapReason::NotInLog);
        }
    }

    /// Forgets what came from the log long ago: it comes no more. Numbers are the server's time.
    pub(super) fn forget_replayed(&mut self) {
        let oldest = self.position.saturating_sub(KNOWN_FOR);
        while let Some(first) = self.replayed.first()
            && (*first < oldest || self.replayed.len() > MOST_KNOWN)
        {
            self.replayed.pop_first();
        }
    }

    /// Whether a message stands in the log, or might. Every message stands there before it is told,
    /// at the master.
    pub(super) async fn has(&self, number: u64, client: &Client) -> bool {
        let id = format!("{number}-0");
        let range = Command::new("XRANGE").key(&self.keys.log);
        let range = range.arg(&*id).arg(&*id).from_master();
        let found = client.call::<Entries<Entry<2>>>(range);
        found.await.map_or(true, |Entries(found)| !found.is_empty())
    }

    /// Hands on what the log has until this message, which has been told. Gives how the reading ended.
    pub(super) async fn catch_up_to(
        &mut self,
        number: u64,
        client: &Client,
        outlet: &Outlet,
        pass: &mut Pass,
    ) -> Step {
        loop {
            match self.step(client, outlet, pass).await {
                Step::More { .. } if self.position < number => {}
                step => return step,
            }
        }
    }

    /// Hands on a page of the log, and no more than the subscriber has room for: what is dropped from the queue would not come
    /// again. When the server gives no answer the cursor is away: the subscriber would only be told of a gap that is none, and
    /// the other channels do not wait for that server.
    pub(super) async fn step(&mut self, client: &Client, outlet: &Outlet, pass: &mut Pass) -> Step {
        let most = self.page_size.of(outlet.page(PAGE));
        if !outlet.has_room(most)
            && let Some(end) = self.wait_for_room(most, client, outlet, pass).await
        {
            return end;
        }
        let (last, page) = match self.page(client, most).await {
            Ok(page) => page,
            Err(error) => {
                if error.is_maybe() {
                    self.page_size.was_lost(most);
                }
                return self.failed(&error, outlet, pass);
            }
        };
        self.page_size.came();
        self.is_away = false;
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
            if last > self.position {
                self.log_was_cut(last, outlet);
            } else {
                self.tell_gap(outlet);
                self.cut_up_to = 0;
                if self.may_have_been_published(client).await {
                    self.lost_up_to = self.lost_up_to.max(self.position);
                }
            }
            self.move_to(last);
        }
        pass.has_moved |= self.position != after;
        pass.has_waited |= !is_last;
        match is_last {
            true => Step::Last,
            // A number that was handed on before is none of a log that goes on behind it, nor is nought.
            false => Step::More {
                last: if last == 0 || last < after {
                    u64::MAX
                } else {
                    last
                },
            },
        }
    }

    /// Waits until a subscriber who is busy has room for so many messages. Those of the log wait there meanwhile, and none is
    /// dropped. Gives how the step ends when no page is to be read.
    async fn wait_for_room(
        &mut self,
        most: usize,
        client: &Client,
        outlet: &Outlet,
        pass: &mut Pass,
    ) -> Option<Step> {
        let mut room = Room::Later;
        loop {
            match self.last(client).await {
                // Nothing waits there for the subscriber.
                Ok(last) if last == self.position => {
                    self.is_away = false;
                    return Some(Step::Last);
                }
                Ok(last) if room == Room::NothingRead => {
                    if last < self.position {
                        // The server has lost what was handed on.
                        self.tell_gap(outlet);
                    }
                    if outlet.disconnect() {
                        return Some(Step::Ended);
                    }
                }
                Ok(_) => {}
                Err(error) => return Some(self.failed(&error, outlet, pass)),
            }
            pass.has_waited = true;
            room = outlet.room(most).await;
            if room == Room::Given {
                return None;
            }
        }
    }

    /// The log could not be read.
    fn failed(&mut self, error: &Error, outlet: &Outlet, pass: &mut Pass) -> Step {
        self.is_away = error.is_retryable() || error.is_shut_down();
        if self.is_away {
            tracing::debug!(target: "redkit::pubsub", %error, "the log is read again");
            pass.has_waited = true;
            pass.was_unanswered = true;
            return Step::Away;
        }
        tracing::warn!(target: "redkit::pubsub", %error, "the log cannot be read");
        self.tell_gap(outlet);
        Step::Refused
    }

    /// The number of the last message of the channel; 0 when the server knows of none.
    async fn last(&self, client: &Client) -> Result<u64, Error> {
        let last = Command::new("GET").key(&self.keys.last).from_master();
        let last = client.call::<Option<u64>>(last).await?;
        Ok(last.unwrap_or_default())
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
            Command::new("GET").key(&self.keys.last).from_master(),
            range.arg("COUNT").arg(most).from_master(),
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
            self.log_was_cut(number, outlet);
        }
        self.move_to(number);
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
