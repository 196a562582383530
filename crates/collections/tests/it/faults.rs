//! Connections that are cut: no key is ever without its time to live, and no write is sent twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redkit_collections::{
    Combine, Counter, End, Error, Hash, Lifetime, List, Occurrences, Order, Set, SortedSet,
};
use redkit_core::{CallError, Client, ErrorKind};
use redkit_testkit::{Close, Direction, Fixture, Proxy, ServerOptions};
use tokio::time::Instant;

use crate::times::every_creating_write;
use crate::watched::Watched;

/// How many keys there are, and how many have no time to live, at one moment.
const COUNT: &str = "
    local without = 0
    local keys = redis.call('KEYS', '*')
    for _, key in ipairs(keys) do
      if redis.call('PTTL', key) == -1 then without = without + 1 end
    end
    return #keys .. ' ' .. without";

/// Writes that create keys, which are gone a moment later, so that most writes create them anew.
async fn write(client: &Client, n: u64) -> Result<(), Error> {
    let ttl = Lifetime::on_create(Duration::from_millis(15))?;
    let key = format!("{{k{}}}", n % 7);
    match n % 9 {
        0 => Hash::<u64>::new(client, format!("h{key}"))
            .with_ttl(ttl)
            .set("f", &n)
            .await
            .map(drop),
        1 => Hash::<u64>::new(client, format!("i{key}"))
            .with_ttl(ttl)
            .incr("f", 1)
            .await
            .map(drop),
        2 => Hash::<u64>::new(client, format!("j{key}"))
            .with_ttl(ttl)
            .compare_and_set("f", None, &n)
            .await
            .map(drop),
        3 => List::<u64>::new(client, format!("l{key}"))
            .with_ttl(ttl)
            .push_back(&n)
            .await
            .map(drop),
        4 => List::<u64>::new(client, format!("m{key}"))
            .with_ttl(ttl)
            .push_front_capped([&n], 3)
            .await
            .map(drop),
        5 => Set::<u64>::new(client, format!("s{key}"))?
            .with_ttl(ttl)
            .add(&n)
            .await
            .map(drop),
        6 => {
            let set = SortedSet::<u64>::new(client, format!("z{key}"))?.with_ttl(ttl);
            set.add(&n, 1.0).await?;
            let union = SortedSet::<u64>::new(client, format!("u{key}"))?.with_ttl(ttl);
            union.store_union([&set], &Combine::sum()).await.map(drop)
        }
        7 => Counter::new(client, format!("c{key}"))
            .with_ttl(ttl)
            .incr(1)
            .await
            .map(drop),
        _ => Counter::new(client, format!("b{key}"))
            .with_ttl(ttl)
            .incr_up_to(1, 5)
            .await
            .map(drop),
    }
}

redkit_testkit::suite! {
    async fn only_reads_may_be_repeated(fixture: Fixture) -> Result<(), Error> {
        let watched = Watched::new(&fixture);
        let client = &watched.client;
        // Writes with a time, which are scripts and `SET … PX`; then the same commands as they are.
        every_creating_write(client, Lifetime::on_write(Duration::from_secs(60))?).await?;
        let hash: Hash<u8> = Hash::new(client, "h");
        hash.set("f", &1).await?;
        hash.set_if_absent("g", &1).await?;
        hash.incr("n", 1).await?;
        hash.delete(["f"]).await?;
        let list: List<u8> = List::new(client, "{l}");
        list.push_back_many(&[1, 2, 3, 4]).await?;
        list.set(0, &9).await?;
        list.insert_after(&2, &5).await?;
        list.remove(&2, Occurrences::All).await?;
        list.trim(..3).await?;
        list.move_to(&list, End::Front, End::Back).await?;
        list.pop_front().await?;
        let set: Set<u8> = Set::new(client, "{s}")?;
        set.add_many(&[1, 2, 3]).await?;
        set.remove(&1).await?;
        set.move_to(&set, &2).await?;
        set.store_union([&set]).await?;
        set.pop().await?;
        let sorted: SortedSet<u8> = SortedSet::new(client, "{z}")?;
        sorted.add_many([(&1, 1.0), (&2, 2.0), (&3, 3.0)]).await?;
        sorted.increment(&1, 1.0).await?;
        sorted.remove_by_rank(0..1).await?;
        sorted.store_union([&sorted], &Combine::sum()).await?;
        sorted.pop_max().await?;
        let counter = Counter::new(client, "c");
        counter.set(1).await?;
        counter.incr(1).await?;
        counter.get_and_reset().await?;
        set.clear().await?;
        // And reads.
        hash.get("f").await?;
        set.members().await?;
        counter.get().await?;
        sorted.range_by_rank(.., Order::Ascending).await?;
        list.range(..).await?;
        let [may, may_not] = watched.repeatable();
        assert_eq!(may.into_iter().collect::<Vec<_>>(), ["GET", "HGET", "LRANGE", "SMEMBERS", "ZRANGE"]);
        assert!(may_not.len() >= 22, "{may_not:?}");
        Ok(())
    }

    #[networked]
    async fn a_write_without_an_answer_is_told_and_not_repeated(fixture: Fixture) -> Result<(), Error> {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let config = fixture.config_at(&server.url_at(proxy.addr())).unwrap();
        let client = fixture.connect(config).await.unwrap();
        let timed = Counter::new(&client, "n").with_ttl(Lifetime::on_create(Duration::from_secs(60))?);
        for counter in [Counter::new(&client, "n"), timed] {
            let before = counter.incr(1).await?; // the script is known then
            let retries = client.stats().retries;
            proxy.cut_once(Direction::ToClient, 0, Close::Rst);
            let error = counter.incr(1).await.unwrap_err();
            assert!(error.is_maybe() && error.is_retryable(), "{error}");
            assert_eq!(error.kind(), ErrorKind::Transport);
            assert_eq!(client.stats().retries, retries, "a write is not repeated");
            let after = counter.get().await?;
            assert!((before..=before + 1).contains(&after), "carried out once at most: {after}");
            proxy.cut_once(Direction::ToClient, 0, Close::Rst);
            assert_eq!(counter.get().await?, after, "a read is repeated");
        }
        client.shutdown().await;
        Ok(())
    }

    #[networked]
    #[multi_thread]
    async fn no_key_is_ever_without_its_time(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let config = fixture.config_at(&server.url_at(proxy.addr())).unwrap();
        let client = fixture.connect(config).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (written, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let tasks: Vec<_> = (0..8_u64)
            .map(|task| {
                let (client, stop) = (client.clone(), Arc::clone(&stop));
                let (written, failed) = (Arc::clone(&written), Arc::clone(&failed));
                tokio::spawn(async move {
                    let mut n = task * 1_000;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        match write(&client, n).await {
                            Ok(()) => written.fetch_add(1, Ordering::Relaxed),
                            Err(Error::Core(error)) => {
                                let call = error.call_error();
                                assert!(matches!(call, Some(CallError::Maybe(_) | CallError::NotSent(_))), "{error}");
                                tokio::time::sleep(Duration::from_millis(1)).await;
                                failed.fetch_add(1, Ordering::Relaxed)
                            }
                            Err(error) => panic!("{error}"),
                        };
                    }
                })
            })
            .collect();
        let (mut most, mut round) = (0, 0);
        let started = Instant::now();
        let is_enough = |most| most > 5 && written.load(Ordering::Relaxed) > 500 && failed.load(Ordering::Relaxed) > 0;
        // A busy machine makes its connections slowly, and some rounds see none of them.
        while round < 150 || (!is_enough(most) && started.elapsed() < Duration::from_secs(60)) {
            let counted = server.raw(&["EVAL", COUNT, "0"]).await.unwrap().text().unwrap();
            let (keys, without) = counted.split_once(' ').unwrap();
            assert_eq!(without, "0", "of {keys} keys in round {round}");
            most = most.max(keys.parse::<u64>().unwrap());
            // The later the rarer: a connection that takes longer than the time between two cuts is never made.
            if round % (5 + round / 30) == 4 {
                proxy.sever(if round % 2 == 0 { Close::Rst } else { Close::Fin });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            round += 1;
        }
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        let (written, failed) = (written.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
        println!("{written} written, {failed} failed, up to {most} keys at a time");
        assert!(most > 5 && written > 500, "there was something to look at");
        assert!(failed > 0, "the cuts were felt");
        client.shutdown().await;
    }
}
