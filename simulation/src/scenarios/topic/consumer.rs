//! What the processes of a topic do: they publish, consume, leave and come again.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, Command};
use redkit_pubsub::topic::{Delivery, Outcome, Publication, Topic, Worker};
use redkit_testkit::simulation::Process;
use redkit_testkit::simulation::checkers::Handled;
use tokio::time::{Instant, sleep};

use super::Settings;
use super::notes::{Absence, Notes, outcome};

const GROUP: &str = "mail";
const KEYS: u64 = 4;
pub(super) const MOST_ATTEMPTS: u32 = 4;
/// One of so many messages can never be handled.
const POISON: u64 = 13;
/// The faults of a run are over, and what was published was told.
const QUIET: Duration = Duration::from_secs(12);

/// The body of a process that publishes, and consumes until all is done.
pub(super) async fn consume(process: Process, settings: Settings, notes: Notes) {
    // All on one connection: what delays a question delays the signs of life.
    let client = process.client();
    let Some(topic) = topic(&client, settings) else {
        return;
    };
    let presence = Presence::new(process.clone(), client, settings, notes.clone());
    let watched = tokio::spawn(presence.watch());
    let publishing = tokio::spawn(publish(
        process.clone(),
        topic.clone(),
        settings,
        notes.clone(),
    ));
    while !notes.is_done() {
        let Some(worker) = start(&process, &topic, settings, &notes).await else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let stays = Duration::from_millis(process.random_range(500..=4_000));
        stay(stays, &notes).await;
        leave(&process, worker).await;
    }
    drop(publishing.await);
    watched.abort();
}

/// The body of a process that comes when the faults are over, consumes with the others, and lets all go when every
/// message is done.
pub(super) async fn see_to_the_end(process: Process, settings: Settings, notes: Notes) {
    sleep(QUIET).await;
    let Some(topic) = topic(&process.client(), settings) else {
        return;
    };
    let worker = start(&process, &topic, settings, &notes).await;
    // Twice, because a message may be on its way from one state to another.
    let mut quiet = 0;
    while quiet < 2 {
        sleep(Duration::from_millis(500)).await;
        let stats = topic.stats(GROUP).await;
        let is_quiet = stats.is_ok_and(|stats| {
            stats.pending == 0 && stats.delayed == 0 && stats.lag.unwrap_or(stats.length) == 0
        });
        quiet = if is_quiet { quiet + 1 } else { 0 };
    }
    if let Ok(letters) = topic.dead_letters(GROUP)
        && let Ok(letters) = letters.list(1_000).await
    {
        if !letters.is_empty() {
            process.reached("buried");
        }
        notes.are_dead(letters.into_iter().filter_map(|letter| letter.payload.ok()));
    }
    notes.finish();
    if let Some(worker) = worker {
        worker.shutdown(Duration::from_secs(1)).await;
    }
}

fn topic(client: &Client, settings: Settings) -> Option<Topic<u64>> {
    let topic = Topic::builder(client, "orders");
    topic.partitions(settings.partitions).build().ok()
}

async fn publish(process: Process, topic: Topic<u64>, settings: Settings, notes: Notes) {
    for _ in 0..settings.messages {
        sleep(Duration::from_millis(process.random_range(0..=400))).await;
        let message = notes.next_message(KEYS);
        let publication = Publication::new().key(message.key.to_be_bytes());
        let publication = match process.chance(0.5) {
            true => publication.id(message.number.to_string()),
            false => publication,
        };
        process.note(|| {
            format!(
                "publishes message {} of key {}",
                message.number, message.key
            )
        });
        let pending = notes.publishes(&process, message);
        let published = topic.publish_with(&message.number, publication).await;
        match &published {
            Ok(_) => process.reached("published"),
            Err(error) => process.fails("publish", error),
        }
        pending.ended(process.now(), outcome(published));
    }
}

async fn start(
    process: &Process,
    topic: &Topic<u64>,
    settings: Settings,
    notes: &Notes,
) -> Option<Worker> {
    let consumer = topic
        .consumer(GROUP)
        .concurrency(settings.concurrency)
        .prefetch(settings.prefetch)
        .max_attempts(MOST_ATTEMPTS)
        .backoff(Duration::from_millis(50), Duration::from_millis(400))
        .lease(settings.lease);
    let consumer = if settings.is_ordered {
        consumer.ordered()
    } else {
        consumer
    };
    let handler = Arc::new((process.clone(), notes.clone()));
    let worker = consumer.start(move |delivery: Delivery<u64>| {
        let handler = Arc::clone(&handler);
        async move {
            let (process, notes) = &*handler;
            handle(process, notes, &delivery).await
        }
    });
    process.note(|| "begins to consume".to_owned());
    match worker.await {
        Ok(worker) => {
            process.reached("consumed");
            Some(worker)
        }
        Err(error) => {
            process.fails("consume", &error);
            None
        }
    }
}

async fn handle(process: &Process, notes: &Notes, delivery: &Delivery<u64>) -> Outcome {
    let message = delivery.payload;
    let running = notes.handles(process, message, delivery.attempt);
    let is_slow = process.chance(0.1);
    let longest = if is_slow { 1_500 } else { 80 };
    sleep(Duration::from_millis(process.random_range(0..=longest))).await;
    if message.is_multiple_of(POISON) || process.chance(0.05) {
        running.ended(Handled::Failed);
        process.reached("failed");
        process.note(|| format!("fails to handle message {message}"));
        return Outcome::retry("a failure of the scenario");
    }
    running.ended(Handled::Done);
    process.reached("handled");
    process.note(|| format!("has handled message {message}"));
    Outcome::Ack
}

async fn stay(time: Duration, notes: &Notes) {
    const LOOK: Duration = Duration::from_millis(250);
    let mut left = time;
    while !left.is_zero() && !notes.is_done() {
        sleep(left.min(LOOK)).await;
        left = left.saturating_sub(LOOK);
    }
}

async fn leave(process: &Process, worker: Worker) {
    process.note(|| "leaves".to_owned());
    match process.chance(0.8) {
        true => {
            let grace = Duration::from_millis(process.random_range(0..=800));
            worker.shutdown(grace).await;
            process.reached("left");
        }
        false => drop(worker),
    }
}

/// Watches whether a process can be seen by the server: a process that is killed, held up, or cut off from it for as
/// long as its signs of life may be late, was away.
struct Presence {
    process: Process,
    client: Client,
    settings: Settings,
    notes: Notes,
    /// When the last question was asked that the server answered.
    seen: Duration,
    /// The same by the process's own clock, by which it counts its lease.
    seen_here: Instant,
    is_over: bool,
}

impl Presence {
    fn new(process: Process, client: Client, settings: Settings, notes: Notes) -> Self {
        Self {
            seen: process.now(),
            seen_here: Instant::now(),
            process,
            client,
            settings,
            notes,
            is_over: false,
        }
    }

    async fn watch(mut self) {
        let longest = self.settings.lease / 3;
        while !self.notes.is_done() {
            sleep(self.settings.lease / 12).await;
            let (asked, asked_here) = (self.process.now(), Instant::now());
            let exists = Command::new("EXISTS").key("presence").idempotent(true);
            if self.client.call::<i64>(exists).await.is_err() {
                continue;
            }
            let now = self.process.now();
            let lasted = now.saturating_sub(self.seen).max(self.seen_here.elapsed());
            if lasted > longest {
                self.was_away(now, lasted, false);
            }
            (self.seen, self.seen_here) = (asked, asked_here);
        }
        self.is_over = true;
    }

    fn was_away(&self, until: Duration, lasted: Duration, is_death: bool) {
        self.notes.away(Absence {
            process: self.process.id(),
            from: self.seen,
            until,
            lasted,
            is_death,
        });
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if !self.is_over {
            let now = self.process.now();
            self.was_away(now, Duration::MAX, true);
        }
    }
}
