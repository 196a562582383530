//! Subscriptions are back after a node's death and a slot's move, and the gap is told.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, ClientConfig, Command, GapReason, Interest, Push, PushStream};
use redkit_testkit::{Cluster, ClusterOptions, Program, Sentinels};

use crate::ALONE;

async fn next(stream: &mut PushStream) -> Push {
    tokio::time::timeout(Duration::from_secs(20), stream.next())
        .await
        .expect("something comes")
        .expect("the subscription goes on")
}

/// Publishes until the subscriber hears it: the servers' own connections need a moment too.
async fn heard_again(client: &Client, stream: &mut PushStream, publish: &str, channel: &[u8]) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{publish}: nothing is heard"
        );
        let command = match publish {
            "SPUBLISH" => Command::new(publish).key(channel),
            _ => Command::new(publish).arg(channel),
        };
        drop(client.call::<i64>(command.arg("after")).await);
        let wait = tokio::time::timeout(Duration::from_millis(200), stream.next());
        match wait.await {
            Ok(Some(Push::Message { payload, .. })) if payload == "after" => return,
            _ => {}
        }
    }
}

/// Waits until the subscription is told to be lost, and then to stand again.
async fn lost_and_back(stream: &mut PushStream) {
    assert_eq!(next(stream).await, Push::Gap(GapReason::Lost));
    assert_eq!(next(stream).await, Push::Gap(GapReason::Reconnected));
}

fn names(name: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(name.as_bytes())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_survive_the_death_of_a_cluster_node() {
    let _alone = ALONE.lock().await;
    let options = ClusterOptions::new().node_timeout(Duration::from_millis(1500));
    let cluster = Cluster::start_with(Program::Redis, 3, 1, options)
        .await
        .unwrap();
    let client = Client::connect(ClientConfig::from_url(&cluster.url()).unwrap())
        .await
        .unwrap();
    let owner = cluster
        .node_of_slot(redkit_core::slot(b"shard"))
        .await
        .unwrap();
    let mut sharded = client
        .subscribe(Interest::Sharded(names("shard")))
        .await
        .unwrap();
    heard_again(&client, &mut sharded, "SPUBLISH", b"shard").await;
    owner.kill9().await;
    lost_and_back(&mut sharded).await;
    heard_again(&client, &mut sharded, "SPUBLISH", b"shard").await;

    // Whichever node the plain ones are on, each is lost once.
    let mut plain = client
        .subscribe(Interest::Channels(names("news")))
        .await
        .unwrap();
    let mut globbed = client
        .subscribe(Interest::Patterns(names("n*")))
        .await
        .unwrap();
    for node in cluster.nodes() {
        if node.pid().is_some() {
            node.kill_subscribers().await.unwrap();
        }
    }
    lost_and_back(&mut plain).await;
    lost_and_back(&mut globbed).await;
    heard_again(&client, &mut plain, "PUBLISH", b"news").await;
    heard_again(&client, &mut globbed, "PUBLISH", b"news").await;
    client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sharded_subscription_follows_its_slot() {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&cluster.url()).unwrap())
        .await
        .unwrap();
    let slot = redkit_core::slot(b"shard");
    let from = cluster.node_of_slot(slot).await.unwrap();
    let masters = cluster.masters().await.unwrap();
    let to = masters
        .iter()
        .find(|node| node.addr() != from.addr())
        .unwrap();
    let mut sharded = client
        .subscribe(Interest::Sharded(names("shard")))
        .await
        .unwrap();
    heard_again(&client, &mut sharded, "SPUBLISH", b"shard").await;
    cluster.migrate_slots(slot..=slot, from, to).await.unwrap();
    lost_and_back(&mut sharded).await;
    heard_again(&client, &mut sharded, "SPUBLISH", b"shard").await;
    client.shutdown().await;
}

/// Who subscribes while slots move is not told that it stands when it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sharded_subscriptions_while_slots_move() {
    const SLOTS: u16 = 300;
    let _alone = ALONE.lock().await;
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&cluster.url()).unwrap())
        .await
        .unwrap();
    let from = cluster.node_of_slot(0).await.unwrap();
    let to = cluster.node_of_slot(16_383).await.unwrap();
    let mut channels: Vec<Option<String>> = vec![None; usize::from(SLOTS)];
    let mut missing = channels.len();
    for i in 0.. {
        let name = format!("channel-{i}");
        let slot = usize::from(redkit_core::slot(name.as_bytes()));
        if let Some(place @ None) = channels.get_mut(slot) {
            *place = Some(name);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    let channels: Vec<Bytes> = channels.into_iter().flatten().map(Bytes::from).collect();
    let subscribing = async |seed: usize| {
        let mut streams = Vec::new();
        // Now before, now behind the slot that is moving.
        for at in 0..channels.len() {
            let channel = &channels[(at * seed) % channels.len()];
            let interest = Interest::Sharded(vec![channel.clone()]);
            let stream = client.subscribe(interest).await.unwrap();
            streams.push((channel, stream));
        }
        streams
    };
    let mut streams = Vec::new();
    for (from, to) in [(from, to), (to, from)] {
        let moving = cluster.migrate_slots(0..=SLOTS - 1, from, to);
        let (moved, one, other, third) =
            tokio::join!(moving, subscribing(1), subscribing(7), subscribing(11));
        moved.unwrap();
        streams.extend(one.into_iter().chain(other).chain(third));
    }
    let made = streams.len();
    for (channel, mut stream) in streams {
        heard_again(&client, &mut stream, "SPUBLISH", channel).await;
    }
    println!("{made} subscriptions made while {SLOTS} slots moved, all of them heard");
    client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_follow_the_master() {
    let _alone = ALONE.lock().await;
    let sentinels = Sentinels::start(Program::Redis, 3, 1).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&sentinels.url()).unwrap())
        .await
        .unwrap();
    let mut plain = client
        .subscribe(Interest::Channels(names("news")))
        .await
        .unwrap();
    heard_again(&client, &mut plain, "PUBLISH", b"news").await;
    sentinels.kill_master().await.unwrap();
    lost_and_back(&mut plain).await;
    heard_again(&client, &mut plain, "PUBLISH", b"news").await;
    client.shutdown().await;
}
