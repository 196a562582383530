//! Subscriptions.

use redkit_core::{Backend, Interest, Push};
use redkit_embedded::Embedded;

use crate::shell::{run, session};

fn message(channel: &'static str, pattern: Option<&'static str>, payload: &'static str) -> Push {
    Push::Message {
        channel: channel.into(),
        pattern: pattern.map(Into::into),
        payload: payload.into(),
    }
}

#[tokio::test]
async fn messages_reach_channels_patterns_and_shards() {
    let engine = Embedded::new();
    let mut plain = engine
        .subscribe(Interest::Channels(vec!["news".into(), "news".into()]))
        .await
        .unwrap();
    let mut pattern = engine
        .subscribe(Interest::Patterns(vec!["n*".into()]))
        .await
        .unwrap();
    let mut sharded = engine
        .subscribe(Interest::Sharded(vec!["news".into()]))
        .await
        .unwrap();
    session(
        &engine,
        "
        PUBLISH news hello => :2
        PUBLISH none hello => :1
        SPUBLISH news shard => :1
        PUBSUB CHANNELS => [\"news\"]
        PUBSUB NUMSUB news none => [\"news\" :1 \"none\" :0]
        PUBSUB NUMPAT => :1
        PUBSUB SHARDCHANNELS => [\"news\"]
        EVAL 'return redis.call([[publish]], [[news]], [[again]])' 0 => :2
        ",
    )
    .await;
    assert_eq!(plain.next().await, Some(message("news", None, "hello")));
    assert_eq!(plain.next().await, Some(message("news", None, "again")));
    assert_eq!(
        pattern.next().await,
        Some(message("news", Some("n*"), "hello"))
    );
    assert_eq!(sharded.next().await, Some(message("news", None, "shard")));
    drop((plain, pattern, sharded));
    session(
        &engine,
        "
        PUBLISH news hello => :0
        SPUBLISH news hello => :0
        PUBSUB NUMPAT => :0
        PUBSUB CHANNELS => []
        ",
    )
    .await;
}

#[tokio::test]
async fn shutdown_ends_subscriptions() {
    let engine = Embedded::new();
    let mut stream = engine
        .subscribe(Interest::Channels(vec!["c".into()]))
        .await
        .unwrap();
    run(&engine, "PUBLISH c last").await;
    engine.shutdown().await;
    assert_eq!(stream.next().await, Some(message("c", None, "last")));
    assert_eq!(stream.next().await, None);
}
