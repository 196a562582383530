//! Write-behind when the database fails: retries, isolation, dead letters.

use std::time::Duration;

use redkit_cache::Error;
use redkit_cache::write_behind::{DeadLetter, WriteBehind, WriteBehindBuilder};
use redkit_core::{Client, Command};
use redkit_testkit::Fixture;
use tokio::time::Instant;

use crate::write_behind_database::{Database, Mood};

const LONG: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

fn builder(client: &Client) -> WriteBehindBuilder<u64> {
    WriteBehind::builder(client, "orders")
        .partitions(1)
        .max_age(5 * MS)
        .poll_interval(5 * MS)
        .backoff(2 * MS, 20 * MS)
        .max_attempts(3)
}

async fn letters(orders: &WriteBehind<u64>) -> Vec<DeadLetter> {
    orders.dead_letters(None, 1000).await.unwrap().letters
}

redkit_testkit::suite! {
    async fn a_failing_key_holds_up_only_itself_and_ends_as_a_dead_letter(fixture: Fixture) -> Result<(), Error> {
        let (orders, database) = (builder(&fixture.client).open().await?, Database::new());
        database.mood(Mood::Fails("bad"));
        let version = orders.put("bad", &7).await?;
        for n in 0..20_u64 {
            orders.put(n, &n).await?;
        }
        let worker = orders.start(database.clone());
        orders.flush(LONG).await?;
        assert_eq!(database.applied().len(), 20);
        let letters = letters(&orders).await;
        let [letter] = &*letters else { panic!("{letters:?}") };
        assert_eq!((&letter.key()[..], letter.version(), letter.attempts()), (&b"bad"[..], version, 3));
        assert_eq!((letter.error(), letter.is_superseded()), ("deadlock", false));
        assert_eq!(letter.raw().as_deref(), Some(&b"7"[..]));
        assert_eq!(orders.value_of(letter)?, Some(7));
        assert!(letter.died_at().elapsed().is_ok_and(|age| age < LONG) || fixture.kind.is_networked());
        assert!(orders.pending("bad").await?.is_none());
        let stats = orders.stats().await?;
        assert_eq!((stats.dead_letters, stats.given_up, stats.retries, stats.pending), (1, 1, 2, 0));

        // The database has recovered.
        database.mood(Mood::Fine);
        let redriven = orders.redrive("bad").await?;
        assert_eq!((redriven.redriven, redriven.superseded, redriven.missing), (1, 0, 0));
        assert_eq!(orders.redrive("bad").await?.missing, 1);
        orders.flush(LONG).await?;
        assert_eq!(database.row("bad"), Some(7));
        worker.shutdown(LONG).await
    }

    async fn what_is_rejected_is_not_tried_again(fixture: Fixture) -> Result<(), Error> {
        let (orders, database) = (builder(&fixture.client).open().await?, Database::new());
        database.mood(Mood::Rejects("bad"));
        orders.delete("bad").await?;
        let worker = orders.start(database.clone());
        orders.flush(LONG).await?;
        let letters = letters(&orders).await;
        assert_eq!((letters[0].attempts(), letters[0].error()), (1, "violates a constraint"));
        assert_eq!((letters[0].raw(), orders.value_of(&letters[0])?), (None, None));
        assert_eq!(database.batches(), [1]);
        assert!(orders.discard("bad").await? && !orders.discard("bad").await?);
        assert_eq!(orders.stats().await?.dead_letters, 0);
        worker.shutdown(LONG).await
    }

    async fn a_newer_write_supersedes_a_dead_letter_for_ever(fixture: Fixture) -> Result<(), Error> {
        let (orders, database) = (builder(&fixture.client).open().await?, Database::new());
        database.mood(Mood::Rejects("k"));
        orders.put("k", &1).await?;
        let worker = orders.start(database.clone());
        orders.flush(LONG).await?;
        database.mood(Mood::Fine);
        orders.put("k", &2).await?;
        assert_eq!(orders.redrive("k").await?.superseded, 1, "while the newer one is pending");
        orders.flush(LONG).await?;
        assert_eq!(orders.redrive_all().await?.superseded, 1, "and after it was written");
        orders.flush(LONG).await?;
        assert_eq!(database.values_of("k"), [Some(2)]);
        let letters = letters(&orders).await;
        assert!(letters[0].is_superseded());
        assert_eq!(orders.value_of(&letters[0])?, Some(1), "kept for who wants to know");
        worker.shutdown(LONG).await
    }

    async fn dead_letters_come_in_pages_and_go_back_or_away_together(fixture: Fixture) -> Result<(), Error> {
        let build = || WriteBehind::<u64>::builder(&fixture.client, "many").partitions(3).max_age(MS).poll_interval(5 * MS).max_attempts(1);
        let (orders, database) = (build().open().await?, Database::new());
        database.mood(Mood::Errs);
        // Batches of one: each change's failure is its own.
        let worker = build().max_batch(1).open().await?.start(database.clone());
        for n in 0..25_u64 {
            orders.put(n, &n).await?;
        }
        orders.flush(LONG).await?;
        for count in [1, 4, 25, 1000] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = orders.dead_letters(cursor.as_ref(), count).await?;
                assert!(page.letters.len() <= count);
                seen.extend(page.letters.iter().map(|l| String::from_utf8_lossy(l.key()).parse::<u64>().unwrap()));
                assert!(page.letters.iter().all(|l| l.error() == "lost postgres://***@db/shop"));
                cursor = page.next;
                if cursor.is_none() { break }
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..25), "pages of {count}");
        }
        database.mood(Mood::Fine);
        orders.put(3_u64, &33).await?;
        let redriven = orders.redrive_all().await?;
        assert_eq!((redriven.redriven, redriven.superseded), (24, 1));
        orders.flush(LONG).await?;
        assert_eq!(database.applied().len(), 25);
        assert_eq!((database.row("3"), database.row("4")), (Some(33), Some(4)));
        assert_eq!(orders.discard_all().await?, 1);
        assert_eq!(orders.discard_all().await?, 0);
        worker.shutdown(LONG).await
    }

    /// A change that breaks its whole batch, whichever way, ends up alone; the others are written.
    async fn what_breaks_its_batch_ends_up_alone(fixture: Fixture) -> Result<(), Error> {
        for (name, mood, text) in [
            ("panics", Mood::PanicsAt("13"), "the sink panicked"),
            ("hangs", Mood::HangsAt("13"), "no answer within 100ms (`sink_timeout`)"),
            ("forgets", Mood::ForgetsAt("13"), "the sink gave 0 verdicts on 1 changes"),
        ] {
            let orders = WriteBehind::builder(&fixture.client, name)
                .partitions(1).max_age(MS).poll_interval(5 * MS).backoff(2 * MS, 10 * MS)
                .max_attempts(2).max_batch(16).sink_timeout(100 * MS).open().await?;
            let database = Database::new();
            database.mood(mood);
            for n in 0..16_u64 {
                orders.put(n, &n).await?;
            }
            let worker = orders.start(database.clone());
            orders.flush(LONG).await?;
            let letters = letters(&orders).await;
            let [letter] = &*letters else { panic!("{name}: {letters:?}") };
            assert_eq!((&letter.key()[..], letter.attempts(), letter.error()), (&b"13"[..], 2, text));
            let applied: std::collections::HashSet<_> = database.applied().into_iter().map(|a| a.key).collect();
            assert_eq!(applied.len(), 15, "{name}");
            assert!((0..16).filter(|n| *n != 13).all(|n| database.row(&n.to_string()) == Some(n)), "{name}");
            worker.shutdown(LONG).await?;
        }
        Ok(())
    }

    async fn an_unavailable_database_kills_no_change(fixture: Fixture) -> Result<(), Error> {
        let (orders, database) = (builder(&fixture.client).open().await?, Database::new());
        database.mood(Mood::Down);
        orders.put("k", &1).await?;
        let worker = orders.start(database.clone());
        while database.batches().len() < 8 {
            database.called().await;
        }
        let stats = orders.stats().await?;
        assert_eq!((stats.pending, stats.dead_letters, stats.retries), (1, 0, 0));
        database.mood(Mood::Fine);
        orders.flush(LONG).await?;
        assert_eq!(database.row("k"), Some(1));
        worker.shutdown(LONG).await
    }

    async fn a_flush_waits_for_a_change_that_fails_though_a_newer_one_has_come(fixture: Fixture) -> Result<(), Error> {
        let (orders, database) = (builder(&fixture.client).open().await?, Database::new());
        database.mood(Mood::HeldThenFails("k"));
        orders.put("k", &1).await?;
        let worker = orders.start(database.clone());
        database.called().await;
        let flushing = tokio::spawn({
            let orders = orders.clone();
            async move { orders.flush(LONG).await }
        });
        let state = format!("{}:write-behind:orders:{{orders.0}}:state", fixture.namespace());
        while !fixture.client.call::<bool>(Command::new("HEXISTS").key(&state).arg("flush")).await? {
            tokio::time::sleep(MS).await;
        }
        orders.put("k", &2).await?;
        database.mood(Mood::Down);
        database.go();
        // The first attempt has failed, and the database is away.
        for _ in 0..2 {
            database.called().await;
        }
        assert!(!flushing.is_finished() && !database.knows("k"));
        database.mood(Mood::Fine);
        flushing.await.unwrap()?;
        assert_eq!(database.values_of("k"), [Some(2)], "the newer one stands for both");
        worker.shutdown(LONG).await
    }

    async fn bytes_that_are_no_value_become_a_dead_letter_and_are_kept(fixture: Fixture) -> Result<(), Error> {
        let texts: WriteBehind<String> = WriteBehind::builder(&fixture.client, "orders").partitions(1).open().await?;
        texts.put("k", &"text".to_owned()).await?;
        let (orders, database) = (builder(&fixture.client).open().await?, Database::new());
        assert!(matches!(orders.pending("k").await, Err(Error::Core(redkit_core::Error::Decode { .. }))));
        orders.put("sound", &1).await?;
        let worker = orders.start(database.clone());
        orders.flush(LONG).await?;
        let letters = letters(&orders).await;
        assert_eq!(letters[0].raw().as_deref(), Some(&b"\"text\""[..]));
        assert!(orders.value_of(&letters[0]).is_err());
        assert_eq!(texts.value_of(&letters[0])?.as_deref(), Some("text"));
        assert_eq!((database.row("sound"), database.knows("k")), (Some(1), false));
        worker.shutdown(LONG).await
    }

    /// Only a cache that was told lets a change leave the queue.
    async fn a_change_stays_until_the_cache_is_told(fixture: Fixture) -> Result<(), Error> {
        let cache = redkit_cache::Cache::builder(&fixture.client, "orders").redis_timeout(crate::PATIENT).ttl(LONG).build()?;
        let (orders, database) = (builder(&fixture.client).cache(&cache).open().await?, Database::new());
        database.mood(Mood::Held);
        cache.set("k", &1).await?;
        orders.put("k", &2).await?;
        let worker = orders.start(database.clone());
        database.called().await;
        let load = || async { Ok::<_, std::io::Error>(9) };
        assert_eq!(*cache.get_or_load("k", load).await?, 1, "the database has it not yet");
        database.mood(Mood::Fine);
        database.go();
        while orders.pending("k").await?.is_some() {
            tokio::time::sleep(MS).await;
        }
        assert_eq!(*cache.get_or_load("k", load).await?, 9, "it was removed");
        worker.shutdown(LONG).await
    }

    #[paused]
    async fn pauses_between_attempts_grow(fixture: Fixture) -> Result<(), Error> {
        let orders = WriteBehind::builder(&fixture.client, "slow")
            .partitions(1).max_age(Duration::ZERO).poll_interval(MS)
            .backoff(100 * MS, 400 * MS).max_attempts(6).open().await?;
        let database = Database::new();
        database.mood(Mood::Fails("k"));
        orders.put("k", &1).await?;
        let worker = orders.start(database.clone());
        let mut times = Vec::new();
        for _ in 0..6 {
            database.called().await;
            times.push(Instant::now());
        }
        for (pair, whole) in times.windows(2).zip([100, 200, 400, 400, 400]) {
            let pause = pair[1] - pair[0];
            assert!((whole / 2 * MS..=(whole + 3) * MS).contains(&pause), "{pause:?} of {whole} ms");
        }
        orders.flush(LONG).await?;
        assert_eq!(letters(&orders).await.len(), 1);
        worker.shutdown(LONG).await
    }

    /// A newer write of a key that failed has attempts of its own, at the key's pace.
    #[paused]
    async fn a_newer_write_begins_anew_at_the_keys_pace(fixture: Fixture) -> Result<(), Error> {
        let orders = WriteBehind::builder(&fixture.client, "slow")
            .partitions(1).max_age(Duration::ZERO).poll_interval(MS)
            .backoff(1000 * MS, 1000 * MS).max_attempts(2).open().await?;
        let database = Database::new();
        database.mood(Mood::Fails("k"));
        let worker = orders.start(database.clone());
        for n in 0..5_u64 {
            let start = Instant::now();
            orders.put("k", &n).await?;
            database.called().await;
            assert!(n == 0 || start.elapsed() > 300 * MS, "{:?}", start.elapsed());
        }
        assert_eq!(orders.stats().await?.dead_letters, 0);
        database.mood(Mood::Fine);
        orders.flush(LONG).await?;
        assert_eq!(database.values_of("k"), [Some(4)]);
        worker.shutdown(LONG).await
    }

    async fn keys_are_as_documented_and_do_not_expire(fixture: Fixture) -> Result<(), Error> {
        // What the documentation says is what the server holds.
        let (orders, database) = (builder(&fixture.client).open().await?, Database::new());
        database.mood(Mood::Rejects("k"));
        orders.put("k", &1).await?;
        let worker = orders.start(database);
        orders.flush(LONG).await?;
        worker.shutdown(LONG).await?;
        assert!(orders.pending("k").await?.is_none());
        for (role, kind) in [("state", "hash"), ("ids", "zset"), ("dead", "hash"), ("letters", "zset"), ("changes", "none"), ("age", "none"), ("ready", "none"), ("flight", "none"), ("tries", "none"), ("later", "none")] {
            let key = format!("{}:write-behind:orders:{{orders.0}}:{role}", fixture.namespace());
            let found: String = fixture.client.call(Command::new("TYPE").key(&key)).await?;
            assert_eq!(found, kind, "{role}");
            let ttl: i64 = fixture.client.call(Command::new("PTTL").key(&key)).await?;
            assert!(ttl < 0, "{role} would be evicted or expire");
        }
        Ok(())
    }
}
