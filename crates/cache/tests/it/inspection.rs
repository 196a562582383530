//! Inspection: the figures that monitoring sees of caches, and the actions on them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redkit_cache::write_behind::WriteBehind;
use redkit_cache::{Cache, L1, Loaded};
use redkit_core::inspection::{Fact, InspectError};
use redkit_core::{Client, Inspect};
use redkit_testkit::Fixture;
use tokio::time::sleep;

use crate::write_behind_database::{Database, Mood};

fn objects(client: &Client, kind: &str) -> Vec<Arc<dyn Inspect>> {
    let mut all = client.inspect();
    all.retain(|object| object.kind() == kind);
    all
}

fn caches(client: &Client) -> Vec<Arc<dyn Inspect>> {
    objects(client, "cache")
}

async fn load(cache: &Cache<u32>, key: &str) {
    let loader = async || Ok::<_, Infallible>(Loaded::new(1).tags(["t"]));
    cache.get_or_load(key, loader).await.unwrap();
}

redkit_testkit::suite! {
    async fn a_cache_shows_its_numbers_and_lets_values_be_removed(fixture: Fixture) {
        let cache: Cache<u32> = Cache::builder(&fixture.client, "numbers")
            .redis_timeout(crate::PATIENT)
            .ttl(Duration::from_secs(60))
            .l1(L1::entries(100))
            .build()
            .unwrap();
        let [seen] = &caches(&fixture.client)[..] else { panic!("there is one") };
        assert_eq!(seen.name(), "numbers");
        let count = |name| match seen.snapshot().get(name) {
            Some(Fact::Count(count)) => *count,
            other => panic!("{name}: {other:?}"),
        };
        load(&cache, "a").await;
        load(&cache, "a").await;
        assert_eq!(count("loads"), 1);
        assert_eq!(count("l1_hits") + count("hits"), 1);
        assert_eq!(seen.snapshot().get("hit_rate"), Some(&Fact::Number(0.5)));

        let names: Vec<_> = seen.actions().iter().map(|action| action.name).collect();
        assert_eq!(names, ["invalidate", "invalidate_tag", "clear"]);
        for (n, (action, argument)) in [("invalidate", "a"), ("invalidate_tag", "t"), ("clear", "")].into_iter().enumerate() {
            seen.act(action, argument).await.unwrap();
            assert!(cache.get("a").await.unwrap().is_none(), "{action}");
            load(&cache, "a").await;
            assert_eq!(count("loads"), n as u64 + 2, "{action}");
        }
        let said = seen.act("invalidate", "nothing-there").await.unwrap();
        assert!(said.contains("no value"), "{said}");
        assert!(matches!(seen.act("invalidate_tag", "").await, Err(InspectError::Argument(_))));
        assert!(matches!(seen.act("explode", "").await, Err(InspectError::UnknownAction { .. })));
    }

    async fn to_look_at_a_cache_does_not_keep_it(fixture: Fixture) {
        let cache: Cache<u32> = Cache::builder(&fixture.client, "numbers").ttl(Duration::from_secs(60)).build().unwrap();
        let looked_at = caches(&fixture.client);
        drop(cache);
        assert!(matches!(looked_at[0].act("clear", "").await, Err(InspectError::Failed(_))));
        assert_eq!(looked_at[0].snapshot().get("state"), Some(&Fact::Text("gone".to_owned())));
        drop(looked_at);
        assert_eq!(caches(&fixture.client).len(), 0);
    }

    #[paused]
    async fn a_write_behind_queue_shows_what_is_pending_and_redrives_dead_letters(fixture: Fixture) {
        let orders: WriteBehind<u64> = WriteBehind::builder(&fixture.client, "orders")
            .partitions(2)
            .max_age(Duration::ZERO)
            .poll_interval(Duration::from_millis(5))
            .open()
            .await
            .unwrap();
        let [seen] = &objects(&fixture.client, "write_behind")[..] else { panic!("there is one") };
        assert_eq!(seen.name(), "orders");
        let count = |name| match seen.snapshot().get(name) {
            Some(Fact::Count(count)) => *count,
            other => panic!("{name}: {other:?}"),
        };
        let database = Database::new();
        database.mood(Mood::Rejects("bad"));
        let worker = orders.start(database.clone());
        orders.put("bad", &1).await.unwrap();
        orders.put("good", &2).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!((count("accepted"), count("written"), count("given_up")), (2, 1, 1));
        assert_eq!((count("pending"), count("dead_letters")), (0, 1));

        database.mood(Mood::Down);
        orders.put("later", &3).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        assert_eq!(count("pending"), 1);
        let oldest = seen.snapshot().get("oldest").cloned();
        assert!(matches!(oldest, Some(Fact::Number(seconds)) if seconds > 1.0), "{oldest:?}");

        database.mood(Mood::Fine);
        assert_eq!(seen.actions()[0].name, "redrive");
        let said = seen.act("redrive", "unknown").await.unwrap();
        assert!(said.starts_with("0 put back"), "{said}");
        let said = seen.act("redrive", "").await.unwrap();
        assert!(said.starts_with("1 put back"), "{said}");
        sleep(Duration::from_secs(120)).await;
        assert_eq!((database.row("bad"), database.row("later")), (Some(1), Some(3)));
        assert_eq!((count("pending"), count("dead_letters")), (0, 0));
        assert!(matches!(seen.act("explode", "").await, Err(InspectError::UnknownAction { .. })));
        worker.shutdown(Duration::from_secs(10)).await.unwrap();
    }

    /// Another process may have written it since: this one looks no more.
    #[paused]
    async fn the_figures_of_a_queue_end_with_its_last_worker(fixture: Fixture) {
        let orders: WriteBehind<u64> = WriteBehind::builder(&fixture.client, "orders")
            .partitions(2)
            .max_age(Duration::ZERO)
            .open()
            .await
            .unwrap();
        let [seen] = &objects(&fixture.client, "write_behind")[..] else { panic!("there is one") };
        let database = Database::new();
        database.mood(Mood::Rejects("bad"));
        let workers = [orders.start(database.clone()), orders.start(database.clone())];
        orders.put("bad", &1).await.unwrap();
        orders.flush(Duration::from_secs(10)).await.unwrap();
        database.mood(Mood::Down);
        orders.put("later", &1).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        let figures = || ["pending", "oldest", "dead_letters"].map(|name| match seen.snapshot().get(name) {
            Some(Fact::Count(0)) => false,
            Some(Fact::Number(seconds)) => *seconds > 0.0,
            figure => figure.is_some(),
        });
        assert_eq!(figures(), [true; 3]);
        for (worker, is_known) in workers.into_iter().zip([true, false]) {
            worker.shutdown(Duration::from_millis(10)).await.unwrap_err();
            sleep(Duration::from_secs(5)).await;
            assert_eq!(figures(), [is_known; 3]);
        }
    }
}
