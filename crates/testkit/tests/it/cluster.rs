//! A cluster: it comes up, slots move with their keys, a replica takes over.

use std::net::SocketAddr;

use redkit_testkit::{Cluster, ClusterOptions, Program, RawReply, Server};

fn addrs(servers: &[&Server]) -> Vec<SocketAddr> {
    let mut addrs: Vec<_> = servers.iter().map(|server| server.addr()).collect();
    addrs.sort();
    addrs
}

async fn text(server: &Server, command: &[&str]) -> String {
    let reply = server.raw(command).await.unwrap();
    reply.text().unwrap_or_default()
}

/// Writes a key for each number at the master that has its slot.
async fn fill(cluster: &Cluster, tag: &str, keys: usize) {
    let owner = cluster.node_of_slot(cluster.slot_of(tag).await.unwrap());
    let owner = owner.await.unwrap();
    for i in 0..keys {
        let key = format!("{{{tag}}}:{i}");
        assert_eq!(text(owner, &["SET", &key, &i.to_string()]).await, "OK");
    }
}

async fn comes_up(program: Program) {
    let cluster = Cluster::start(program, 3, 1).await.unwrap();
    let masters = cluster.masters().await.unwrap();
    assert_eq!(
        addrs(&masters),
        addrs(&cluster.nodes().iter().take(3).collect::<Vec<_>>())
    );
    assert_eq!(
        cluster.node_of_slot(0).await.unwrap().addr(),
        masters[0].addr()
    );
    assert_eq!(
        cluster.node_of_slot(16_383).await.unwrap().addr(),
        masters[2].addr()
    );
    for (master, replica) in masters.iter().zip(&cluster.nodes()[3..]) {
        let replicas = cluster.replicas_of(master).await.unwrap();
        assert_eq!(addrs(&replicas), [replica.addr()]);
        assert!(cluster.replicas_of(replica).await.unwrap().is_empty());
    }
    let all: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| node.addr().to_string())
        .collect();
    assert_eq!(cluster.url(), format!("redis-cluster://{}", all.join(",")));

    for tag in ["a", "b", "c", "d"] {
        fill(&cluster, tag, 5).await;
    }
    assert_eq!(cluster.dbsize().await.unwrap(), 20);
    cluster.flushall().await.unwrap();
    assert_eq!(cluster.dbsize().await.unwrap(), 0);
}

#[tokio::test]
async fn redis_comes_up() {
    comes_up(Program::Redis).await;
}

#[tokio::test]
async fn valkey_comes_up() {
    comes_up(Program::Valkey).await;
}

#[tokio::test]
async fn a_slot_moves_live_with_its_keys() {
    let cluster = Cluster::start(Program::Redis, 2, 0).await.unwrap();
    fill(&cluster, "tag", 250).await;
    let slot = cluster.slot_of("tag").await.unwrap();
    let from = cluster.node_of_slot(slot).await.unwrap();
    let masters = cluster.masters().await.unwrap();
    let to = masters
        .into_iter()
        .find(|to| to.addr() != from.addr())
        .unwrap();

    let migration = cluster.begin_migration(slot, to).await.unwrap();
    assert_eq!(migration.from().addr(), from.addr());
    assert_eq!(migration.move_some(120).await.unwrap(), 120);
    // Half-way: each key is at one of them, and the source sends on for those that are gone.
    assert_eq!(cluster.dbsize().await.unwrap(), 250);
    assert_eq!(text(to, &["DBSIZE"]).await, "120");
    let mut sent_on = 0;
    for i in 0..250 {
        let reply = text(from, &["GET", &format!("{{tag}}:{i}")]).await;
        match reply.as_str() {
            reply if reply == i.to_string() => {}
            reply => {
                assert_eq!(reply, format!("ASK {slot} {}", to.addr()));
                sent_on += 1;
            }
        }
    }
    assert_eq!(sent_on, 120);
    assert_eq!(
        cluster.node_of_slot(slot).await.unwrap().addr(),
        from.addr()
    );

    migration.finish().await.unwrap();
    assert_eq!(text(from, &["DBSIZE"]).await, "0");
    assert_eq!(text(to, &["GET", "{tag}:249"]).await, "249");
    let moved = text(from, &["GET", "{tag}:249"]).await;
    assert_eq!(moved, format!("MOVED {slot} {}", to.addr()));
    assert_eq!(cluster.node_of_slot(slot).await.unwrap().addr(), to.addr());
    cluster.wait_until_ok().await.unwrap();

    cluster.migrate_slots(slot..=slot, to, from).await.unwrap();
    assert_eq!(text(from, &["DBSIZE"]).await, "250");
    // What a node does not have it cannot give away.
    cluster
        .migrate_slots(slot..=slot, to, from)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_replica_takes_over_when_asked_and_when_its_master_is_killed() {
    let cluster = Cluster::start(Program::Redis, 3, 1).await.unwrap();
    let [old, .., replica] = [0, 3].map(|at| &cluster.nodes()[at]);
    fill(&cluster, "b", 10).await;
    let slot = cluster.slot_of("b").await.unwrap();
    assert_eq!(cluster.node_of_slot(slot).await.unwrap().addr(), old.addr());

    cluster.failover(replica).await.unwrap();
    assert_eq!(
        cluster.node_of_slot(slot).await.unwrap().addr(),
        replica.addr()
    );
    assert_eq!(
        addrs(&cluster.replicas_of(replica).await.unwrap()),
        [old.addr()]
    );
    assert_eq!(text(replica, &["GET", "{b}:9"]).await, "9");

    replica.kill9().await;
    assert_eq!(
        cluster.node_of_slot(slot).await.unwrap().addr(),
        replica.addr()
    );
    cluster.wait_until_ok().await.unwrap();
    assert_eq!(cluster.node_of_slot(slot).await.unwrap().addr(), old.addr());
    assert_eq!(text(old, &["GET", "{b}:9"]).await, "9");
    assert_eq!(cluster.masters().await.unwrap().len(), 3);

    // The one that was killed comes back as a replica.
    replica.restart().await.unwrap();
    cluster.wait_until_ok().await.unwrap();
    assert_eq!(
        addrs(&cluster.replicas_of(old).await.unwrap()),
        [replica.addr()]
    );
}

#[tokio::test]
async fn a_stopped_master_is_replaced_and_comes_back_as_a_replica() {
    let cluster = Cluster::start(Program::Valkey, 3, 1).await.unwrap();
    let [stopped, replica] = [1, 4].map(|at| &cluster.nodes()[at]);
    stopped.stop().unwrap();
    cluster.wait_until_ok().await.unwrap();
    assert_eq!(
        cluster.node_of_slot(8000).await.unwrap().addr(),
        replica.addr()
    );
    stopped.cont().unwrap();
    cluster.wait_until_ok().await.unwrap();
    assert_eq!(
        addrs(&cluster.replicas_of(replica).await.unwrap()),
        [stopped.addr()]
    );
}

#[tokio::test]
async fn with_a_password_and_tls_its_nodes_reach_one_another() {
    let options = ClusterOptions::new().password("p@ss/w%rd").tls();
    let cluster = Cluster::start_with(Program::Redis, 2, 1, options)
        .await
        .unwrap();
    assert!(
        cluster
            .url()
            .starts_with("rediss-cluster://:p%40ss%2Fw%25rd@127.0.0.1:"),
        "{}",
        cluster.url()
    );
    fill(&cluster, "tag", 3).await;
    let slot = cluster.slot_of("tag").await.unwrap();
    let from = cluster.node_of_slot(slot).await.unwrap();
    let masters = cluster.masters().await.unwrap();
    let to = masters
        .into_iter()
        .find(|to| to.addr() != from.addr())
        .unwrap();
    cluster.migrate_slots(slot..=slot, from, to).await.unwrap();
    let got = to.raw(&["GET", "{tag}:2"]).await.unwrap();
    assert_eq!(got, RawReply::Bulk(b"2".to_vec()));
    let replicas = cluster.replicas_of(to).await.unwrap();
    cluster.failover(replicas[0]).await.unwrap();
    assert_eq!(
        cluster.node_of_slot(slot).await.unwrap().addr(),
        replicas[0].addr()
    );
}
