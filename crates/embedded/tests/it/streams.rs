//! Streams in virtual time.

use std::time::Duration;

use redkit_core::Backend;
use redkit_embedded::Embedded;
use tokio::time::advance;

use crate::shell::{run, session};

async fn millis(engine: &Embedded) -> u64 {
    let time = engine.call(&redkit_core::Command::new("TIME")).await;
    let (seconds, micros): (u64, u64) = time.unwrap().to().unwrap();
    seconds * 1_000 + micros / 1_000
}

#[tokio::test(start_paused = true)]
async fn ids_follow_the_clock_and_never_go_back() {
    let engine = Embedded::new();
    let now = millis(&engine).await;
    let ids = async |n: u32| {
        let mut ids = Vec::new();
        for _ in 0..n {
            ids.push(run(&engine, "XADD x * f v").await);
        }
        ids
    };
    let expected = |millis: u64, seq: u64| format!("\"{millis}-{seq}\"");
    assert_eq!(ids(2).await, [expected(now, 0), expected(now, 1)]);
    advance(Duration::from_millis(5)).await;
    assert_eq!(ids(1).await, [expected(now + 5, 0)]);
    let future = now + 1_000;
    assert_eq!(
        run(&engine, &format!("XADD x {future}-7 f v")).await,
        expected(future, 7)
    );
    assert_eq!(ids(1).await, [expected(future, 8)]);
}

#[tokio::test(start_paused = true)]
async fn what_a_consumer_leaves_behind_is_claimed_after_its_idle_time() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        XGROUP CREATE x g 0 MKSTREAM => OK
        XADD x 1-0 f a => \"1-0\"
        XADD x 2-0 f b => \"2-0\"
        XREADGROUP GROUP g dead STREAMS x > => {\"x\": [[\"1-0\" [\"f\" \"a\"]] [\"2-0\" [\"f\" \"b\"]]]}
        XAUTOCLAIM x g alive 30000 0 => [\"0-0\" [] []]
        ",
    )
    .await;
    advance(Duration::from_secs(30)).await;
    session(
        &engine,
        "
        XPENDING x g IDLE 30000 - + 10 => [[\"1-0\" \"dead\" :30000 :1] [\"2-0\" \"dead\" :30000 :1]]
        XDEL x 1-0 => :1
        XAUTOCLAIM x g alive 30000 0 => [\"0-0\" [[\"2-0\" [\"f\" \"b\"]]] [\"1-0\"]]
        XPENDING x g - + 10 => [[\"2-0\" \"alive\" :0 :2]]
        XCLAIM x g other 1 2-0 => []
        XCLAIM x g other 0 2-0 IDLE 5000 JUSTID => [\"2-0\"]
        XPENDING x g - + 10 => [[\"2-0\" \"other\" :5000 :2]]
        XACK x g 2-0 1-0 => :1
        XPENDING x g => [:0 nil nil nil]
        ",
    )
    .await;
    advance(Duration::from_secs(1)).await;
    session(
        &engine,
        "XINFO CONSUMERS x g => [{\"name\": \"alive\", \"pending\": :0, \"idle\": :1000} \
         {\"name\": \"dead\", \"pending\": :0, \"idle\": :31000} \
         {\"name\": \"other\", \"pending\": :0, \"idle\": :1000}]",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_and_gets_nothing_at_its_timeout() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    session(&*own, "XGROUP CREATE x g $ MKSTREAM => OK").await;
    let before = tokio::time::Instant::now();
    session(
        &*own,
        "XREAD BLOCK 250 STREAMS x $ => nil\n XREADGROUP GROUP g c BLOCK 750 STREAMS x > => nil",
    )
    .await;
    assert_eq!(before.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_reader_learns_that_its_stream_expired() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    session(
        &engine,
        "XGROUP CREATE x g $ MKSTREAM => OK\n PEXPIRE x 100 => :1",
    )
    .await;
    let reader =
        tokio::spawn(async move { run(&*own, "XREADGROUP GROUP g c BLOCK 0 STREAMS x >").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The next command removes expired keys, whatever it is.
    session(&engine, "PING => +PONG").await;
    assert_eq!(
        reader.await.unwrap(),
        "-UNBLOCKED the stream key no longer exists"
    );
}
