//! Write-behind across processes: workers are told of what is new, and callers that wait of what is done.

use std::sync::Arc;
use std::time::Duration;

use redkit_cache::Error;
use redkit_cache::write_behind::{
    Change, Sink, SinkError, Verdict, WriteBehind, WriteBehindBuilder,
};
use redkit_core::Client;
use redkit_embedded::Embedded;
use redkit_testkit::{FaultyBackend, Fixture};
use tokio::time::{Instant, sleep, timeout};

use crate::write_behind_database::{Database, Mood};

const LONG: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// A worker of this queue looks by itself once an hour.
fn builder(client: &Client) -> WriteBehindBuilder<u64> {
    WriteBehind::builder(client, "stock")
        .partitions(1)
        .poll_interval(60 * LONG)
}

/// Another process's handle.
async fn another(
    fixture: &Fixture,
    builder: impl Fn(&Client) -> WriteBehindBuilder<u64>,
) -> WriteBehind<u64> {
    let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
    builder(&client).open().await.unwrap()
}

/// The database is called soon, though no worker would look by itself.
async fn called(database: &Database, why: &str) {
    let called = timeout(Duration::from_secs(5), database.called()).await;
    called.unwrap_or_else(|_| panic!("no worker was woken by {why}"));
}

/// The worker's subscription stands, and it sleeps.
async fn asleep() {
    sleep(Duration::from_millis(1500)).await;
}

redkit_testkit::suite! {
    async fn a_worker_is_woken_by_the_first_write_of_another_process(fixture: Fixture) -> Result<(), Error> {
        let due_at_once = |client: &Client| builder(client).max_age(Duration::ZERO);
        let database = Database::new();
        let worker = due_at_once(&fixture.client).open().await?.start(database.clone());
        let there = another(&fixture, due_at_once).await;
        asleep().await;
        there.put("k", &1).await?;
        called(&database, "the first write").await;
        worker.shutdown(LONG).await?;
        assert_eq!(database.row("k"), Some(1));
        Ok(())
    }

    async fn a_worker_is_woken_by_a_batch_that_another_process_filled(fixture: Fixture) -> Result<(), Error> {
        let by_three = |client: &Client| builder(client).max_age(60 * LONG).max_batch(3);
        let database = Database::new();
        let worker = by_three(&fixture.client).open().await?.start(database.clone());
        let there = another(&fixture, by_three).await;
        asleep().await;
        there.put("a", &1).await?;
        there.put("b", &1).await?;
        asleep().await;
        assert!(database.batches().is_empty());
        there.put("c", &1).await?;
        called(&database, "a batch that is full").await;
        worker.shutdown(LONG).await?;
        assert_eq!(database.batches(), [3]);
        Ok(())
    }

    async fn a_worker_is_woken_by_a_flush_and_a_redrive_of_another_process(fixture: Fixture) -> Result<(), Error> {
        let seldom = |client: &Client| builder(client).max_age(60 * LONG);
        let database = Database::new();
        database.mood(Mood::Rejects("k"));
        let worker = seldom(&fixture.client).open().await?.start(database.clone());
        let there = another(&fixture, seldom).await;
        there.put("k", &1).await?;
        asleep().await;
        there.flush(Duration::from_secs(5)).await?;
        called(&database, "a flush").await;
        assert_eq!(there.stats().await?.dead_letters, 1);

        database.mood(Mood::Fine);
        asleep().await;
        // A change that the worker puts back is as young as a new write: it is due by the flush.
        assert_eq!(there.redrive_all().await?.redriven, 1);
        there.flush(Duration::from_secs(5)).await?;
        assert_eq!(database.row("k"), Some(1));
        worker.shutdown(LONG).await
    }
}

/// A database that takes its time.
#[derive(Clone)]
struct Slow(Duration);

impl Sink<u64> for Slow {
    async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
        sleep(self.0).await;
        Ok(Verdict::written(batch.len()))
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_for_a_worker_of_another_process_are_told_and_hardly_ask() {
    let engine = Arc::new(Embedded::new());
    let (here, there) = (
        FaultyBackend::new(engine.clone()),
        FaultyBackend::new(engine),
    );
    let open = |client: Client| {
        builder(&client)
            .max_age(Duration::ZERO)
            .max_pending(1)
            .wait_when_full(LONG)
            .lease(LONG)
            .open()
    };
    let (stock, theirs) = (
        open(here.client()).await.unwrap(),
        open(there.client()).await.unwrap(),
    );
    let takes = Duration::from_millis(10_013);
    let worker = theirs.start(Slow(takes));
    sleep(100 * MS).await;
    here.forget();
    for round in ["one waits for room", "another for the end of a flush"] {
        stock.put("a", &1).await.unwrap();
        let start = Instant::now();
        sleep(MS).await;
        match round {
            "one waits for room" => stock.put("b", &2).await.map(drop).unwrap(),
            _ => stock.flush(LONG).await.unwrap(),
        }
        let waited = start.elapsed();
        assert!(
            (takes..takes + 5 * MS).contains(&waited),
            "{round}: {waited:?}"
        );
        let asked = here.seen().len();
        assert!(asked <= 30, "{round}: {asked} commands in ten seconds");
        stock.flush(LONG).await.unwrap();
        here.forget();
    }
    worker.shutdown(LONG).await.unwrap();
}

/// The next report wakes the callers, whatever became of the mark that they left: they look by themselves.
#[tokio::test(start_paused = true)]
async fn a_caller_that_no_message_reaches_asks() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    // Subscriptions to whatever channel say nothing.
    backend.take_over(|_| true);
    let stock = builder(&client)
        .max_age(Duration::ZERO)
        .poll_interval(20 * MS)
        .open()
        .await
        .unwrap();
    let worker = stock.start(Slow(100 * MS));
    let start = Instant::now();
    stock.put("a", &1).await.unwrap();
    stock.flush(LONG).await.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    worker.shutdown(LONG).await.unwrap();
}
