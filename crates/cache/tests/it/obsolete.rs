//! A load whose value can no longer be kept, because its key was invalidated or the cache cleared
//! meanwhile: no caller that asks after that waits for it.

use std::collections::HashMap;
use std::time::Duration;

use redkit_cache::{Cache, Error, Source};
use redkit_testkit::Fixture;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Far above what an answer takes, and far below `load_timeout`.
const SOON: Duration = Duration::from_secs(8);

async fn two(fixture: &Fixture) -> (Cache<u64>, Cache<u64>) {
    let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
    let build = |client| {
        Cache::builder(client, "numbers")
            .redis_timeout(crate::PATIENT)
            .ttl(Duration::from_secs(60))
            .load_timeout(Duration::from_secs(20))
            .build()
            .unwrap()
    };
    (build(&fixture.client), build(&other))
}

/// A load that reads 1 from its source and hangs until the sender is used.
async fn hang(
    cache: &Cache<u64>,
    key: u64,
) -> (
    oneshot::Sender<()>,
    tokio::task::JoinHandle<Result<redkit_cache::Fetched<u64>, Error>>,
) {
    let (began, begins) = oneshot::channel();
    let (go, told) = oneshot::channel::<()>();
    let cache = cache.clone();
    let caller = tokio::spawn(async move {
        let load = || async move {
            began.send(()).unwrap();
            let _ = told.await;
            Ok::<_, std::io::Error>(1)
        };
        cache.get_or_load(key, load).await
    });
    begins.await.unwrap();
    (go, caller)
}

/// Asks for one key alone, and for another in bulk.
async fn asks_anew(cache: &Cache<u64>, keys: [u64; 2]) -> Result<(), Error> {
    let load = || async { Ok::<_, std::io::Error>(2) };
    let got = timeout(SOON, cache.get_or_load(keys[0], load)).await;
    let got = got.expect("a caller waits for a load that is obsolete")?;
    assert_eq!((*got, got.source()), (2, Source::Loaded));
    let load = |keys: Vec<u64>| async move {
        let loaded = keys.into_iter().map(|key| (key, 2));
        Ok::<HashMap<u64, u64>, std::io::Error>(loaded.collect())
    };
    let got = timeout(SOON, cache.get_many_or_load([keys[1]], load)).await;
    let got = got.expect("a bulk caller waits for a load that is obsolete");
    let got = got.into_iter().next().unwrap()?.unwrap();
    assert_eq!((*got, got.source()), (2, Source::Loaded));
    for key in keys {
        assert_eq!(cache.get(key).await?.as_deref(), Some(&2), "it was kept");
    }
    Ok(())
}

redkit_testkit::suite! {
    async fn a_caller_starts_anew_after_another_process_invalidated(fixture: Fixture) -> Result<(), Error> {
        let (here, there) = two(&fixture).await;
        let (one, first) = hang(&here, 1).await;
        let (two, second) = hang(&here, 2).await;
        there.invalidate(1_u64).await?;
        there.invalidate(2_u64).await?;
        asks_anew(&here, [1, 2]).await?;
        // The callers that asked before get what they have waited for, and it is not kept.
        let _ = (one.send(()), two.send(()));
        assert_eq!(*first.await.unwrap()?, 1);
        assert_eq!(*second.await.unwrap()?, 1);
        assert_eq!(here.get(1_u64).await?.as_deref(), Some(&2));
        Ok(())
    }

    async fn a_caller_starts_anew_after_its_own_process_cleared_the_cache(fixture: Fixture) -> Result<(), Error> {
        let (here, _) = two(&fixture).await;
        let (_one, _) = hang(&here, 1).await;
        let (_two, _) = hang(&here, 2).await;
        here.clear().await?;
        asks_anew(&here, [1, 2]).await
    }

    async fn a_caller_starts_anew_after_another_process_cleared_the_cache(fixture: Fixture) -> Result<(), Error> {
        let (here, there) = two(&fixture).await;
        let (_one, _) = hang(&here, 1).await;
        let (_two, _) = hang(&here, 2).await;
        there.clear().await?;
        asks_anew(&here, [1, 2]).await
    }

    async fn no_process_waits_for_the_load_of_another_from_before_a_clearing(fixture: Fixture) -> Result<(), Error> {
        let (here, there) = two(&fixture).await;
        let (one, first) = hang(&here, 1).await;
        let (_two, _) = hang(&here, 2).await;
        here.clear().await?;
        asks_anew(&there, [1, 2]).await?;
        let _ = one.send(());
        assert_eq!(*first.await.unwrap()?, 1);
        assert_eq!(there.get(1_u64).await?.as_deref(), Some(&2), "the obsolete load was not kept");
        Ok(())
    }
}
