//! Sentinels: they come up, a planned failover, and the election after a kill.

use std::net::SocketAddr;

use redkit_testkit::{Program, SentinelOptions, Sentinels, Server};

fn addrs<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Vec<SocketAddr> {
    let mut addrs: Vec<_> = servers.into_iter().map(Server::addr).collect();
    addrs.sort();
    addrs
}

async fn text(server: &Server, command: &[&str]) -> String {
    let reply = server.raw(command).await.unwrap();
    reply.text().unwrap_or_default()
}

async fn comes_up(program: Program) {
    let all = Sentinels::start(program, 3, 2).await.unwrap();
    let [master, replicas @ ..] = all.servers() else {
        panic!("no servers");
    };
    assert_eq!(all.master().await.unwrap().addr(), master.addr());
    assert_eq!(addrs(all.replicas().await.unwrap()), addrs(replicas));
    let sentinels: Vec<_> = all
        .sentinels()
        .iter()
        .map(|s| s.addr().to_string())
        .collect();
    assert_eq!(sentinels.len(), 3);
    let url = format!("redis-sentinel://{}/mymaster", sentinels.join(","));
    assert_eq!(all.url(), url);
    assert_eq!(text(master, &["SET", "k", "v"]).await, "OK");
    assert_eq!(text(master, &["WAIT", "2", "5000"]).await, "2");
    assert_eq!(text(&replicas[1], &["GET", "k"]).await, "v");
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
async fn a_planned_failover_promotes_a_replica() {
    let all = Sentinels::start(Program::Redis, 3, 1).await.unwrap();
    let [old, replica] = [0, 1].map(|at| &all.servers()[at]);
    text(old, &["SET", "k", "v"]).await;
    assert_eq!(text(old, &["WAIT", "1", "5000"]).await, "1");
    let master = all.failover().await.unwrap();
    assert_eq!(master.addr(), replica.addr());
    assert_eq!(text(master, &["GET", "k"]).await, "v");
    assert_eq!(text(master, &["SET", "k", "w"]).await, "OK");
    all.wait_until_ok().await.unwrap();
    assert_eq!(addrs(all.replicas().await.unwrap()), [old.addr()]);
    assert_eq!(text(old, &["GET", "k"]).await, "w");
}

/// With passwords of both kinds and TLS, without which the sentinels could not do it.
#[tokio::test]
async fn after_a_kill_they_elect_a_master_and_take_the_old_one_back() {
    let options = SentinelOptions::new()
        .password("p@ss/w%rd")
        .sentinel_password("guard&ed")
        .tls();
    let all = Sentinels::start_with(Program::Redis, 3, 2, options)
        .await
        .unwrap();
    let url = all.url();
    assert!(
        url.starts_with("rediss-sentinel://:p%40ss%2Fw%25rd@127.0.0.1:"),
        "{url}"
    );
    assert!(url.contains("/mymaster?tls_ca_file="), "{url}");
    assert!(url.ends_with("&sentinel_password=guard%26ed"), "{url}");

    let killed = all.kill_master().await.unwrap();
    assert!(!killed.is_running());
    let master = all.wait_for_other_master(killed.addr()).await.unwrap();
    assert_eq!(text(master, &["SET", "k", "v"]).await, "OK");
    all.wait_until_ok().await.unwrap();
    assert_eq!(all.replicas().await.unwrap().len(), 1);

    killed.restart().await.unwrap();
    all.wait_until_ok().await.unwrap();
    assert_eq!(all.master().await.unwrap().addr(), master.addr());
    assert_eq!(text(killed, &["GET", "k"]).await, "v");
}
