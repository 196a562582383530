//! What a cache on top of this one builds on.

use std::sync::Arc;
use std::time::Duration;

use redkit_cache::{Cache, Loaded, Source};
use redkit_core::Command;
use redkit_testkit::Fixture;
use tokio::time::{sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);

redkit_testkit::suite! {
    async fn a_peek_tells_fresh_from_stale_and_counts_no_miss(fixture: Fixture) {
        let cache: Cache<u64> = Cache::builder(&fixture.client, "numbers").redis_timeout(crate::PATIENT).ttl(MINUTE).build().unwrap();
        assert!(cache.peek("k").await.unwrap().is_none());
        cache.set("k", &7).await.unwrap();
        let found = cache.peek("k").await.unwrap().unwrap();
        assert_eq!((*found, found.source()), (7, Source::Redis));
        let short = Loaded::new(8).ttl(Duration::from_millis(1)).stale_for(MINUTE);
        cache.set_with("k", short).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        let found = cache.peek("k").await.unwrap().unwrap();
        assert_eq!((*found, found.source()), (8, Source::Stale));
        assert!(cache.get("k").await.unwrap().is_none(), "it is not fresh");
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.stale), (1, 1, 0), "the miss is that of `get`");
    }

    async fn a_peek_takes_what_is_no_value_for_none(fixture: Fixture) {
        let cache: Cache<u64> = Cache::builder(&fixture.client, "numbers").redis_timeout(crate::PATIENT).ttl(MINUTE).build().unwrap();
        let texts: Cache<String> = Cache::builder(&fixture.client, "numbers").redis_timeout(crate::PATIENT).ttl(MINUTE).build().unwrap();
        texts.set("k", &"no number".to_owned()).await.unwrap();
        assert!(cache.peek("k").await.unwrap().is_none());
        let found = cache.find_or_load("none", async || Ok::<_, std::io::Error>(Loaded::new(None).ttl(MINUTE)));
        assert!(found.await.unwrap().is_none());
        assert!(cache.peek("none").await.unwrap().is_none(), "the source has none");
    }

    async fn a_peek_of_this_process_asks_nobody(fixture: Fixture) {
        let cache: Cache<u64> = Cache::builder(&fixture.client, "numbers").redis_timeout(crate::PATIENT)
            .ttl(MINUTE).l1(redkit_cache::L1::entries(10)).build().unwrap();
        cache.set("k", &7).await.unwrap();
        let peeked = async {
            while cache.stats().l1_hits == 0 {
                let found = cache.peek("k").await.unwrap().unwrap();
                assert!(*found == 7 && found.source().is_hit());
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(MINUTE, peeked).await.expect("what is in the process is found there");
    }

    async fn a_task_ends_with_its_cache(fixture: Fixture) {
        let cache: Cache<u64> = Cache::builder(&fixture.client, "numbers").redis_timeout(crate::PATIENT).ttl(MINUTE).build().unwrap();
        let (alive, clone) = (Arc::new(()), cache.clone());
        let held = Arc::clone(&alive);
        cache.spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(cache);
        fixture.client.call::<String>(Command::new("PING")).await.unwrap();
        assert_eq!(Arc::strong_count(&alive), 2, "a clone is left");
        drop(clone);
        for _ in 0..1000 {
            if Arc::strong_count(&alive) == 1 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the task goes on without its cache");
    }
}
