//! Under load with connections that are cut: no key is ever without its time to live.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redkit_collections::{Combine, Counter, Error, Hash, Lifetime, List, Set, SortedSet};
use redkit_core::{CallError, Client};
use redkit_testkit::{Close, Fixture, Proxy, ServerOptions};

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
                                failed.fetch_add(1, Ordering::Relaxed)
                            }
                            Err(error) => panic!("{error}"),
                        };
                    }
                })
            })
            .collect();
        let mut most = 0;
        for round in 0..150 {
            let counted = server.raw(&["EVAL", COUNT, "0"]).await.unwrap().text().unwrap();
            let (keys, without) = counted.split_once(' ').unwrap();
            assert_eq!(without, "0", "of {keys} keys in round {round}");
            most = most.max(keys.parse::<u64>().unwrap());
            if round % 5 == 4 {
                proxy.sever(if round % 2 == 0 { Close::Rst } else { Close::Fin });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
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
