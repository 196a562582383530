//! A cluster of three masters and three replicas loses a master, or moves a thousand slots.

use std::time::{Duration, Instant};

use redkit_core::{Client, ClientConfig, Command};
use redkit_testkit::{Cluster, ClusterOptions, Program, RawReply, Server};

use crate::ALONE;
use crate::load::{Seen, Writer};

const NODE_TIMEOUT: Duration = Duration::from_millis(1500);

async fn cluster() -> (Cluster, Client) {
    let options = ClusterOptions::new()
        .node_timeout(NODE_TIMEOUT)
        // Otherwise the healthy nodes refuse everything until the failover, by their own choice.
        .config("cluster-require-full-coverage no");
    let cluster = Cluster::start_with(Program::Redis, 3, 1, options)
        .await
        .unwrap();
    let config = ClientConfig::from_url(&cluster.url())
        .unwrap()
        .command_timeout(Duration::from_secs(1));
    let client = Client::connect(config).await.unwrap();
    (cluster, client)
}

/// Two writers on every master, each with the master it is on.
async fn writers<'c>(cluster: &'c Cluster, client: &Client) -> Vec<(&'c Server, Writer)> {
    let mut writers: Vec<(&Server, Writer)> = Vec::new();
    for i in 0.. {
        let key = format!("key-{i}");
        let slot = cluster.slot_of(&key).await.unwrap();
        let node = cluster.node_of_slot(slot).await.unwrap();
        if writers
            .iter()
            .filter(|(on, _)| on.addr() == node.addr())
            .count()
            < 2
        {
            writers.push((node, Writer::start(client, key)));
        }
        if writers.len() == 6 {
            break;
        }
    }
    writers
}

fn assert_sound(key: &str, seen: &Seen) {
    assert!(
        seen.wrong.is_empty(),
        "{key}: wrong values: {:?}",
        seen.wrong
    );
    assert!(
        seen.surfaced.is_empty(),
        "{key}: errors surfaced: {:?}",
        seen.surfaced
    );
}

/// For keys of shards on which nothing failed over.
fn assert_nothing_is_lost(key: &str, seen: &Seen) {
    assert!(
        seen.lost.is_empty(),
        "{key}: answers without, or older than, what was acknowledged: {:?}",
        seen.lost
    );
}

/// How soon after the cluster's own failover, whose length is the servers' affair, the client
/// follows at the latest: one look of half a second may be under way that began before it, and the next comes within
/// half a second after that.
const SLACK: Duration = Duration::from_millis(1250);

/// When another node serves the slots that `lost` served.
async fn taken_over(cluster: &Cluster, lost: &Server) -> Instant {
    let deadline = Instant::now() + Duration::from_secs(20);
    let lost = i64::from(lost.addr().port());
    loop {
        assert!(Instant::now() < deadline, "the cluster does not fail over");
        let witness = cluster
            .nodes()
            .iter()
            .find(|node| i64::from(node.addr().port()) != lost);
        let view = witness.unwrap().raw(&["CLUSTER", "SLOTS"]).await.unwrap();
        let masters = masters_of(&view);
        let covered: i64 = masters.iter().map(|(_, slots)| slots).sum();
        if covered == 16_384 && masters.iter().all(|(port, _)| *port != lost) {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The port of each range's master, and how many slots the range has.
fn masters_of(view: &RawReply) -> Vec<(i64, i64)> {
    let items = |reply: &RawReply| match reply {
        RawReply::Array(items) => items.clone(),
        other => panic!("{other:?}"),
    };
    let int = |reply: &RawReply| reply.int().unwrap();
    items(view)
        .iter()
        .map(|range| {
            let range = items(range);
            (
                int(&items(&range[2])[1]),
                int(&range[1]) - int(&range[0]) + 1,
            )
        })
        .collect()
}

async fn a_master_is_lost(lose: impl AsyncFnOnce(&Server)) {
    let _alone = ALONE.lock().await;
    let (cluster, client) = cluster().await;
    let writers = writers(&cluster, &client).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lost = cluster.masters().await.unwrap()[0].addr();
    let victim = cluster
        .nodes()
        .iter()
        .find(|node| node.addr() == lost)
        .unwrap();
    let start = Instant::now();
    lose(victim).await;
    let taken_over = taken_over(&cluster, victim).await.duration_since(start);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let end = Instant::now();
    for (node, writer) in writers {
        let (key, seen) = writer.end().await;
        assert_sound(&key, &seen);
        if node.addr() == lost {
            // Answers that were on their way when it was lost do not count.
            let back = seen
                .first_answer_after(start + Duration::from_millis(100))
                .map(|d| d + Duration::from_millis(100));
            println!(
                "lost shard, {key}: serves again after {back:?} (the cluster itself after {taken_over:?}), {} outages",
                seen.outages
            );
            let back = back.expect("the shard serves again");
            let bound = (NODE_TIMEOUT + Duration::from_secs(2)).max(taken_over + SLACK);
            assert!(
                back < bound,
                "{key}: {back:?}, the cluster itself after {taken_over:?}"
            );
        } else {
            assert_nothing_is_lost(&key, &seen);
            let silence = seen.longest_silence(start, end);
            println!(
                "healthy shard, {key}: longest silence {silence:?}, {} outages",
                seen.outages
            );
            assert_eq!(seen.outages, 0, "{key}: another shard's trouble");
            assert!(
                silence < Duration::from_secs(1),
                "{key}: silent for {silence:?}"
            );
        }
    }
    if victim.pid().is_some() {
        victim.cont().unwrap();
    }
    client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_master_killed() {
    a_master_is_lost(async |victim| victim.kill9().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_master_stopped() {
    a_master_is_lost(async |victim| victim.stop().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_thousand_slots_move() {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&cluster.url()).unwrap())
        .await
        .unwrap();
    let from = cluster.node_of_slot(0).await.unwrap();
    let to = cluster.node_of_slot(16_383).await.unwrap();
    // Keys in the slots that move, so that every step of the migration meets a writer.
    let mut keys = Vec::new();
    for i in 0.. {
        let key = format!("moving-{i}");
        if redkit_core::slot(key.as_bytes()) < 1000 {
            keys.push(key);
        }
        if keys.len() == 16 {
            break;
        }
    }
    // Further keys that only lie there, many to a slot, so that slots are half moved for a while.
    let filler: Vec<Command> = (0..5000)
        .map(|i| format!("{{{}}}:{i}", keys[i % keys.len()]))
        .map(|key| Command::new("SET").key(key).arg("filler"))
        .collect();
    for chunk in filler.chunks(500) {
        for reply in client.pipeline(chunk.to_vec()).await.unwrap() {
            reply.unwrap();
        }
    }
    let writers: Vec<_> = keys
        .iter()
        .map(|key| Writer::start(&client, key.clone()))
        .collect();
    let start = Instant::now();
    cluster.migrate_slots(0..=999, from, to).await.unwrap();
    let took = start.elapsed();
    let mut answers = 0;
    for writer in writers {
        let (key, seen) = writer.end().await;
        assert_sound(&key, &seen);
        assert_nothing_is_lost(&key, &seen);
        assert_eq!(seen.outages, 0, "{key}: a migration is no outage");
        answers += seen.answers.len();
        // No failover, so nothing that was acknowledged may be lost.
        let last: String = client.call(Command::new("GET").key(&key)).await.unwrap();
        assert_eq!(
            last,
            format!("{key}={}", seen.acknowledged),
            "the last acknowledged write"
        );
    }
    println!("1000 slots moved in {took:?} under {answers} answers, none wrong, none lost");
    assert!(answers > 1000, "there was load");
    client.shutdown().await;
}
