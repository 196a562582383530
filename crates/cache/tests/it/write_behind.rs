//! Write-behind: accepted writes are seen at once, coalesced, and reach the database in order.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redkit_cache::write_behind::{Current, WriteBehind, WriteId};
use redkit_cache::{Cache, Error, Source};
use redkit_core::{Client, Command, Error as CoreError};
use redkit_testkit::Fixture;

use crate::write_behind_database::Database;

const LONG: Duration = Duration::from_secs(60);

fn cache(client: &Client) -> Cache<u64> {
    Cache::builder(client, "stock")
        .redis_timeout(crate::PATIENT)
        .ttl(LONG)
        .build()
        .unwrap()
}

async fn open(client: &Client) -> WriteBehind<u64> {
    WriteBehind::builder(client, "stock")
        .cache(&cache(client))
        .partitions(4)
        .max_age(Duration::from_millis(20))
        .open()
        .await
        .unwrap()
}

async fn read(stock: &WriteBehind<u64>, key: &str, database: &Database) -> Option<u64> {
    let loader = || database.clone().load(key.to_owned());
    stock.get_or_load(key, loader).await.unwrap().into_value()
}

redkit_testkit::suite! {
    async fn accepted_writes_are_seen_by_all_at_once_and_reach_the_database(fixture: Fixture) -> Result<(), Error> {
        let (here, database) = (open(&fixture.client).await, Database::new());
        let there = open(&fixture.connect(fixture.config().unwrap()).await.unwrap()).await;
        here.put("42", &1).await?;
        assert!(matches!(there.pending("42").await?, Some(Current::Pending(1))));
        assert_eq!(read(&there, "42", &database).await, Some(1));
        let version = there.put("42", &2).await?;
        assert_eq!(read(&here, "42", &database).await, Some(2));
        assert!(!database.knows("42"));

        let worker = there.start(database.clone());
        here.flush(LONG).await?;
        assert_eq!(database.values_of("42"), [Some(2)], "coalesced");
        assert_eq!(database.applied()[0].version, version);
        assert!(here.pending("42").await?.is_none());
        let got = here.get_or_load("42", || database.clone().load("42".into())).await?;
        let Current::Fetched(fetched) = got else { panic!("{got:?}") };
        assert_eq!((*fetched, fetched.source()), (2, Source::Loaded));
        worker.shutdown(LONG).await
    }

    async fn the_last_of_puts_and_deletes_wins(fixture: Fixture) -> Result<(), Error> {
        let (stock, database) = (open(&fixture.client).await, Database::new());
        let worker = stock.start(database.clone());
        for key in ["deleted", "put back"] {
            stock.put(key, &1).await?;
            stock.flush(LONG).await?;
        }
        stock.put("deleted", &2).await?;
        stock.delete("deleted").await?;
        stock.delete("put back").await?;
        assert!(matches!(stock.pending("deleted").await?, Some(Current::Deleted) | None));
        stock.put("put back", &3).await?;
        stock.flush(LONG).await?;
        assert_eq!((database.row("deleted"), database.row("put back")), (None, Some(3)));
        // However the batches fell, the versions only grew.
        for key in ["deleted", "put back"] {
            let versions: Vec<_> = database.applied().iter().filter(|a| a.key == key).map(|a| a.version).collect();
            assert!(versions.is_sorted(), "{versions:?}");
        }
        worker.shutdown(LONG).await
    }

    async fn a_delete_is_seen_before_it_is_written(fixture: Fixture) -> Result<(), Error> {
        let (stock, database) = (open(&fixture.client).await, Database::new());
        let worker = stock.start(database.clone());
        stock.put("k", &1).await?;
        stock.flush(LONG).await?;
        worker.shutdown(LONG).await?;
        assert_eq!(read(&stock, "k", &database).await, Some(1), "cached");
        stock.delete("k").await?;
        assert_eq!(read(&stock, "k", &database).await, None);
        assert_eq!(database.row("k"), Some(1));
        Ok(())
    }

    async fn what_the_database_may_not_have_is_looked_for_behind_the_queue(fixture: Fixture) -> Result<(), Error> {
        let (stock, database) = (open(&fixture.client).await, Database::new());
        let find = async |key: &'static str| {
            let load = || std::future::ready(Ok::<_, Infallible>(database.row(key)));
            stock.find_or_load(key, load).await
        };
        assert!(find("k").await?.is_none(), "nobody has it");
        stock.put("k", &1).await?;
        assert!(matches!(find("k").await?, Some(Current::Pending(1))));
        let worker = stock.start(database.clone());
        stock.flush(LONG).await?;
        worker.shutdown(LONG).await?;
        let Some(Current::Fetched(fetched)) = find("k").await? else { panic!("it is in the database") };
        assert_eq!(*fetched, 1);
        stock.delete("k").await?;
        assert!(matches!(find("k").await?, Some(Current::Deleted)));
        Ok(())
    }

    async fn a_write_id_is_accepted_once(fixture: Fixture) -> Result<(), Error> {
        let stock = open(&fixture.client).await;
        let id = WriteId::random();
        let first = stock.put_as(id, "k", &1).await?;
        let second = stock.put("k", &2).await?;
        assert!(second > first);
        assert_eq!(stock.put_as(id, "k", &1).await?, first, "recognised");
        assert!(matches!(stock.pending("k").await?, Some(Current::Pending(2))), "and not repeated");
        let deletion = WriteId::from_bytes([7; 16]);
        let deleted = stock.delete_as(deletion, "k").await?;
        stock.put("k", &3).await?;
        assert_eq!(stock.delete_as(deletion, "k").await?, deleted);
        assert!(matches!(stock.pending("k").await?, Some(Current::Pending(3))));
        Ok(())
    }

    /// A request that writes several keys under its id, some of them in one partition.
    async fn a_write_id_counts_for_each_key_by_itself(fixture: Fixture) -> Result<(), Error> {
        let stock: WriteBehind<u64> = WriteBehind::builder(&fixture.client, "ids").partitions(1).open().await?;
        let id = WriteId::random();
        let a = stock.put_as(id, "a", &1).await?;
        let b = stock.put_as(id, "b", &2).await?;
        assert!(b > a);
        assert!(matches!(stock.pending("b").await?, Some(Current::Pending(2))));
        assert_eq!((stock.put_as(id, "a", &1).await?, stock.put_as(id, "b", &2).await?), (a, b), "recognised");
        Ok(())
    }

    /// The server's clock was an hour ahead and is set back: versions go on growing, and nothing waits
    /// for the clock.
    async fn a_clock_that_is_set_back_holds_nothing_up(fixture: Fixture) -> Result<(), Error> {
        let stock = WriteBehind::builder(&fixture.client, "clock")
            .partitions(1)
            .max_age(Duration::from_millis(20))
            .poll_interval(Duration::from_millis(5))
            .backoff(Duration::from_millis(10), Duration::from_millis(100))
            .open()
            .await?;
        let key = |role| format!("{}:write-behind:clock:{{clock.0}}:{role}", fixture.namespace());
        stock.put("resting", &1).await?;
        let ahead = stock.put("k", &1).await? + 3_600_000_000;
        let client = &fixture.client;
        client.call::<u64>(Command::new("HSET").key(key("state")).arg("seq").arg(ahead)).await?;
        client.call::<u64>(Command::new("ZREM").key(key("ready")).arg("resting")).await?;
        client.call::<u64>(Command::new("ZADD").key(key("later")).arg(ahead).arg("resting")).await?;
        for name in ["k", "new"] {
            assert!(stock.put(name, &2).await? > ahead, "versions grow");
        }
        let database = Database::new();
        let worker = stock.start(database.clone());
        let written = async {
            while stock.stats().await.unwrap().pending > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, written).await.expect("it waits for the clock");
        let rows = ["resting", "k", "new"].map(|name| database.row(name));
        assert_eq!(rows, [Some(1), Some(2), Some(2)]);
        worker.shutdown(LONG).await
    }

    async fn a_flush_and_a_shutdown_take_any_limit(fixture: Fixture) -> Result<(), Error> {
        let (stock, database) = (open(&fixture.client).await, Database::new());
        let worker = stock.start(database.clone());
        stock.put("k", &1).await?;
        stock.flush(Duration::MAX).await?;
        stock.put("k", &2).await?;
        worker.shutdown(Duration::MAX).await?;
        assert_eq!(database.values_of("k"), [Some(1), Some(2)]);
        Ok(())
    }

    async fn a_full_queue_refuses_other_keys_and_takes_those_it_has(fixture: Fixture) -> Result<(), Error> {
        let build = |wait| {
            WriteBehind::<u64>::builder(&fixture.client, "small")
                .partitions(1)
                .max_pending(2)
                .max_age(Duration::from_millis(10))
                .wait_when_full(wait)
                .open()
        };
        let stock = build(Duration::ZERO).await?;
        stock.put("a", &1).await?;
        stock.put("b", &1).await?;
        let error = stock.put("c", &1).await.unwrap_err();
        assert!(matches!(error, Error::QueueFull { pending: 2 }) && error.is_retryable(), "{error}");
        assert!(stock.pending("c").await?.is_none());
        stock.put("a", &2).await?;
        stock.delete("b").await?;
        let stats = stock.stats().await?;
        assert_eq!((stats.pending, stats.accepted, stats.coalesced, stats.refused), (2, 4, 2, 1));

        let patient = build(LONG).await?;
        let database = Database::new();
        let (accepted, worker) = tokio::join!(patient.put("c", &3), async { stock.start(database.clone()) });
        accepted?;
        stock.flush(LONG).await?;
        assert_eq!((database.row("a"), database.row("b"), database.row("c")), (Some(2), None, Some(3)));
        worker.shutdown(LONG).await
    }

    async fn another_number_of_partitions_is_refused_and_loses_nothing(fixture: Fixture) -> Result<(), Error> {
        let stock = open(&fixture.client).await;
        for n in 0..40_u64 {
            stock.put(n, &n).await?;
        }
        for other in [1, 3, 5, 16] {
            let opened = WriteBehind::<u64>::builder(&fixture.client, "stock").partitions(other).open().await;
            let Err(Error::Partitions { stored: 4, configured }) = opened else { panic!("{opened:?}") };
            assert_eq!(configured, other);
        }
        assert_eq!(open(&fixture.client).await.stats().await?.pending, 40);
        Ok(())
    }

    async fn any_bytes_are_a_key_and_keys_are_where_they_are_documented(fixture: Fixture) -> Result<(), Error> {
        let stock: WriteBehind<String> = WriteBehind::builder(&fixture.client, "bytes").partitions(1).open().await?;
        let keys = [&b""[..], b"a b", b"{x}\0\xff\n", b"%", b"-", b"(", b"+inf"];
        for key in keys {
            stock.put(key, &format!("{key:?} \0 \n")).await?;
        }
        for key in keys {
            let Some(Current::Pending(value)) = stock.pending(key).await? else { panic!("{key:?}") };
            assert_eq!(value, format!("{key:?} \0 \n"));
        }
        let name = format!("{}:write-behind:bytes:{{bytes.0}}:changes", fixture.namespace());
        let stored: u64 = fixture.client.call(Command::new("HLEN").key(&name)).await?;
        assert_eq!(stored, keys.len() as u64);
        Ok(())
    }

    /// While one task writes and another flushes, a reader never sees a value go back: what left the
    /// queue is in the database, and the cache has been told.
    #[multi_thread]
    async fn readers_never_go_back_while_changes_move_to_the_database(fixture: Fixture) -> Result<(), Error> {
        let database = Database::new();
        let stock = WriteBehind::builder(&fixture.client, "stock")
            .cache(&cache(&fixture.client))
            .partitions(4)
            .max_age(Duration::ZERO)
            .poll_interval(Duration::from_millis(1))
            .open()
            .await?;
        // The readers' cache is another process's, as it were.
        let there = WriteBehind::builder(&fixture.client, "stock")
            .cache(&cache(&fixture.connect(fixture.config().unwrap()).await.unwrap()))
            .partitions(4)
            .open()
            .await?;
        let worker = stock.start(database.clone());
        let done = Arc::new(AtomicBool::new(false));
        stock.put("k", &0).await?;
        let writer = tokio::spawn({
            let (stock, done) = (stock.clone(), Arc::clone(&done));
            async move {
                for n in 1..=200_u64 {
                    stock.put("k", &n).await.unwrap();
                    if n % 4 == 0 {
                        stock.flush(LONG).await.unwrap();
                    }
                }
                done.store(true, Ordering::SeqCst);
            }
        });
        let reader = tokio::spawn({
            let (stock, database) = (there, database.clone());
            async move {
                let (mut last, mut pending, mut fetched) = (0, 0, 0);
                while !done.load(Ordering::SeqCst) {
                    let got = stock.get_or_load("k", || database.clone().load("k".into())).await.unwrap();
                    match got {
                        Current::Fetched(_) => fetched += 1,
                        _ => pending += 1,
                    }
                    let value = got.into_value().unwrap();
                    assert!(value >= last, "{value} after {last}");
                    last = value;
                }
                assert!(pending > 0 && fetched > 0, "both ways were taken: {pending}, {fetched}");
            }
        });
        writer.await.unwrap();
        reader.await.unwrap();
        stock.flush(LONG).await?;
        assert_eq!(read(&stock, "k", &database).await, Some(200));
        let applied = database.applied();
        assert!(applied.is_sorted_by_key(|a| a.version), "in order");
        worker.shutdown(LONG).await
    }

    async fn statistics_say_what_is_pending(fixture: Fixture) -> Result<(), Error> {
        let (stock, database) = (open(&fixture.client).await, Database::new());
        for n in 0..10_u64 {
            stock.put(n, &n).await?;
        }
        let stats = stock.stats().await?;
        assert_eq!((stats.pending, stats.in_flight, stats.dead_letters, stats.accepted), (10, 0, 0, 10));
        assert!(stats.oldest < LONG);
        let worker = stock.start(database);
        stock.flush(LONG).await?;
        worker.shutdown(LONG).await?;
        let stats = stock.stats().await?;
        assert_eq!((stats.pending, stats.written, stats.retries, stats.oldest), (0, 10, 0, Duration::ZERO));
        Ok(())
    }

    async fn settings_that_cannot_work_name_themselves(fixture: Fixture) {
        type Set = fn(redkit_cache::write_behind::WriteBehindBuilder<u64>) -> redkit_cache::write_behind::WriteBehindBuilder<u64>;
        let cases: [(&str, Set); 9] = [
            ("partitions", |b| b.partitions(0)),
            ("max_batch", |b| b.max_batch(1001)),
            ("max_pending", |b| b.max_pending(0)),
            ("max_attempts", |b| b.max_attempts(0)),
            ("concurrency", |b| b.concurrency(0)),
            ("backoff", |b| b.backoff(LONG, Duration::from_secs(1))),
            ("lease", |b| b.lease(Duration::from_millis(1))),
            ("sink_timeout", |b| b.sink_timeout(Duration::ZERO)),
            ("max_age", |b| b.max_age(Duration::MAX)),
        ];
        for (field, set) in cases {
            let opened = set(WriteBehind::builder(&fixture.client, "x")).open().await;
            let Err(Error::Core(CoreError::Config(error))) = opened else { panic!("{field}") };
            assert_eq!(error.field(), field);
        }
        let opened = WriteBehind::<u64>::builder(&fixture.client, "a b").open().await;
        assert!(matches!(opened, Err(Error::Core(CoreError::Config(_)))));
        let without = WriteBehind::<u64>::builder(&fixture.client, "x").open().await.unwrap();
        let error = without.get_or_load("k", || async { Ok::<u64, std::io::Error>(1) }).await.unwrap_err();
        assert!(matches!(error, Error::NoCache));
    }
}
