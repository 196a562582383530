//! [`Watch`]: listens to the changes that all processes announce, and makes sure that none is
//! missed.
//!
//! Every change has a number, one more than the one before, given by Redis with the change or right
//! after it. A number that is not the next one, a subscription that was interrupted or too slow:
//! everything is thrown away. What is missed *last* shows in no later number, so the watch also
//! asks Redis for the last number, several times within the bound, and the level is trusted only
//! for the bound after the last time that it agreed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use redkit_core::{Client, Command, Interest, Push};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use crate::id::Id;
use crate::names::Names;

/// Between two attempts to subscribe.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Watch<V> {
    pub(super) client: Client,
    pub(super) names: Names,
    pub(super) shared: Arc<Shared<V>>,
}

/// Where in the row of changes this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Which row: another one after the server has lost its data.
    incarnation: Option<Id>,
    number: u64,
}

/// What is known of the row of changes since the subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// The last number that a message had, or that Redis said the first time it was asked.
    place: Option<Place>,
    /// Whether a message was heard since then: none of an earlier number can come any more.
    heard: bool,
}

/// Whether what is kept may be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Complete,
    /// Messages are missing, or may be.
    Gap,
    /// Redis knows of a change whose message may be under way.
    Behind,
}

impl Progress {
    /// A message came.
    pub(super) fn hear(&mut self, place: Place) -> Verdict {
        let verdict = match self.place {
            // Nothing was kept before the subscription stood.
            None => Verdict::Complete,
            Some(last) if last.incarnation != place.incarnation => Verdict::Gap,
            Some(last) if place.number == last.number + 1 => Verdict::Complete,
            // It was announced before Redis was asked, and comes after.
            Some(last) if place.number <= last.number && !self.heard => {
                return Verdict::Complete;
            }
            Some(_) => Verdict::Gap,
        };
        *self = Self {
            place: Some(place),
            heard: true,
        };
        verdict
    }

    /// Redis said what the last number is; `asked_at` is what was known when it was asked.
    pub(super) fn compare(&self, asked_at: &Self, last: Place) -> Verdict {
        let (Some(before), Some(now)) = (asked_at.place, self.place) else {
            return Verdict::Gap;
        };
        if last.incarnation != now.incarnation
            || before.incarnation != now.incarnation
            || last.number < before.number
        {
            // Another row, or one that lost its end.
            return Verdict::Gap;
        }
        match last.number > now.number {
            true => Verdict::Behind,
            false => Verdict::Complete,
        }
    }

    /// Everything was thrown away; from here on it counts.
    pub(super) fn begin_at(&self, asked_at: &Self, last: Place) -> Self {
        match self.place {
            // The first answer of Redis, overtaken by messages that were heard since.
            Some(now)
                if asked_at.place.is_none()
                    && now.incarnation == last.incarnation
                    && now.number >= last.number =>
            {
                *self
            }
            _ => Self {
                place: Some(last),
                heard: false,
            },
        }
    }
}

impl<V: Send + Sync + 'static> Watch<V> {
    pub(super) async fn run(self) {
        loop {
            let interest = Interest::Channels(vec![self.names.changes.clone()]);
            match self.client.subscribe(interest).await {
                Ok(mut pushes) => {
                    self.listen(&mut pushes).await;
                    // The client was shut down.
                    self.shared.distrust();
                    self.shared.clear();
                }
                Err(error) => {
                    tracing::debug!(target: "redkit::cache", %error, "no subscription to changes");
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn listen(&self, pushes: &mut redkit_core::PushStream) {
        let pause = self.shared.bound / 4;
        let mut progress = Progress::default();
        let mut next_check = Instant::now();
        let mut asking: Option<Asking<'_>> = None;
        // What was kept until now was kept without a subscription.
        self.shared.clear();
        loop {
            let (question, answer) = tokio::select! {
                push = pushes.next() => {
                    match push {
                        Some(push) => self.push(push, &mut progress),
                        None => return,
                    }
                    continue;
                }
                () = sleep_until(next_check), if asking.is_none() => {
                    let answer = Box::pin(timeout(pause, self.ask()));
                    asking = Some(Asking { at: Instant::now(), progress, answer });
                    continue;
                }
                answered = Asking::answered(&mut asking) => answered,
            };
            asking = None;
            next_check = question.at + pause;
            let Some(last) = answer else {
                // Not answered: the trust runs out by itself.
                continue;
            };
            if self
                .agrees(pushes, &mut progress, &question.progress, last)
                .await
            {
                self.shared.trust(question.at);
            } else {
                // What is read from here on was read after the change of the last number.
                self.shared.clear();
                progress = progress.begin_at(&question.progress, last);
                next_check = Instant::now();
            }
        }
    }

    /// Whether all changes up to the last were heard; waits a little for those under way.
    async fn agrees(
        &self,
        pushes: &mut redkit_core::PushStream,
        progress: &mut Progress,
        asked_at: &Progress,
        last: Place,
    ) -> bool {
        let patience = sleep(self.shared.bound / 8);
        tokio::pin!(patience);
        loop {
            match progress.compare(asked_at, last) {
                Verdict::Complete => return true,
                Verdict::Gap => return false,
                Verdict::Behind => {}
            }
            tokio::select! {
                biased;
                push = pushes.next() => match push {
                    Some(push) => self.push(push, progress),
                    None => return false,
                },
                () = &mut patience => return false,
            }
        }
    }

    fn push(&self, push: Push, progress: &mut Progress) {
        let Push::Message { payload, .. } = push else {
            // Interrupted, or too slow: begin again.
            self.shared.clear();
            *progress = Progress::default();
            return;
        };
        let Some((place, change)) = parse(&payload) else {
            self.shared.clear();
            return;
        };
        if progress.hear(place) == Verdict::Gap {
            self.shared.clear();
        }
        match change {
            Change::Entry(key) => self.shared.remove_entry(&key),
            Change::Tag(tag) => self.shared.tags.void(&tag),
            Change::All => self.shared.clear(),
        }
    }

    /// The last number; `None` when Redis could not be asked.
    async fn ask(&self) -> Option<Place> {
        let ask = Command::new("HMGET")
            .key(&self.names.meta)
            .arg("i")
            .arg("s");
        let reply: Vec<Option<String>> = self.client.call(ask).await.ok()?;
        let mut fields = reply.into_iter().map(Option::unwrap_or_default);
        Some(Place {
            incarnation: fields.next().and_then(|text| Id::parse(&text)),
            number: fields
                .next()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        })
    }
}

/// A question to Redis that is under way.
struct Asking<'a> {
    at: Instant,
    progress: Progress,
    answer: BoxFuture<'a, Result<Option<Place>, Elapsed>>,
}

/// When it was asked, and what was known then.
struct Question {
    at: Instant,
    progress: Progress,
}

impl Asking<'_> {
    /// Waits for the answer; for ever when nothing was asked.
    async fn answered(asking: &mut Option<Self>) -> (Question, Option<Place>) {
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
fn parse(payload: &Bytes) -> Option<(Place, Change)> {
    let mut parts = payload.splitn(3, |&byte| byte == b' ');
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let incarnation = Some(Id::parse(text()?)?);
    let number = text()?.parse().ok()?;
    let what = payload.slice_ref(parts.next()?);
    let change = match what.first()? {
        b'k' => Change::Entry(what.slice(1..)),
        b't' => Change::Tag(String::from_utf8(what.slice(1..).into()).ok()?),
        b'c' => Change::All,
        _ => return None,
    };
    let place = Place {
        incarnation,
        number,
    };
    Some((place, change))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin_at(place: Place) -> Progress {
        let nothing = Progress::default();
        nothing.begin_at(&nothing, place)
    }

    fn place(row: u64, number: u64) -> Place {
        Place {
            incarnation: Some(Id::new(row)),
            number,
        }
    }

    #[test]
    fn the_next_number_is_right_and_any_other_is_a_gap() {
        let mut progress = begin_at(place(1, 5));
        assert_eq!(progress.hear(place(1, 6)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 7)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 9)), Verdict::Gap, "8 is missing");
        assert_eq!(progress.hear(place(1, 10)), Verdict::Complete);
        assert_eq!(
            progress.hear(place(1, 10)),
            Verdict::Gap,
            "numbers went back"
        );
        assert_eq!(progress.hear(place(2, 11)), Verdict::Gap, "another row");
    }

    #[test]
    fn what_was_announced_before_redis_was_asked_may_come_after() {
        let mut progress = begin_at(place(1, 5));
        assert_eq!(progress.hear(place(1, 4)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 5)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 6)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 5)), Verdict::Gap);
    }

    #[test]
    fn redis_is_compared_with_what_was_known_when_it_was_asked() {
        let before = begin_at(place(1, 5));
        let mut now = before;
        now.hear(place(1, 6));
        assert_eq!(now.compare(&before, place(1, 5)), Verdict::Complete);
        assert_eq!(now.compare(&before, place(1, 6)), Verdict::Complete);
        assert_eq!(now.compare(&before, place(1, 7)), Verdict::Behind);
        assert_eq!(
            now.compare(&before, place(1, 4)),
            Verdict::Gap,
            "it went back"
        );
        assert_eq!(now.compare(&before, place(2, 6)), Verdict::Gap);
        let nothing = Progress::default();
        assert_eq!(nothing.compare(&nothing, place(1, 0)), Verdict::Gap);
    }

    #[test]
    fn messages_are_read_with_any_bytes_in_the_key() {
        let parsed = parse(&Bytes::from_static(b"9f 3 kcache:p:{a b}")).unwrap();
        assert_eq!(parsed.0, place(0x9f, 3));
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
