//! The task that reads a partition: new entries, retries that are due, entries of dead consumers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::Error;
use redkit_core::coordination::Backoff;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, TryAcquireError};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::jobs::Job;
use super::line::{Line, is_group_missing};
use super::making::{make_missing, remake};
use super::run::{HeldSeat, Shared};
use crate::page_size::PageSize;
use crate::topic::builder::Retention;
use crate::topic::entry::RawEntry;
use crate::topic::scripts::{self, Tick};

/// How often a reader looks for what is due. A message that is delayed or retried is late by this at most.
const TICK: Duration = Duration::from_millis(500);
/// How often what has had its time, or is done, is removed.
pub(super) const TRIM: Duration = Duration::from_secs(5);

/// How long an entry that came while all handlers were busy waits for one of them.
const PATIENCE: Duration = Duration::from_millis(250);

type InLine =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// Entries, by a call that was sent then.
struct Read {
    entries: Vec<RawEntry>,
    sent: Instant,
}

/// An entry that this process holds, with the token of its delivery.
type HeldDelivery = (RawEntry, CancellationToken);

fn hold(seat: &HeldSeat, read: Read) -> Vec<HeldDelivery> {
    let Read { entries, sent } = read;
    let held = entries.into_iter().map(|entry| {
        let lost = seat.held.insert(entry.entry, entry.deliveries, sent);
        (entry, lost)
    });
    held.collect()
}

pub(super) struct Reader<T, H> {
    shared: Arc<Shared<T, H>>,
    /// Which of the worker's seats.
    index: usize,
    line: Line,
    backoff: Backoff,
    next_tick: Instant,
    next_look: Instant,
    next_trim: Instant,
    is_paused: bool,
    /// Something was due at the last tick for which there was no room.
    is_due: bool,
    /// The last wait at the server ended with nothing.
    is_idle: bool,
    /// How many entries it asks for at once.
    page_size: PageSize,
    /// Its place in the line for permits.
    in_line: Option<InLine>,
    /// A call got no reply: entries may be in its hands that this process does not know of.
    may_have_forgotten: bool,
    /// The last error was a refusal, and was told.
    was_refused: bool,
    /// So was the last tick.
    was_tick_refused: bool,
}

impl<T, H> Reader<T, H> {
    pub(super) fn new(shared: Arc<Shared<T, H>>, index: usize) -> Self {
        let now = Instant::now();
        Self {
            shared,
            index,
            line: Line::default(),
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(1)),
            next_tick: now,
            next_look: now,
            next_trim: now + TRIM,
            is_paused: false,
            is_due: false,
            is_idle: false,
            page_size: PageSize::new(),
            in_line: None,
            may_have_forgotten: false,
            was_refused: false,
            was_tick_refused: false,
        }
    }

    /// Reads until the worker drains.
    pub(super) async fn run(mut self) {
        while !self.shared.draining.is_cancelled() {
            match self.step().await {
                Ok(()) => {
                    self.backoff.reset();
                    self.was_refused = false;
                }
                Err(error) if is_group_missing(&error) => self.remake_group().await,
                Err(error) => {
                    self.in_line = None;
                    self.may_have_forgotten |= !is_refusal(&error);
                    let pause = self.backoff.next_pause();
                    // A missing right, say: it does not go away by itself.
                    match error.is_retryable() || std::mem::replace(&mut self.was_refused, true) {
                        true => {
                            tracing::debug!(target: "redkit::pubsub", %error, ?pause, "a topic is read again");
                        }
                        false => {
                            tracing::warn!(target: "redkit::pubsub", %error, "a topic cannot be read");
                        }
                    }
                    self.pause(pause).await;
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        if let Some(seat) = shared.seats.get(self.index)
            && self.may_have_forgotten
            && let Err(error) = self.give_back_forgotten(seat, None).await
        {
            tracing::debug!(target: "redkit::pubsub", %error, "others take what a lost reply brought");
        }
    }

    /// Gives back what came in a reply that was lost, which costs no attempt; what was delivered before that time of the
    /// server's, unless nothing more is read.
    async fn give_back_forgotten(
        &mut self,
        seat: &HeldSeat,
        before: Option<u64>,
    ) -> Result<(), Error> {
        let known = seat.held.ids();
        let sent = Instant::now();
        let client = &self.shared.client;
        let lost = seat.seat.give_back_unknown(client, &known, before).await?;
        seat.held.kept(&known, &lost, sent);
        self.may_have_forgotten = false;
        Ok(())
    }

    async fn step(&mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let Some(seat) = shared.seats.get(self.index) else {
            return Ok(());
        };
        while !make_missing(&shared, seat).await {
            if shared.draining.is_cancelled() {
                return Ok(());
            }
            let pause = self.backoff.next_pause();
            self.pause(pause).await;
        }
        if self.may_have_forgotten {
            let before = seat.seat.now(&shared.client).await?;
            self.give_back_forgotten(seat, Some(before)).await?;
        }
        if Instant::now() >= self.next_tick {
            self.tick(None).await?;
        }
        self.trim().await;
        if self.is_paused {
            self.in_line = None;
            self.pause(self.next_tick.saturating_duration_since(Instant::now()))
                .await;
            return Ok(());
        }
        let Some(room) = self.room().await else {
            return Ok(());
        };
        // What is due comes before what is new, now that there is room for it.
        if self.is_due || Instant::now() >= self.next_look {
            return self.tick(Some(room)).await;
        }
        if shared.seats.len() == 1 {
            // No other reader needs the places.
            let (most, wait) = (room.num_permits(), self.until_tick());
            let read = self.read(seat, most, Some(wait)).await?;
            self.hand_over(hold(seat, read), Some(room));
            return Ok(());
        }
        if !self.is_idle {
            let read = self.read(seat, room.num_permits(), None).await?;
            if !read.entries.is_empty() {
                self.hand_over(hold(seat, read), Some(room));
                return Ok(());
            }
        }
        // The places are the others' while this one waits at the server.
        drop(room);
        let wait = self.until_tick();
        let read = self.read(seat, 1, Some(wait)).await?;
        self.is_idle = read.entries.is_empty();
        self.place(seat, hold(seat, read)).await
    }

    fn until_tick(&self) -> Duration {
        self.next_tick.saturating_duration_since(Instant::now())
    }

    async fn read(
        &mut self,
        seat: &HeldSeat,
        most: usize,
        wait: Option<Duration>,
    ) -> Result<Read, Error> {
        let sent = Instant::now();
        let client = &self.shared.client;
        let entries = self.line.read(client, &seat.seat, most, wait).await;
        let entries = self.sized(most, entries)?;
        Ok(Read { entries, sent })
    }

    /// Notes how a reply came to a call that asked for so many entries.
    fn sized<R>(&mut self, asked: usize, reply: Result<R, Error>) -> Result<R, Error> {
        match &reply {
            Ok(_) => self.page_size.came(),
            Err(error) if error.is_maybe() => self.page_size.was_lost(asked),
            Err(_) => {}
        }
        reply
    }

    /// Finds a place for an entry that came while the reader had none. Should all handlers be busy meanwhile,
    /// the entry goes back to the group: other workers may have nothing to do.
    async fn place(&mut self, seat: &HeldSeat, entries: Vec<HeldDelivery>) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&self.shared.slots).acquire_owned() => permit,
            () = sleep(PATIENCE) => {
                let all = entries.iter();
                let release = seat.seat.release_once(all.filter_map(|(entry, lost)| {
                    let is_held = seat.held.remove(entry.entry, lost);
                    is_held.then_some((entry.entry, entry.deliveries))
                }));
                self.shared.client.eval::<u64>(release).await?;
                return Ok(());
            }
            // Handed back with all that is held.
            () = self.shared.draining.cancelled() => return Ok(()),
        };
        if let Ok(permit) = permit {
            self.hand_over(entries, Some(permit));
        }
        Ok(())
    }

    /// Takes what is due, as far as there is room for it.
    async fn tick(&mut self, room: Option<OwnedSemaphorePermit>) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let Some(seat) = shared.seats.get(self.index) else {
            return Ok(());
        };
        let room = self.fill(room);
        let places = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let sent = Instant::now();
        // Without room, what a dead consumer had could not be taken.
        let looks = sent >= self.next_look && places > 0;
        let tick = seat.seat.tick(&shared.client, places, looks).await;
        let tick = match self.sized(places, tick) {
            Ok(tick) => tick,
            Err(error) if is_answer(&error) && !is_group_missing(&error) => {
                return self.tick_later(seat, &error).await;
            }
            Err(error) => return Err(error),
        };
        self.was_tick_refused = false;
        if looks {
            self.next_look = sent + shared.settings.lease / 4;
        }
        match tick {
            Tick::NoGroup => self.remake_group().await,
            Tick::Done {
                is_paused,
                next_due,
                taken,
            } => {
                self.is_paused = is_paused;
                shared.set_paused(is_paused);
                // What is due now and was not taken waits for room, not for the next tick.
                self.is_due = next_due.is_some_and(|due| due.is_zero()) && !is_paused;
                let wait = match next_due {
                    Some(due) if !self.is_due => due.clamp(Duration::from_millis(1), TICK),
                    _ => TICK,
                };
                self.next_tick = Instant::now() + wait;
                let read = Read {
                    entries: taken,
                    sent,
                };
                self.hand_over(hold(seat, read), room);
            }
        }
        Ok(())
    }

    /// The server refuses a tick, as when another program has put something in a key's place: what is new is read
    /// nevertheless, unless the group is paused.
    async fn tick_later(&mut self, seat: &HeldSeat, error: &Error) -> Result<(), Error> {
        match error.is_retryable() || std::mem::replace(&mut self.was_tick_refused, true) {
            true => {
                tracing::debug!(target: "redkit::pubsub", %error, "what is due is looked for later");
            }
            false => {
                tracing::warn!(target: "redkit::pubsub", %error, "what is due in a topic cannot be looked for");
            }
        }
        self.is_paused = seat.seat.is_paused(&self.shared.client).await?;
        self.shared.set_paused(self.is_paused);
        self.is_due = false;
        self.next_tick = Instant::now() + TICK;
        self.next_look = self.next_look.max(self.next_tick);
        Ok(())
    }

    /// A place for at least one entry; `None` when something else is to be done first. The reader keeps its
    /// place in the line for them meanwhile.
    async fn room(&mut self) -> Option<OwnedSemaphorePermit> {
        let slots = &self.shared.slots;
        let line = self
            .in_line
            .get_or_insert_with(|| Box::pin(Arc::clone(slots).acquire_owned()));
        let first = tokio::select! {
            biased;
            permit = line => permit,
            () = sleep_until(self.next_tick) => return None,
            () = self.shared.draining.cancelled() => return None,
        };
        self.in_line = None;
        self.fill(Some(first.ok()?))
    }

    /// Takes what is free, up to this partition's share, at once: a reader has room for many and reads few at a time.
    fn fill(&self, mut room: Option<OwnedSemaphorePermit>) -> Option<OwnedSemaphorePermit> {
        let has = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let slots = &self.shared.slots;
        loop {
            let share = self.page_size.of(self.shared.share());
            let more = share.saturating_sub(has);
            let more = u32::try_from(more.min(slots.available_permits())).unwrap_or(u32::MAX);
            if more == 0 {
                return room;
            }
            match (room, Arc::clone(slots).try_acquire_many_owned(more)) {
                (Some(mut room), Ok(more)) => {
                    room.merge(more);
                    return Some(room);
                }
                (None, Ok(more)) => return Some(more),
                (kept, Err(TryAcquireError::Closed)) => return kept,
                // Another reader was faster, and left fewer.
                (kept, Err(TryAcquireError::NoPermits)) => room = kept,
            }
        }
    }

    fn hand_over(&self, entries: Vec<HeldDelivery>, mut room: Option<OwnedSemaphorePermit>) {
        self.shared
            .jobs
            .push(entries.into_iter().map(|(entry, lost)| Job {
                seat: self.index,
                entry,
                lost,
                permit: room.as_mut().and_then(|room| room.split(1)),
                has_waited: false,
            }));
    }

    async fn remake_group(&mut self) {
        if let Some(seat) = self.shared.seats.get(self.index) {
            remake(&self.shared, seat).await;
        }
        let pause = self.backoff.next_pause();
        self.pause(pause).await;
    }

    async fn trim(&mut self) {
        let now = Instant::now();
        if now < self.next_trim {
            return;
        }
        self.next_trim = now + TRIM;
        if let Some(seat) = self.shared.seats.get(self.index)
            && trim(&self.shared, seat).await
        {
            self.next_trim = now;
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            biased;
            () = sleep(time) => {}
            () = self.shared.draining.cancelled() => {}
        }
    }
}

/// Removes what has had its time, or is done. Gives whether there is more than one call does.
pub(super) async fn trim<T, H>(shared: &Shared<T, H>, seat: &HeldSeat) -> bool {
    let partition = &seat.seat.partition;
    let trimmed = match shared.topic.retention {
        Retention::Queue => scripts::sweep(&shared.client, partition).await,
        Retention::Log {
            keep: None,
            most: None,
        } => return false,
        Retention::Log { keep, most } => {
            scripts::trim(&shared.client, &partition.stream, keep, most).await
        }
    };
    match trimmed {
        Ok(has_more) => has_more,
        Err(error) => {
            tracing::debug!(target: "redkit::pubsub", %error, "a topic is trimmed later");
            false
        }
    }
}

/// It is the server's own answer.
fn is_answer(error: &Error) -> bool {
    let replied = error.call_error().and_then(|error| error.server_error());
    replied.is_some()
}

/// The server, or the client itself, said no: nothing was taken.
fn is_refusal(error: &Error) -> bool {
    !error.is_maybe()
}
