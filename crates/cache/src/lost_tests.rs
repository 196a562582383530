//! A leader that goes away before it has loaded: its followers load for themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, ClientConfig};
use redkit_embedded::Embedded;

use crate::cache::Cache;
use crate::single_flight::Join;

#[tokio::test]
async fn a_follower_whose_leader_goes_away_loads_for_itself() {
    let engine = Arc::new(Embedded::new());
    let client = Client::from_backend(engine, &ClientConfig::default()).unwrap();
    let cache: Cache<u64> = Cache::builder(&client, "numbers")
        .ttl(Duration::from_secs(60))
        .build()
        .unwrap();
    for many in [false, true] {
        let key = u64::from(many);
        let keys = cache.inner.store.names.of_entry(key).unwrap();
        let Join::Leader(leader, follower) = cache.inner.loads.join(&keys.entry) else {
            panic!("nobody leads");
        };
        let (shared, caller) = (cache.stats().shared, cache.clone());
        let joined = tokio::spawn(async move {
            if many {
                let load = |keys: Vec<u64>| async move {
                    let loaded = keys.into_iter().map(|key| (key, 7));
                    Ok::<HashMap<u64, u64>, std::io::Error>(loaded.collect())
                };
                let mut got = caller.get_many_or_load([key], load).await;
                return got.remove(0).map(|got| *got.unwrap());
            }
            let load = || async { Ok::<_, std::io::Error>(7) };
            caller.get_or_load(key, load).await.map(|got| *got)
        });
        while cache.stats().shared == shared {
            tokio::task::yield_now().await;
        }
        drop((leader, follower));
        assert_eq!(joined.await.unwrap().unwrap(), 7, "many keys: {many}");
    }
}
