//! [`Watch`]: listens to the changes that all processes announce, and makes sure that none is
//! missed.
//!
//! Every change has a number, one more than the one before, given by Redis with the change or right
//! after it. A number that is not the next one, a subscription that was interrupted or too slow:
//! everything is thrown away. What is missed *last* shows in no later number, so the watch also
//! asks Redis for the last number, several times within the bound, and the local cache is trusted only
//! for the bound after the last time that it agreed.
//!
//! A level that is tracked also listens to what the servers tell of its keys, whoever changes them,
//! and is trusted only while they do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use redkit_core::{Client, Error as CoreError, GapReason, Interest, Push, PushStream, Value};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::log::{Continuity, Progress};
use crate::id::Id;
use crate::scripts::{self, LogPosition};

/// Between two attempts to subscribe.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Watch<V> {
    pub(super) client: Client,
    pub(super) shared: Arc<Shared<V>>,
    /// The time to live of the hash with the invalidation log.
    pub(super) meta_ms: u64,
    pub(super) is_tracked: bool,
}

/// The subscriptions of a local cache.
struct Subscriptions {
    changes: PushStream,
    keys: Option<PushStream>,
    /// Which of the two is looked at first.
    keys_are_next: bool,
}

/// A message or a gap of one of the subscriptions.
enum Event {
    Change(Push),
    Keys(Push),
}

/// The facts that hold while both subscriptions last.
struct State {
    progress: Progress,
    /// Whether the servers tell of changed keys; always, where that is not wanted.
    is_told: bool,
}

impl<V: Send + Sync + 'static> Watch<V> {
    pub(super) async fn run(self) {
        let mut was_said = false;
        loop {
            match self.subscribe().await {
                Ok(mut subscriptions) => {
                    was_said = false;
                    self.listen(&mut subscriptions).await;
                    // The client was shut down, or a right was taken away.
                    self.shared.distrust();
                    self.shared.clear();
                }
                Err(error) => {
                    // Once: it may go on for as long as the server is down.
                    if !std::mem::replace(&mut was_said, true) {
                        tracing::warn!(target: "redkit::cache", %error, "cannot hear of changes; keeping nothing in the process");
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn subscribe(&self) -> Result<Subscriptions, CoreError> {
        let names = &self.shared.names;
        let keys = match self.is_tracked {
            true => {
                let prefixes = names.tracked();
                let interest = Interest::Invalidations { prefixes };
                Some(self.client.subscribe(interest).await?)
            }
            false => None,
        };
        let interest = Interest::Channels(vec![names.changes.clone()]);
        Ok(Subscriptions {
            changes: self.client.subscribe(interest).await?,
            keys,
            keys_are_next: false,
        })
    }

    async fn listen(&self, subscriptions: &mut Subscriptions) {
        let pause = self.shared.bound / 4;
        let mut state = State {
            progress: Progress::default(),
            is_told: true,
        };
        let mut next_check = Instant::now();
        let mut asking: Option<Asking<'_>> = None;
        // The values kept until now were kept without a subscription.
        self.shared.clear();
        loop {
            let (question, answer) = tokio::select! {
                // The events last: no number of them keeps Redis from being asked.
                biased;
                () = sleep_until(next_check), if asking.is_none() => {
                    let answer = Box::pin(timeout(pause, self.ask()));
                    asking = Some(Asking { at: Instant::now(), progress: state.progress, answer });
                    continue;
                }
                answered = Asking::answered(&mut asking) => answered,
                event = subscriptions.next() => {
                    let Some(event) = event else { return };
                    if self.take(event, &mut state) {
                        // An answer from before proves nothing of the time after.
                        asking = None;
                        next_check = Instant::now();
                    }
                    continue;
                }
            };
            asking = None;
            next_check = question.at + pause;
            let Some(last) = answer else {
                // Not answered: the trust runs out by itself.
                continue;
            };
            if self
                .agrees(subscriptions, &mut state, &question.progress, last)
                .await
            {
                if state.is_told {
                    self.shared.trust(question.at);
                }
            } else {
                // Readings from here on come after the change of the last number.
                self.shared.clear();
                state.progress = state.progress.begin_at(&question.progress, last);
                next_check = Instant::now();
            }
        }
    }

    /// Whether all changes up to the last were heard; waits a little for those under way.
    async fn agrees(
        &self,
        subscriptions: &mut Subscriptions,
        state: &mut State,
        asked_at: &Progress,
        last: LogPosition,
    ) -> bool {
        let patience = sleep(self.shared.bound / 8);
        tokio::pin!(patience);
        loop {
            match state.progress.compare(asked_at, last) {
                Continuity::Complete => return true,
                Continuity::Gap => return false,
                Continuity::Behind => {}
            }
            tokio::select! {
                biased;
                event = subscriptions.next() => match event {
                    Some(event) => drop(self.take(event, state)),
                    None => return false,
                },
                () = &mut patience => return false,
            }
        }
    }

    /// Gives whether something may have been missed.
    fn take(&self, event: Event, state: &mut State) -> bool {
        match event {
            Event::Change(push) => self.change(push, &mut state.progress),
            Event::Keys(push) => self.keys(push, &mut state.is_told),
        }
    }

    fn change(&self, push: Push, progress: &mut Progress) -> bool {
        let Push::Message { payload, .. } = push else {
            // Interrupted, or too slow: begin again.
            self.shared.clear();
            progress.interrupted();
            return true;
        };
        let Some((position, change)) = parse(&payload) else {
            self.shared.clear();
            return false;
        };
        if progress.hear(position) == Continuity::Gap {
            self.shared.clear();
        }
        match change {
            Change::Entry(key) => self.shared.remove_entry(&key),
            Change::Tag(tag) => self.shared.tags.void(&tag),
            Change::All => self.shared.clear(),
        }
        false
    }

    fn keys(&self, push: Push, is_told: &mut bool) -> bool {
        if let Push::Invalidate(Some(keys)) = &push {
            keys.iter().for_each(|key| self.shared.changed(key));
            return false;
        }
        self.shared.clear();
        match push {
            Push::Gap(GapReason::Lost) => {
                *is_told = false;
                self.shared.distrust();
            }
            Push::Gap(GapReason::Reconnected) => *is_told = true,
            // All keys have changed, or too many for us: with what was thrown away it is settled, and
            // the invalidation log has no part in it.
            _ => return false,
        }
        true
    }

    /// The last number; `None` when Redis could not be asked.
    async fn ask(&self) -> Option<LogPosition> {
        let ask = scripts::log_position(&self.shared.names, self.meta_ms);
        let reply: Value = self.client.eval(ask).await.ok()?;
        scripts::log_position_reply(reply).ok()
    }
}

impl Subscriptions {
    /// `None` when one of them has ended.
    async fn next(&mut self) -> Option<Event> {
        let Some(keys) = &mut self.keys else {
            return self.changes.next().await.map(Event::Change);
        };
        // In turn, so that neither waits for ever behind the other.
        self.keys_are_next = !self.keys_are_next;
        match self.keys_are_next {
            true => tokio::select! {
                biased;
                push = keys.next() => push.map(Event::Keys),
                push = self.changes.next() => push.map(Event::Change),
            },
            false => tokio::select! {
                biased;
                push = self.changes.next() => push.map(Event::Change),
                push = keys.next() => push.map(Event::Keys),
            },
        }
    }
}

/// A question to Redis that is under way.
struct Asking<'a> {
    at: Instant,
    progress: Progress,
    answer: BoxFuture<'a, Result<Option<LogPosition>, Elapsed>>,
}

/// When it was asked, and what was known then.
struct Question {
    at: Instant,
    progress: Progress,
}

impl Asking<'_> {
    /// Waits for the answer; for ever when nothing was asked.
    async fn answered(asking: &mut Option<Self>) -> (Question, Option<LogPosition>) {
        match asking {
            None => std::future::pending().await,
            Some(asking) => {
                let answer = (&mut asking.answer).await.ok().flatten();
                let question = Question {
                    at: asking.at,
                    progress: asking.progress,
                };
                (question, answer)
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Entry(Bytes),
    Tag(String),
    All,
}

/// `<incarnation> <number> <k, t or c><what>`
fn parse(payload: &Bytes) -> Option<(LogPosition, Change)> {
    let mut parts = payload.splitn(3, |&byte| byte == b' ');
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let incarnation = Id::parse(text()?)?;
    let number = text()?.parse().ok()?;
    let what = payload.slice_ref(parts.next()?);
    let change = match what.first()? {
        b'k' => Change::Entry(what.slice(1..)),
        b't' => Change::Tag(String::from_utf8(what.slice(1..).into()).ok()?),
        b'c' => Change::All,
        _ => return None,
    };
    let position = LogPosition {
        incarnation,
        number,
    };
    Some((position, change))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(log: u64, number: u64) -> LogPosition {
        LogPosition {
            incarnation: Id::new(log),
            number,
        }
    }

    #[test]
    fn messages_are_read_with_any_bytes_in_the_key() {
        let parsed = parse(&Bytes::from_static(b"9f 3 kcache:p:{a b}")).unwrap();
        assert_eq!(parsed.0, position(0x9f, 3));
        assert_eq!(parsed.1, Change::Entry("cache:p:{a b}".into()));
        assert_eq!(parse(&"9f 4 c".into()).unwrap().1, Change::All);
        assert_eq!(
            parse(&"9f 4 tshoes".into()).unwrap().1,
            Change::Tag("shoes".into())
        );
        for wrong in ["", "9f", "9f 4", "9f x kk", "zz 4 kk", "9f 4 ", "9f 4 x"] {
            assert!(parse(&Bytes::from(wrong)).is_none(), "{wrong}");
        }
    }
}
