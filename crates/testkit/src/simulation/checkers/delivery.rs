//! [`Delivery`]: every message is handled, in order, and twice only where a consumer died.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulation::history::{Outcome, ProcessId};
use crate::simulation::violation::{Violation, earlier};

/// A call that publishes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publishing {
    /// The publisher.
    pub process: ProcessId,
    /// Messages of one key have an order.
    pub key: u64,
    /// When it was called.
    pub start: Duration,
    /// When its outcome was known.
    pub end: Duration,
    /// What came of it.
    pub outcome: Outcome<()>,
}

/// How a handler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handled {
    /// It acknowledged the message.
    Done,
    /// It failed: an attempt is used.
    Failed,
    /// It did not end: its process died, or dropped it.
    Cut,
}

/// A run of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handling {
    /// The consumer.
    pub process: ProcessId,
    /// The message.
    pub message: u64,
    /// Which attempt the consumer was told that this is, from 1 on.
    pub attempt: u32,
    /// When the handler was called.
    pub start: Duration,
    /// When it ended, or when its process died.
    pub end: Duration,
    /// How it ended.
    pub how: Handled,
}

/// Checks the deliveries of a topic to one group, once all has settled:
///
/// - Every message whose publication was acknowledged was handled to its end, or is a dead letter.
/// - Nothing is handled that nobody published.
/// - Of two messages of a key, where one was published before the other was ([`ordered`](Self::ordered)), the
///   second is not begun before the first was done.
/// - A message is handled at the same time as before, or again after it was done, only where the consumer before
///   [was away](Self::away) while it had the message: dead, or paused or cut off. A consumer acknowledges at once, so
///   what becomes of it [a third of a lease](Self::lease) after it was done explains nothing.
/// - Attempts are used by handlers that failed, and by consumers that were away for half a lease, or [died](Self::died),
///   when the message was there, and by nothing else.
/// - A message becomes a dead letter only when so its [attempts](Self::max_attempts) were used up.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::{Delivery, Handled, Handling, Publishing};
/// use redkit_testkit::simulation::history::{Outcome, ProcessId};
///
/// let second = Duration::from_secs;
/// let mut delivery = Delivery::new();
/// delivery.published(7, Publishing {
///     process: ProcessId(1), key: 0, start: second(1), end: second(2), outcome: Outcome::Replied(()),
/// });
/// assert!(delivery.check().is_err(), "it is lost");
/// let handling = Handling {
///     process: ProcessId(2), message: 7, attempt: 1, start: second(3), end: second(4), how: Handled::Done,
/// };
/// delivery.handled(handling);
/// assert!(delivery.check().is_ok());
/// delivery.handled(Handling { process: ProcessId(3), start: second(5), end: second(6), ..handling });
/// assert!(delivery.check().is_err(), "it is handled twice");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    is_ordered: bool,
    lease: Option<Duration>,
    max_attempts: usize,
    published: BTreeMap<u64, Publishing>,
    handled: BTreeMap<u64, Vec<Handling>>,
    dead: BTreeMap<u64, Duration>,
    away: Vec<Away>,
}

#[derive(Debug, Clone, Copy)]
struct Away {
    process: ProcessId,
    from: Duration,
    until: Duration,
    /// Until when a request of that time may arrive.
    heard_until: Duration,
    /// How long it was; for ever for a process that died.
    lasted: Duration,
}

/// What a request, and a process that notices a reply, take at most where nothing goes wrong.
const SOON: Duration = Duration::from_millis(50);

impl Delivery {
    /// Nothing was published yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Messages of a key have to be handled in their order.
    #[must_use]
    pub fn ordered(mut self) -> Self {
        self.is_ordered = true;
        self
    }

    /// After which time without a sign of life consumers are taken for dead. Without it each absence, however short or
    /// late, may be why a message comes again.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How many attempts a message has. Without it a message may become a dead letter at any time.
    #[must_use]
    pub fn max_attempts(mut self, attempts: usize) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// A message was published, by a number of its own.
    pub fn published(&mut self, message: u64, publishing: Publishing) {
        self.published.insert(message, publishing);
    }

    /// A handler was called.
    pub fn handled(&mut self, handling: Handling) {
        let handlings = self.handled.entry(handling.message).or_default();
        let place = handlings.partition_point(|other| other.start <= handling.start);
        handlings.insert(place, handling);
    }

    /// A message was found among the dead letters.
    pub fn dead_lettered(&mut self, message: u64, at: Duration) {
        let first = self.dead.entry(message).or_insert(at);
        *first = at.min(*first);
    }

    /// A consumer was paused or without the server from one time of the world until another. `lasted` is how long that
    /// was, by the world's clock or the consumer's own, by which it was longer. What it had sent arrives until
    /// `heard_until`, on a connection that broke meanwhile, and may take messages for a consumer that has left.
    pub fn away(
        &mut self,
        process: ProcessId,
        from: Duration,
        until: Duration,
        heard_until: Duration,
        lasted: Duration,
    ) {
        self.away.push(Away {
            process,
            from,
            until,
            heard_until,
            lasted,
        });
    }

    /// A consumer's process died, after it was last seen at `from`. What it had sent arrives until `heard_until`, and may
    /// take messages for it.
    pub fn died(
        &mut self,
        process: ProcessId,
        from: Duration,
        at: Duration,
        heard_until: Duration,
    ) {
        self.away.push(Away {
            process,
            from,
            until: at,
            heard_until,
            lasted: Duration::MAX,
        });
    }

    /// # Errors
    /// The first message that was lost, doubled, invented, out of order, or robbed of an attempt.
    pub fn check(&self) -> Result<(), Violation> {
        let of_messages = self.handled.iter().map(|(message, handlings)| {
            let wrong = earlier(self.invented(*message, handlings), self.doubled(handlings));
            earlier(wrong, self.robbed(*message, handlings))
        });
        let wrong = of_messages.fold(None, earlier);
        let wrong = earlier(wrong, self.buried_early());
        let wrong = earlier(wrong, self.out_of_order());
        earlier(wrong, self.lost()).map_or(Ok(()), Err)
    }

    fn invented(&self, message: u64, handlings: &[Handling]) -> Option<Violation> {
        let first = handlings.first()?;
        let published = self.published.get(&message);
        let is_known = published.is_some_and(|published| {
            published.outcome != Outcome::NotSent && published.start <= first.start
        });
        (!is_known).then(|| {
            let text = format!("is given message {message}, which nobody has published");
            Violation::new("delivery", first.start).event(first.start, first.process, text)
        })
    }

    /// A handling that began while an earlier one was under way, or after it was done.
    fn doubled(&self, handlings: &[Handling]) -> Option<Violation> {
        for (index, again) in handlings.iter().enumerate() {
            let mut before = handlings.iter().take(index);
            let doubled = before.find(|first| {
                let is_double = first.how == Handled::Done || first.end > again.start;
                is_double
                    && !self.was_away(first.process, first.start, self.had_until(first, again))
            });
            if let Some(first) = doubled {
                let violation = Violation::new("a message is handled once", again.start)
                    .event(first.start, first.process, first.story())
                    .event(first.end, first.process, first.end_story())
                    .event(again.start, again.process, again.story());
                return Some(violation);
            }
        }
        None
    }

    /// Until when an absence of the consumer explains that its message came again.
    fn had_until(&self, first: &Handling, again: &Handling) -> Duration {
        match (first.how, self.lease) {
            (Handled::Done, Some(lease)) => again.start.min(first.end + lease / 3 + SOON),
            _ => again.start,
        }
    }

    /// A handling with a higher attempt than failures and absences explain.
    fn robbed(&self, message: u64, handlings: &[Handling]) -> Option<Violation> {
        let published = self.published.get(&message)?.start;
        let robbed = handlings.iter().enumerate().find(|(index, handling)| {
            let before = handlings.iter().take(*index);
            let failed = before.filter(|other| other.how == Handled::Failed).count();
            let most = failed + self.absences(published, handling.start) + 1;
            usize::try_from(handling.attempt).is_ok_and(|attempt| attempt > most)
        });
        let (index, handling) = robbed?;
        let mut violation = Violation::new("attempts", handling.start).event(
            handling.start,
            handling.process,
            handling.story(),
        );
        for other in handlings.iter().take(index) {
            violation = violation
                .event(other.start, other.process, other.story())
                .event(other.end, other.process, other.end_story());
        }
        Some(violation)
    }

    /// How many absences may each have cost a message an attempt.
    fn absences(&self, published: Duration, until: Duration) -> usize {
        let shortest = self.lease.unwrap_or_default() / 2;
        let absences = self.away.iter();
        absences
            .filter(|away| away.lasted >= shortest)
            .filter(|away| away.from <= until && away.heard_until >= published)
            .count()
    }

    /// A dead letter that had attempts left.
    fn buried_early(&self) -> Option<Violation> {
        let early = self.dead.iter().filter_map(|(message, at)| {
            let published = self.published.get(message)?;
            let handlings = self.handled.get(message).map_or(&[][..], Vec::as_slice);
            let failures = handlings.iter().filter(|h| h.how == Handled::Failed);
            // When it was buried is not known: an absence may be later than the last handler.
            let absences = self.absences(published.start, Duration::MAX);
            let failures = failures.count();
            (failures + absences < self.max_attempts).then(|| {
                let text = format!(
                    "message {message} is a dead letter after {failures} failures and {absences} absences, of {} attempts",
                    self.max_attempts
                );
                let violation = Violation::new("attempts", *at).fact(*at, text);
                let story = handlings.iter().fold(violation, |violation, handling| {
                    violation
                        .event(handling.start, handling.process, handling.story())
                        .event(handling.end, handling.process, handling.end_story())
                });
                Some(story)
            })
        });
        early.fold(None, earlier)
    }

    fn out_of_order(&self) -> Option<Violation> {
        if !self.is_ordered {
            return None;
        }
        let mut of_keys: BTreeMap<u64, Vec<(u64, &Publishing)>> = BTreeMap::new();
        for (message, publishing) in &self.published {
            let of_key = of_keys.entry(publishing.key).or_default();
            of_key.push((*message, publishing));
        }
        let pairs = of_keys.values().flat_map(|of_key| {
            of_key.iter().flat_map(move |(first, publishing)| {
                let is_after = move |(second, other): &&(u64, &Publishing)| {
                    second != first && publishing.end <= other.start
                };
                let later = of_key.iter().filter(is_after);
                later.map(move |(second, _)| (*first, *publishing, *second))
            })
        });
        let is_known = |publishing: &Publishing| publishing.outcome == Outcome::Replied(());
        let overtaken = pairs.filter(|(_, publishing, _)| is_known(publishing));
        let overtaken = overtaken.filter_map(|(first, publishing, second)| {
            let begun = self.handled.get(&second)?.first()?;
            let done = self.done_at(first).unwrap_or(Duration::MAX);
            if done <= begun.start {
                return None;
            }
            let mut violation = Violation::new("order of a key", begun.start)
                .event(
                    publishing.end,
                    publishing.process,
                    format!("has published message {first}"),
                )
                .event(begun.start, begun.process, begun.story());
            if done < Duration::MAX {
                violation = violation.fact(done, format!("message {first} is done"));
            }
            Some(Some(violation))
        });
        overtaken.fold(None, earlier)
    }

    fn lost(&self) -> Option<Violation> {
        let acknowledged = self.published.iter().filter(|(_, publishing)| {
            let Publishing { outcome, .. } = publishing;
            *outcome == Outcome::Replied(())
        });
        let lost = acknowledged.filter(|(message, _)| self.done_at(**message).is_none());
        let lost = lost.map(|(message, publishing)| {
            let text = format!("has published message {message}, which was never handled");
            Violation::new("no message is lost", publishing.end).event(
                publishing.end,
                publishing.process,
                text,
            )
        });
        lost.map(Some).fold(None, earlier)
    }

    /// When a message was first handled to its end, or found dead.
    fn done_at(&self, message: u64) -> Option<Duration> {
        let handlings = self.handled.get(&message).into_iter().flatten();
        let done = handlings.filter(|handling| handling.how == Handled::Done);
        let done = done.map(|handling| handling.end);
        done.chain(self.dead.get(&message).copied()).min()
    }

    fn was_away(&self, process: ProcessId, from: Duration, until: Duration) -> bool {
        let mut away = self.away.iter().filter(|away| away.process == process);
        away.any(|away| away.from <= until && away.until >= from)
    }
}

impl Handling {
    fn story(&self) -> String {
        format!(
            "begins attempt {} of message {}",
            self.attempt, self.message
        )
    }

    fn end_story(&self) -> String {
        let message = self.message;
        match self.how {
            Handled::Done => format!("has handled message {message}"),
            Handled::Failed => format!("fails to handle message {message}"),
            Handled::Cut => format!("handles message {message} no further"),
        }
    }
}

#[cfg(test)]
mod tests;
