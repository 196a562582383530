//! What stands at a key and is not what this cache writes: it is replaced, at once.

use std::collections::HashMap;
use std::time::Duration;

use redkit_cache::{Cache, Error, Loaded, Source};
use redkit_core::Command;
use redkit_testkit::Fixture;

/// Others' and damaged entries. The scripts look less closely than the program does.
const DAMAGED: [&[u8]; 5] = [
    b"something else",
    b"rk1 9f3c 1 60000 0 0 x v - -\n7",
    b"rk1 9f3c 1 60000 0 0 - v - - and more\n7",
    b"rk1 009f 1 60000 0 0 - v - -\nno number",
    b"rk1 9f3c 1 60000 0 0 - v - shoes\n7",
];

redkit_testkit::suite! {
    async fn a_damaged_entry_is_replaced_at_once(fixture: Fixture) -> Result<(), Error> {
        let cache: Cache<u64> = Cache::builder(&fixture.client, "numbers").redis_timeout(crate::PATIENT)
            .ttl(Duration::from_secs(60))
            .clearable(false)
            .wait_timeout(Duration::from_millis(500))
            .build()?;
        let entries = fixture.client.keyspace("cache", "numbers")?;
        let calls = || fixture.client.stats().calls();
        for (n, damaged) in (0_u64..).zip(DAMAGED) {
            let keys = [n, n + 100];
            for key in keys {
                let set = Command::new("SET").key(entries.key(key)).arg(damaged).arg("PX").arg(60_000);
                fixture.client.call::<()>(set).await?;
            }
            let before = calls();
            let got = cache.get_or_load(n, || async { Ok::<_, std::io::Error>(1) }).await?;
            assert_eq!((*got, got.source()), (1, Source::Loaded));
            let load = |keys: Vec<u64>| async move {
                Ok::<HashMap<u64, u64>, std::io::Error>(keys.into_iter().map(|key| (key, 1)).collect())
            };
            let got = cache.get_many_or_load([n + 100], load).await.remove(0)?.unwrap();
            assert_eq!((*got, got.source()), (1, Source::Loaded));
            let asked = calls() - before;
            assert!(asked < 30, "{asked} calls for two keys");
            for key in keys {
                assert_eq!(cache.get(key).await?.as_deref(), Some(&1), "it was kept");
            }
        }
        Ok(())
    }

    async fn a_key_of_another_type_is_replaced_and_an_error_for_get(fixture: Fixture) -> Result<(), Error> {
        for (name, clearable, stale_for) in [("clearable", true, 0), ("plain", false, 0), ("stale", false, 1)] {
            let cache: Cache<u64> = Cache::builder(&fixture.client, name).redis_timeout(crate::PATIENT)
                .ttl(Duration::from_secs(60))
                .stale_for(Duration::from_secs(stale_for))
                .clearable(clearable)
                .build()?;
            let entries = fixture.client.keyspace("cache", name)?;
            let others = [
                Command::new("RPUSH").key(entries.key("list")).arg("a"),
                Command::new("HSET").key(entries.key("hash")).arg("a").arg("b"),
                Command::new("SADD").key(entries.key("set")).arg("a"),
                Command::new("ZADD").key(entries.key("zset")).arg("1").arg("a"),
            ];
            for (key, other) in ["list", "hash", "set", "zset"].into_iter().zip(others) {
                let put = || fixture.client.call::<i64>(other.clone());
                put().await?;
                let got = cache.get(key).await;
                assert!(matches!(&got, Err(Error::Core(error)) if error.kind() == redkit_core::ErrorKind::Data), "{key}: {got:?}");
                let load = || async { Ok::<_, std::io::Error>(Loaded::new(1).version(3)) };
                let got = cache.get_or_load(key, load).await?;
                assert_eq!((*got, got.source()), (1, Source::Loaded), "{key}");
                assert_eq!(cache.get(key).await?.as_deref(), Some(&1), "it was kept");
                assert!(cache.invalidate(key).await?);
                put().await?;
                let load = |keys: Vec<&'static str>| async move {
                    Ok::<HashMap<_, u64>, std::io::Error>(keys.into_iter().map(|key| (key, 2)).collect())
                };
                let got = cache.get_many_or_load([key], load).await.remove(0)?.unwrap();
                assert_eq!((*got, got.source()), (2, Source::Loaded), "{key}, in bulk");
                assert!(cache.invalidate(key).await?);
                put().await?;
                assert!(cache.set_with(key, Loaded::new(4).version(1)).await?, "{key}");
                assert_eq!(cache.get(key).await?.as_deref(), Some(&4));
                assert!(cache.invalidate(key).await?);
                put().await?;
                let written = cache.write_through(key, || async { Ok::<_, std::io::Error>(5) }).await?;
                assert_eq!(*written, 5);
                assert_eq!(cache.get(key).await?.as_deref(), Some(&5));
            }
            assert_eq!(cache.get("nothing").await?.as_deref(), None);
        }
        Ok(())
    }
}
