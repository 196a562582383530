//! Near caches are told of changed keys.

use std::time::Duration;

use redkit_core::{Backend, Command, Interest, Push, PushStream};
use redkit_embedded::Embedded;
use tokio::time::{Instant, advance, timeout};

use crate::shell::{run, session};

async fn track(engine: &Embedded, prefixes: &[&'static str]) -> PushStream {
    let prefixes = prefixes.iter().map(|&prefix| prefix.into()).collect();
    engine
        .subscribe(Interest::Invalidations { prefixes })
        .await
        .unwrap()
}

fn stale(keys: &[&'static str]) -> Push {
    Push::Invalidate(Some(keys.iter().map(|&key| key.into()).collect()))
}

/// The pushes that are queued now.
async fn told(stream: &mut PushStream) -> Vec<Push> {
    let mut pushes = Vec::new();
    while let Ok(Some(push)) = timeout(Duration::ZERO, stream.next()).await {
        pushes.push(push);
    }
    pushes
}

#[tokio::test(start_paused = true)]
async fn every_write_under_a_prefix_is_told_once_per_command() {
    let engine = Embedded::new();
    let mut carts = track(&engine, &["cart:", "user:"]).await;
    let mut all = track(&engine, &[""]).await;
    for (command, of_carts, of_all) in [
        ("SET cart:1 v", vec!["cart:1"], vec!["cart:1"]),
        ("GET cart:1", vec![], vec![]),
        ("SET other v", vec![], vec!["other"]),
        ("SET cart v", vec![], vec!["cart"]),
        (
            "MSET user:1 a x b cart:2 c",
            vec!["user:1", "cart:2"],
            vec!["user:1", "x", "cart:2"],
        ),
        ("DEL nope", vec![], vec![]),
        ("EXPIRE cart:1 100", vec!["cart:1"], vec!["cart:1"]),
        (
            "RENAME cart:1 cart:9",
            vec!["cart:1", "cart:9"],
            vec!["cart:1", "cart:9"],
        ),
        (
            "EVAL 'redis.call([[set]], KEYS[1], 1) redis.call([[incr]], KEYS[1])' 1 user:n",
            vec!["user:n"],
            vec!["user:n"],
        ),
        ("UNLINK cart:9 x", vec!["cart:9"], vec!["cart:9", "x"]),
    ] {
        run(&engine, command).await;
        let told_once = |keys: Vec<&'static str>| match keys.is_empty() {
            true => vec![],
            false => vec![stale(&keys)],
        };
        assert_eq!(told(&mut carts).await, told_once(of_carts), "{command}");
        assert_eq!(told(&mut all).await, told_once(of_all), "{command}");
    }
    for flush in ["FLUSHALL", "FLUSHDB"] {
        run(&engine, flush).await;
        assert_eq!(told(&mut carts).await, [Push::Invalidate(None)]);
    }
    drop(carts);
    session(&engine, "SET cart:1 v => OK").await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_and_a_served_waiter_are_told_when_they_are_done() {
    let engine = Embedded::new();
    let mut all = track(&engine, &[""]).await;
    let own = engine.dedicated().await.unwrap();
    session(
        &*own,
        "MULTI => OK\n SET a 1 => +QUEUED\n SET b 1 => +QUEUED",
    )
    .await;
    assert_eq!(told(&mut all).await, []);
    session(&*own, "EXEC => [OK OK]").await;
    assert_eq!(told(&mut all).await, [stale(&["a", "b"])]);
    let waiter = engine.dedicated().await.unwrap();
    let call = tokio::spawn(async move { run(&*waiter, "BLMOVE k m LEFT LEFT 0").await });
    tokio::task::yield_now().await;
    session(&engine, "RPUSH k x => :1").await;
    assert_eq!(call.await.unwrap(), "\"x\"");
    assert_eq!(told(&mut all).await, [stale(&["k", "m"])]);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_is_told_in_its_millisecond_while_nothing_else_happens() {
    let engine = Embedded::new();
    let mut all = track(&engine, &["k"]).await;
    session(
        &engine,
        "SET k1 v PX 700 => OK\n SET k2 v PX 300 => OK\n SET x v PX 100 => OK",
    )
    .await;
    session(
        &engine,
        "HSET kh a 1 b 2 => :2\n HPEXPIRE kh 500 FIELDS 1 a => [:1]",
    )
    .await;
    assert_eq!(told(&mut all).await.len(), 4);
    let start = Instant::now();
    for (key, millis) in [("k2", 301), ("kh", 501), ("k1", 701)] {
        assert_eq!(all.next().await, Some(stale(&[key])));
        assert_eq!(start.elapsed().as_millis(), millis, "{key}");
    }
    // An expiry that is put forward counts from then on.
    session(&engine, "SET k1 v EX 1000 => OK\n PEXPIRE k1 10 => :1").await;
    let start = Instant::now();
    assert_eq!(told(&mut all).await.len(), 2);
    assert_eq!(all.next().await, Some(stale(&["k1"])));
    assert_eq!(start.elapsed().as_millis(), 11);
}

#[tokio::test(start_paused = true)]
async fn tracking_ends_with_its_stream_and_with_the_engine() {
    let engine = Embedded::new();
    drop(track(&engine, &["k"]).await);
    let mut all = track(&engine, &[""]).await;
    engine.shutdown().await;
    assert_eq!(all.next().await, None);
    advance(Duration::from_secs(1)).await;

    let engine = Embedded::new();
    let mut all = track(&engine, &[""]).await;
    engine
        .call(&Command::new("SET").key("k").arg("v").arg("PX").arg(5))
        .await
        .unwrap();
    drop(engine);
    assert_eq!(all.next().await, Some(stale(&["k"])));
    assert_eq!(all.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_changes_nothing_tells_nothing() {
    let engine = Embedded::new();
    session(
        &engine,
        "SADD from x => :1\n SADD to x => :1\n SET bits aaaa => OK",
    )
    .await;
    let mut all = track(&engine, &[""]).await;
    session(
        &engine,
        "SMOVE from to x => :1\n BITFIELD bits SET u8 0 97 => [:97]",
    )
    .await;
    assert_eq!(told(&mut all).await, [stale(&["from"])]);
}

#[tokio::test]
async fn prefixes_that_overlap_are_refused() {
    let prefixes = vec!["a".into(), "ab".into()];
    let refused = Embedded::new()
        .subscribe(Interest::Invalidations { prefixes })
        .await;
    assert!(refused.unwrap_err().to_string().contains("overlap"));
}
