//! [`Pass`]: a reading of the logs of several channels, a page of each in turn.

use std::collections::VecDeque;
use std::time::Duration;

use redkit_core::{Client, Command, Key};
use tokio::time::Instant;

use super::cursor::{Cursor, PAGE, Step};
use super::read;
use super::subscription::Outlet;

/// A pass that takes longer is slow, though the subscriber is not: there are many channels, or the servers are far.
const LONG: Duration = Duration::from_millis(100);

/// A cursor whose log is read, and up to which number; that is known once the first page was read.
type Reading<'c> = (&'c mut Cursor, Option<u64>);

/// A pass over the logs of several channels.
pub(super) struct Pass {
    began: Instant,
    /// Whether a message was handed on, or told as missing.
    pub(super) has_moved: bool,
    /// Whether the subscriber's room or the server was waited for, or some log had more than a page.
    pub(super) has_waited: bool,
    /// Whether the server of some log gave no answer.
    pub(super) was_unanswered: bool,
}

impl Pass {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            has_moved: false,
            has_waited: false,
            was_unanswered: false,
        }
    }

    /// Whether more may have come live meanwhile than the subscriber has room for. Half a page is enough after a pass that waited for
    /// nothing: a quick subscriber is not kept at the logs by messages that never cease.
    pub(super) fn took_long(&self, outlet: &Outlet) -> bool {
        self.has_waited || !outlet.has_room(outlet.page(PAGE).div_ceil(2))
    }

    /// Whether more may have come live meanwhile because there are many logs, or their servers are far.
    pub(super) fn was_slow(&self) -> bool {
        self.began.elapsed() > LONG
    }

    /// Reads each log up to the message that was the last one when its first page was read, a page of each in turn. Gives the
    /// cursors whose logs can be read; `None` when the subscription has ended.
    pub(super) async fn read<'c>(
        &mut self,
        behind: Vec<&'c mut Cursor>,
        client: &Client,
        outlet: &Outlet,
    ) -> Option<Vec<&'c mut Cursor>> {
        let mut read = Vec::with_capacity(behind.len());
        let first = behind.into_iter().map(|cursor| (cursor, None));
        let mut behind: VecDeque<Reading<'_>> = first.collect();
        while !behind.is_empty() {
            let mut round = std::mem::take(&mut behind);
            while let Some((cursor, end)) = round.pop_front() {
                match cursor.step(client, outlet, self).await {
                    Step::Ended => return None,
                    // The subscriber was told, once.
                    Step::Refused => {}
                    Step::Away => round = answering(round, client).await,
                    Step::Last => read.push(cursor),
                    Step::More { last } => {
                        let end = end.unwrap_or(last);
                        match cursor.position < end {
                            true => behind.push_back((cursor, Some(end))),
                            false => read.push(cursor),
                        }
                    }
                }
            }
        }
        Some(read)
    }

    /// Hands on what the logs of the first cursors have. After a pass that took long the logs of all of them that have grown
    /// meanwhile are read once more: messages that come live do not wait for the subscriber's room, and would be told as a gap
    /// though their log holds them. `false` when the subscription has ended.
    pub(super) async fn read_all<'c>(
        mut self,
        (mut behind, mut at_the_end): (Vec<&'c mut Cursor>, Vec<&'c mut Cursor>),
        client: &Client,
        outlet: &Outlet,
    ) -> bool {
        // Each pass may be slow: for that alone it is repeated once.
        let mut was_slow = false;
        loop {
            match self.read(behind, client, outlet).await {
                Some(read) => at_the_end.extend(read),
                None => return false,
            }
            if !(self.has_moved || self.was_unanswered) {
                return true;
            }
            let is_enough = !self.was_slow() || std::mem::replace(&mut was_slow, true);
            if !self.took_long(outlet) && is_enough {
                return true;
            }
            self = Self::begin();
            (behind, at_the_end) = self.grown(at_the_end, client).await;
            if behind.is_empty() && !self.was_unanswered {
                return true;
            }
        }
    }

    /// The cursors whose channels have a later message than the last that was handed on, and the others.
    pub(super) async fn grown<'c>(
        &mut self,
        cursors: Vec<&'c mut Cursor>,
        client: &Client,
    ) -> (Vec<&'c mut Cursor>, Vec<&'c mut Cursor>) {
        let answers = ask(client, cursors.iter().map(|cursor| &cursor.keys.last)).await;
        let has_grown = |answer, position| matches!(answer, Answer::Last(last) if last > position);
        self.separate(cursors.into_iter().zip(answers), has_grown)
    }

    /// The cursors whose logs are to be read, and those that are at the last message of their channel.
    pub(super) async fn behind<'c>(
        &mut self,
        cursors: Vec<&'c mut Cursor>,
        client: &Client,
    ) -> (Vec<&'c mut Cursor>, Vec<&'c mut Cursor>) {
        if cursors.len() == 1 {
            return (cursors, Vec::new());
        }
        let answers = ask(client, cursors.iter().map(|cursor| &cursor.keys.last)).await;
        let differs = |answer, position| answer != Answer::Last(position);
        self.separate(cursors.into_iter().zip(answers), differs)
    }

    /// Where there is no answer the cursor waits for the server, and is none of both.
    fn separate<'c>(
        &mut self,
        answered: impl Iterator<Item = (&'c mut Cursor, Answer)>,
        is_to_be_read: impl Fn(Answer, u64) -> bool,
    ) -> (Vec<&'c mut Cursor>, Vec<&'c mut Cursor>) {
        let (mut behind, mut at_the_end) = (Vec::new(), Vec::new());
        for (cursor, answer) in answered {
            if answer == Answer::Away {
                cursor.is_away = true;
                self.has_waited = true;
                self.was_unanswered = true;
            } else if is_to_be_read(answer, cursor.position) {
                behind.push(cursor);
            } else {
                cursor.is_away = false;
                at_the_end.push(cursor);
            }
        }
        (behind, at_the_end)
    }
}

/// The answer of the server that is asked for the last message of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its number; 0 when the server knows of none.
    Last(u64),
    /// The server does not let it be read.
    Refused,
    /// The server cannot be asked now.
    Away,
}

/// Asks for the last numbers of several channels at once. On a cluster a server that does not answer keeps no other one's
/// answers.
pub(super) async fn ask(client: &Client, keys: impl Iterator<Item = &Key>) -> Vec<Answer> {
    let commands: Vec<Command> = keys
        .map(|key| Command::new("GET").key(key).from_master())
        .collect();
    if commands.is_empty() {
        return Vec::new();
    }
    let refused = |error: &crate::Error| match error.is_retryable() || error.is_shut_down() {
        true => Answer::Away,
        false => Answer::Refused,
    };
    let count = commands.len();
    match client.pipeline(commands).await {
        Ok(replies) => {
            let replies = replies.into_iter();
            let answers = replies.map(|reply| match read::<Option<u64>>("GET", reply) {
                Ok(last) => Answer::Last(last.unwrap_or_default()),
                Err(error) => refused(&error),
            });
            answers.collect()
        }
        Err(error) => vec![refused(&error.into()); count],
    }
}

/// A server has given no answer: of the cursors that are still to be read those whose servers do. They are asked at once: each
/// log of a server that has just died would cost a timeout.
async fn answering<'c>(cursors: VecDeque<Reading<'c>>, client: &Client) -> VecDeque<Reading<'c>> {
    let last_numbers = cursors.iter().map(|(cursor, _)| &cursor.keys.last);
    let answers = ask(client, last_numbers).await;
    let mut answering = VecDeque::with_capacity(cursors.len());
    for ((cursor, end), answer) in cursors.into_iter().zip(answers) {
        match answer {
            Answer::Away => cursor.is_away = true,
            Answer::Last(_) | Answer::Refused => answering.push_back((cursor, end)),
        }
    }
    answering
}
