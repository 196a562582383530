//! Write-behind: one worker per partition, whoever hangs or dies; and when batches are due. On a
//! paused clock.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::write_behind::{
    Change, Sink, SinkError, Verdict, WriteBehind, WriteBehindBuilder,
};
use redkit_cache::{Cache, Error};
use redkit_core::Client;
use redkit_embedded::Embedded;
use redkit_testkit::Fixture;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::write_behind_database::{Database, Mood};
use crate::write_behind_link::Link;

const LONG: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);
const LEASE: Duration = Duration::from_secs(1);

/// A sink whose calls never end, and that tells when they begin and are dropped.
#[derive(Clone, Default)]
struct Stuck(Arc<StuckState>);

#[derive(Default)]
struct StuckState {
    begun: Mutex<Vec<Change<u64>>>,
    called: Notify,
    dropped: Mutex<Vec<Instant>>,
}

impl Sink<u64> for Stuck {
    async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
        struct OnDrop(Arc<StuckState>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.dropped.lock().push(Instant::now());
            }
        }
        let _on_drop = OnDrop(Arc::clone(&self.0));
        self.0.begun.lock().extend(batch);
        self.0.called.notify_one();
        std::future::pending().await
    }
}

fn builder(client: &Client) -> WriteBehindBuilder<u64> {
    WriteBehind::builder(client, "stock")
        .partitions(1)
        .max_age(Duration::ZERO)
        .poll_interval(5 * MS)
        .lease(LEASE)
        .sink_timeout(LONG)
}

/// The worker cannot reach the server any more: it stops its call before another may begin. What
/// its call does in the database after that is up to the database, which has the version to judge by.
#[tokio::test(start_paused = true)]
async fn a_worker_that_lost_its_lease_stops_before_another_starts() {
    let engine = Embedded::new();
    let (cut, whole) = (
        Link::new(&engine, Duration::ZERO),
        Link::new(&engine, Duration::ZERO),
    );
    let (there, here) = (
        builder(&cut.client()).open().await.unwrap(),
        builder(&whole.client()).open().await.unwrap(),
    );
    let (stuck, database) = (Stuck::default(), Database::with_fence(true));
    here.put("k", &1).await.unwrap();
    let first = there.start(stuck.clone());
    stuck.0.called.notified().await;
    let begun = Instant::now();
    cut.cut();
    here.put("k", &2).await.unwrap();
    let second = here.start(database.clone());
    database.called().await;
    let taken_over = Instant::now() - begun;
    assert!(
        (LEASE..LEASE + 10 * MS).contains(&taken_over),
        "{taken_over:?}"
    );
    let stopped = stuck.0.dropped.lock()[0] - begun;
    assert!(
        (LEASE * 8 / 10..LEASE * 95 / 100).contains(&stopped),
        "{stopped:?}"
    );
    here.flush(LONG).await.unwrap();
    assert_eq!(database.values_of("k"), [Some(2)]);

    // The ghost of the first call arrives.
    let ghost = stuck.0.begun.lock()[0].clone();
    assert_eq!(ghost.value(), Some(&1));
    assert_eq!(database.apply(&ghost), Verdict::Stale);
    assert_eq!(database.row("k"), Some(2));

    // It comes back, and neither what it held nor what it might report moves anything.
    cut.mend();
    assert_eq!(there.stats().await.unwrap().leases_lost, 1);
    assert_eq!(here.stats().await.unwrap().pending, 0);
    drop(first);
    second.shutdown(LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_call_is_started_when_the_lease_is_over_already() {
    let engine = Embedded::new();
    let (late, whole) = (
        Link::new(&engine, LEASE * 12 / 10),
        Link::new(&engine, Duration::ZERO),
    );
    let (there, here) = (
        builder(&late.client()).open().await.unwrap(),
        builder(&whole.client()).open().await.unwrap(),
    );
    let (stuck, database) = (Stuck::default(), Database::new());
    let first = there.start(stuck.clone());
    sleep(10 * MS).await;
    for n in 0..20_u64 {
        here.put(n, &n).await.unwrap();
        sleep(300 * MS).await;
    }
    let second = here.start(database.clone());
    here.flush(LONG).await.unwrap();
    assert_eq!(database.applied().len(), 20);
    assert!(
        stuck.0.begun.lock().is_empty(),
        "a call under a lease that was over"
    );
    assert!(
        there.stats().await.unwrap().leases_lost > 0,
        "it did take batches"
    );
    drop(first);
    second.shutdown(LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_long_call_keeps_its_lease() {
    let engine = Embedded::new();
    let links = [Link::new(&engine, 20 * MS), Link::new(&engine, 20 * MS)];
    let database = Database::new();
    database.mood(Mood::Held);
    let mut workers = Vec::new();
    let stock = builder(&links[0].client()).open().await.unwrap();
    stock.put("k", &1).await.unwrap();
    for link in &links {
        let stock = builder(&link.client()).open().await.unwrap();
        workers.push((stock.start(database.clone()), stock));
    }
    database.called().await;
    sleep(LEASE * 20).await;
    assert_eq!(database.batches(), [1], "nobody else began");
    stock.put("k", &2).await.unwrap();
    database.mood(Mood::Fine);
    database.go();
    stock.flush(LONG).await.unwrap();
    assert_eq!(database.batches(), [1, 1]);
    assert!(matches!(
        database.values_of("k")[..],
        [Some(1), Some(2)] | [Some(2)]
    ));
    for (worker, stock) in workers {
        assert_eq!(stock.stats().await.unwrap().leases_lost, 0);
        worker.shutdown(LONG).await.unwrap();
    }
}

/// Only a cache that was told lets a change leave the queue: until then, readers find it there.
#[tokio::test(start_paused = true)]
async fn a_change_stays_while_the_cache_cannot_be_told() {
    let engine = Embedded::new();
    let links = [
        Link::new(&engine, Duration::ZERO),
        Link::new(&engine, Duration::ZERO),
    ];
    let cache = Cache::builder(&links[0].client(), "stock")
        .redis_timeout(crate::PATIENT)
        .ttl(LONG)
        .build()
        .unwrap();
    cache.set("k", &1).await.unwrap();
    let stock = builder(&links[1].client())
        .cache(&cache)
        .open()
        .await
        .unwrap();
    let database = Database::new();
    links[0].cut();
    stock.put("k", &2).await.unwrap();
    let worker = stock.start(database.clone());
    database.called().await;
    // Much longer than its lease, and than a call of the cache takes to fail.
    for _ in 0..20 {
        sleep(LEASE).await;
        assert!(stock.pending("k").await.unwrap().is_some());
    }
    assert_eq!(database.row("k"), Some(2));
    links[0].mend();
    stock.flush(LONG).await.unwrap();
    let load = || async { Ok::<_, std::io::Error>(9) };
    assert_eq!(*cache.get_or_load("k", load).await.unwrap(), 9, "told");
    assert!(stock.pending("k").await.unwrap().is_none());
    worker.shutdown(LONG).await.unwrap();
}

/// The cache takes longer than the lease to be told: nobody else takes the batch meanwhile.
#[tokio::test(start_paused = true)]
async fn the_lease_is_kept_while_the_cache_is_told() {
    let engine = Embedded::new();
    let (slow, fast) = (
        Link::new(&engine, LEASE * 2),
        Link::new(&engine, Duration::ZERO),
    );
    let cache = Cache::builder(&slow.client(), "stock")
        .redis_timeout(crate::PATIENT)
        .ttl(LONG)
        .build()
        .unwrap();
    let stock = builder(&fast.client()).cache(&cache).open().await.unwrap();
    let database = Database::new();
    stock.put("k", &1).await.unwrap();
    let workers = [stock.start(database.clone()), stock.start(database.clone())];
    stock.flush(LONG).await.unwrap();
    assert_eq!(database.batches(), [1], "written once");
    assert_eq!(stock.stats().await.unwrap().leases_lost, 0);
    for worker in workers {
        worker.shutdown(LONG).await.unwrap();
    }
}

redkit_testkit::suite! {
    #[paused]
    async fn dropping_a_worker_ends_it_and_its_batch_goes_to_another(fixture: Fixture) -> Result<(), Error> {
        let (stock, stuck, database) = (builder(&fixture.client).open().await?, Stuck::default(), Database::new());
        stock.put("k", &1).await?;
        let first = stock.start(stuck.clone());
        stuck.0.called.notified().await;
        let begun = Instant::now();
        drop(first);
        let second = stock.start(database.clone());
        database.called().await;
        let waited = begun.elapsed();
        assert!((LEASE..LEASE + 10 * MS).contains(&waited), "{waited:?}");
        assert_eq!(stuck.0.dropped.lock().len(), 1);
        stock.flush(LONG).await?;
        assert_eq!(database.values_of("k"), [Some(1)]);
        second.shutdown(LONG).await
    }

    /// A change that kills every worker that touches it ends as a dead letter.
    #[paused]
    async fn a_change_that_kills_its_workers_is_given_up(fixture: Fixture) -> Result<(), Error> {
        let stock = builder(&fixture.client).max_batch(4).max_attempts(2).open().await?;
        for n in 0..4_u64 {
            stock.put(n, &n).await?;
        }
        /// Dies with the batch that holds the key 2.
        #[derive(Clone)]
        struct Deadly { killed: Arc<Notify>, database: Database }
        impl Sink<u64> for Deadly {
            async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
                if batch.iter().any(|change| change.key_str() == Some("2")) {
                    self.killed.notify_one();
                    std::future::pending().await
                }
                self.database.write(batch).await
            }
        }
        let sink = Deadly { killed: Arc::new(Notify::new()), database: Database::new() };
        let mut deaths = 0;
        loop {
            let worker = stock.start(sink.clone());
            tokio::select! {
                () = sink.killed.notified() => deaths += 1,
                flushed = stock.flush(LONG) => {
                    flushed?;
                    break worker.shutdown(LONG).await?;
                }
            }
            drop(worker);
        }
        assert_eq!(deaths, 4, "with three others, with one, and alone twice");
        assert_eq!(sink.database.applied().len(), 3);
        let page = stock.dead_letters(None, 10).await?;
        assert_eq!(&page.letters[0].key()[..], b"2");
        assert_eq!(page.letters[0].error(), "the worker ended while writing it");
        Ok(())
    }

    #[paused]
    async fn a_batch_is_due_by_its_age_or_its_size(fixture: Fixture) -> Result<(), Error> {
        let stock = WriteBehind::builder(&fixture.client, "due").partitions(1)
            .max_age(Duration::from_secs(2)).max_batch(10).open().await?;
        let database = Database::new();
        let worker = stock.start(database.clone());
        sleep(LONG).await;
        let start = Instant::now();
        stock.put("k", &0).await?;
        for n in 1..5_u64 {
            sleep(300 * MS).await;
            stock.put("k", &n).await?;
        }
        database.called().await;
        let age = start.elapsed();
        assert!((2000 * MS..2010 * MS).contains(&age), "{age:?}, however often it was written");
        assert_eq!(database.values_of("k"), [Some(4)]);

        let start = Instant::now();
        for n in 0..10_u64 {
            stock.put(n, &n).await?;
        }
        database.called().await;
        assert!(start.elapsed() < 10 * MS, "{:?}", start.elapsed());
        assert_eq!(database.batches(), [1, 10]);

        let start = Instant::now();
        stock.put("k", &5).await?;
        stock.flush(LONG).await?;
        assert!(start.elapsed() < 20 * MS, "a flush does not wait: {:?}", start.elapsed());
        assert_eq!(database.row("k"), Some(5));
        worker.shutdown(LONG).await
    }

    #[paused]
    async fn a_shutdown_writes_what_is_pending_and_is_bounded(fixture: Fixture) -> Result<(), Error> {
        let build = || WriteBehind::builder(&fixture.client, "stop").partitions(4).max_age(LONG).lease(LEASE).max_batch(100);
        let (stock, database) = (build().open().await?, Database::new());
        for n in 0..50_u64 {
            stock.put(n, &n).await?;
        }
        let start = Instant::now();
        stock.start(database.clone()).shutdown(LONG).await?;
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(database.applied().len(), 50);

        stock.put("k", &1).await?;
        let stuck = Stuck::default();
        let worker = stock.start(stuck.clone());
        let start = Instant::now();
        let error = worker.shutdown(Duration::from_secs(3)).await.unwrap_err();
        assert!(matches!(error, Error::NotFlushed { pending: 1, .. }) && error.is_retryable(), "{error}");
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert_eq!(stuck.0.dropped.lock().len(), 1, "its call is dropped");
        assert_eq!(stock.stats().await?.pending, 1, "and its change kept");
        let worker = stock.start(database.clone());
        worker.shutdown(LONG).await?;
        assert_eq!(database.row("k"), Some(1));
        Ok(())
    }

    /// Two workers and a database that is slow by turns: no key is ever in two calls at once, and its
    /// versions only grow.
    #[multi_thread]
    async fn several_workers_share_the_queue_in_order(fixture: Fixture) -> Result<(), Error> {
        #[derive(Clone)]
        struct Watched { database: Database, at_work: Arc<Mutex<std::collections::HashSet<String>>> }
        impl Sink<u64> for Watched {
            async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
                let keys: Vec<_> = batch.iter().map(|c| c.key_str().unwrap().to_owned()).collect();
                for key in &keys {
                    assert!(self.at_work.lock().insert(key.clone()), "{key} is in two calls");
                }
                sleep(Duration::from_micros(rand::random_range(0..3000))).await;
                let result = self.database.write(batch).await;
                for key in &keys {
                    self.at_work.lock().remove(key);
                }
                result
            }
        }
        let sink = Watched { database: Database::new(), at_work: Arc::default() };
        let open = |client: Client| WriteBehind::<u64>::builder(&client, "shared")
            .partitions(3).max_age(Duration::ZERO).poll_interval(2 * MS).max_batch(5).open();
        let (one, two) = (open(fixture.client.clone()).await?, open(fixture.connect(fixture.config().unwrap()).await.unwrap()).await?);
        let workers = [one.start(sink.clone()), two.start(sink.clone()), two.start(sink.clone())];
        let mut last = std::collections::BTreeMap::new();
        for n in 0..400_u64 {
            let key = format!("k{}", rand::random_range(0..12));
            let stock = if n % 2 == 0 { &one } else { &two };
            match n % 7 {
                0 => stock.delete(&key).await?,
                _ => stock.put(&key, &n).await?,
            };
            last.insert(key, (n % 7 != 0).then_some(n));
        }
        one.flush(LONG).await?;
        for (key, value) in last {
            assert_eq!(sink.database.row(&key), value, "{key}");
            let applied = sink.database.applied();
            let versions: Vec<_> = applied.iter().filter(|a| a.key == key).map(|a| a.version).collect();
            assert!(versions.is_sorted_by(|a, b| a < b), "{key}: {versions:?}");
        }
        assert_eq!(one.stats().await?.dead_letters, 0, "no call panicked");
        for worker in workers {
            worker.shutdown(LONG).await?;
        }
        Ok(())
    }
}
