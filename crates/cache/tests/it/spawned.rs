//! Every operation can be awaited in a task that moves between threads, such as an HTTP handler.
//! That it compiles is the test.

use std::collections::HashMap;
use std::convert::Infallible;

use redkit_cache::{Cache, Loaded};

fn spawnable<F: Future + Send + 'static>(_: F) {}

#[tokio::test]
async fn every_operation_can_be_spawned() {
    // Never called: only its type matters.
    #[allow(dead_code, reason = "that it compiles is the test")]
    fn operations(cache: Cache<u64>) {
        let c = cache.clone();
        spawnable(async move { c.get("k").await.map(drop) });
        let c = cache.clone();
        spawnable(async move { c.set("k", &1).await });
        let c = cache.clone();
        spawnable(async move { c.set_with("k", Loaded::new(1).tags(["t"])).await });
        let c = cache.clone();
        spawnable(async move { c.invalidate("k").await });
        let c = cache.clone();
        spawnable(async move { c.invalidate_tags(["t".to_owned()]).await });
        let c = cache.clone();
        spawnable(async move { c.clear().await });
        let c = cache.clone();
        spawnable(async move {
            let load = || async { Ok::<_, Infallible>(1) };
            c.get_or_load("k", load).await.map(drop)
        });
        let c = cache.clone();
        spawnable(async move {
            let load = || async { Ok::<_, Infallible>(Some(1)) };
            c.find_or_load("k", load).await.map(drop)
        });
        let c = cache.clone();
        spawnable(async move {
            let keys: Vec<String> = Vec::new();
            let load = |keys: Vec<String>| async move {
                let all = keys.into_iter().map(|key| (key, 1));
                Ok::<_, Infallible>(all.collect::<HashMap<_, u64>>())
            };
            c.get_many_or_load(keys.iter().map(|key| format!("{key}!")), load)
                .await
                .len()
        });
        spawnable(async move {
            let write = || async { Ok::<_, Infallible>(1) };
            cache.write_through("k", write).await.map(drop)
        });
    }
    let _ = operations;
}
