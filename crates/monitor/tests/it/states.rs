//! Servers in states that a test forces, each reported with its cause and within its bound. The process
//! lives throughout, and a soft dependency leaves it ready.

use std::time::{Duration, Instant};

use redkit_core::{Client, ClientConfig, Command};
use redkit_monitor::{CauseKind, Check, Dependency, Health, Report, Status};
use redkit_testkit::{Cluster, Program, RawReply, Sentinels, Server, ServerOptions};

const TIMEOUT: Duration = Duration::from_millis(500);
/// The machine may be busy.
const BOUND: Duration = Duration::from_secs(3);

/// A client that has been connected.
async fn connected(url: &str) -> Client {
    let config = ClientConfig::from_url(url).unwrap().namespace("shop");
    let client = Client::connect(config).await.unwrap();
    client.call::<()>(Command::new("PING")).await.unwrap();
    client
}

fn builder(dependency: Dependency) -> Health {
    Health::builder()
        .dependency(dependency)
        .timeout(TIMEOUT)
        .fresh_for(Duration::ZERO)
        .build()
        .unwrap()
}

/// Looks at the health until it has this cause, and checks what has to hold besides.
async fn reported(client: &Client, kind: CauseKind) -> Report {
    let (hard, soft) = (
        builder(Dependency::hard("orders", client)),
        builder(Dependency::soft("orders", client)),
    );
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let start = Instant::now();
        let report = hard.ready().await;
        assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
        assert_eq!(hard.live().status, Status::Pass);
        if causes(&report).contains(&kind) {
            assert_eq!(report.status, Status::Fail, "{report:?}");
            let soft = soft.ready().await;
            assert_eq!(soft.status.http_status(), 200, "{soft:?}");
            let start = Instant::now();
            assert_ne!(hard.deep().await.status, Status::Pass);
            assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
            return report.as_ref().clone();
        }
        assert!(Instant::now() < patience, "not {kind}: {report:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn well(client: &Client) {
    let health = builder(Dependency::hard("orders", client));
    let patience = Instant::now() + Duration::from_secs(20);
    while health.ready().await.status != Status::Pass {
        assert!(Instant::now() < patience, "{:?}", health.ready().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn causes(report: &Report) -> Vec<CauseKind> {
    report
        .checks
        .iter()
        .filter_map(|check| Some(check.cause.as_ref()?.kind))
        .collect()
}

fn failed(report: &Report) -> Vec<&Check> {
    report
        .checks
        .iter()
        .filter(|check| check.status == Status::Fail)
        .collect()
}

#[tokio::test]
async fn a_server_that_is_gone_is_unreachable_and_comes_back() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connected(&server.url()).await;
    well(&client).await;
    server.kill9().await;
    reported(&client, CauseKind::Unreachable).await;
    server.restart().await.unwrap();
    well(&client).await;
}

#[tokio::test]
async fn a_server_that_is_stopped_is_silent_and_comes_back() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connected(&server.url()).await;
    well(&client).await;
    server.stop().unwrap();
    let report = reported(&client, CauseKind::Silent).await;
    assert_eq!(failed(&report)[0].measurement, "ping");
    server.cont().unwrap();
    well(&client).await;
}

#[tokio::test]
async fn a_replica_takes_no_writes() {
    let master = Server::redis(ServerOptions::new()).await.unwrap();
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connected(&server.url()).await;
    let (host, port) = (
        master.addr().ip().to_string(),
        master.addr().port().to_string(),
    );
    server.raw(&["REPLICAOF", &host, &port]).await.unwrap();
    let report = reported(&client, CauseKind::ReadOnly).await;
    assert_eq!(failed(&report)[0].measurement, "write");
    let reader = builder(Dependency::hard("orders", &client).without_writes());
    assert_ne!(reader.ready().await.status, Status::Fail);
    server.raw(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    well(&client).await;
}

#[tokio::test]
async fn full_memory_is_told_from_a_server_that_is_down() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connected(&server.url()).await;
    server
        .raw(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .await
        .unwrap();
    server
        .raw(&["CONFIG", "SET", "maxmemory", "1"])
        .await
        .unwrap();
    let report = reported(&client, CauseKind::OutOfMemory).await;
    assert_eq!(crate::check(&report, "orders", "ping").status, Status::Pass);
    let deep = builder(Dependency::hard("orders", &client)).deep().await;
    assert_eq!(crate::check(&deep, "orders", "memory").status, Status::Warn);
    server
        .raw(&["CONFIG", "SET", "maxmemory", "0"])
        .await
        .unwrap();
    well(&client).await;
}

#[tokio::test]
async fn a_server_that_loads_says_so() {
    let options = ServerOptions::new().config("loading-process-events-interval-bytes 1024");
    let server = Server::redis(options).await.unwrap();
    let client = connected(&server.url()).await;
    server
        .raw(&["DEBUG", "POPULATE", "2000", "key", "100"])
        .await
        .unwrap();
    server
        .raw(&["CONFIG", "SET", "key-load-delay", "1000"])
        .await
        .unwrap();
    // The reply comes when the server has loaded, after two seconds.
    let (_, report) = tokio::join!(
        server.raw(&["DEBUG", "RELOAD"]),
        reported(&client, CauseKind::Loading),
    );
    assert!(!failed(&report).is_empty());
    server
        .raw(&["CONFIG", "SET", "key-load-delay", "0"])
        .await
        .unwrap();
    well(&client).await;
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let set_user = async |rules: &[&str]| {
        let command = [
            &[
                "ACL",
                "SETUSER",
                "web",
                "on",
                ">secret",
                "resetkeys",
                "resetchannels",
            ],
            rules,
        ]
        .concat();
        assert!(matches!(
            server.raw(&command).await.unwrap(),
            RawReply::Status(_)
        ));
    };
    set_user(&["~*", "&*", "+@all"]).await;
    let client = connected(&format!("redis://web:secret@{}", server.addr())).await;
    well(&client).await;
    for (rules, missing) in [
        (&["~*", "&*", "+@all", "-set"][..], "`+set`"),
        (&["~*", "&*", "+@all", "-ping"], "`+ping`"),
        (
            &["~shop:cache:*", "&*", "+@all"],
            "`~shop:monitor:health:*`",
        ),
    ] {
        set_user(rules).await;
        let report = reported(&client, CauseKind::MissingRight).await;
        let cause = failed(&report)[0].cause.clone().unwrap();
        assert!(cause.to_string().contains(missing), "{cause}");
        let json = report.to_json(redkit_monitor::Detail::Short).to_string();
        assert!(json.contains(missing) && !json.contains("secret"), "{json}");
    }
    // Channels are a matter of the deep check.
    set_user(&["~*", "+@all"]).await;
    let health = builder(Dependency::hard("orders", &client));
    assert_eq!(health.ready().await.status, Status::Pass);
    let deep = health.deep().await;
    let cause = crate::check(&deep, "orders", "pubsub")
        .cause
        .clone()
        .unwrap();
    assert!(
        cause.to_string().contains("`&shop:monitor:health:*`"),
        "{cause}"
    );
}

#[tokio::test]
async fn a_failed_shard_of_a_cluster_is_named() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let client = connected(&cluster.url()).await;
    well(&client).await;
    let gone = &cluster.nodes()[1];
    gone.kill9().await;
    let report = reported(&client, CauseKind::Unreachable).await;
    let failed = failed(&report);
    let name = gone.addr().to_string();
    assert!(
        failed
            .iter()
            .any(|check| check.server.as_deref() == Some(&name)),
        "{failed:?}"
    );
}

#[tokio::test]
async fn sentinels_that_cannot_agree_on_a_failover_are_a_warning() {
    let sentinels = Sentinels::start(Program::Redis, 3, 1).await.unwrap();
    let client = connected(&sentinels.url()).await;
    let health = builder(Dependency::hard("orders", &client));
    let quorum = async || {
        let deep = health.deep().await;
        crate::check(&deep, "orders", "quorum").clone()
    };
    let patience = Instant::now() + Duration::from_secs(20);
    while quorum().await.status != Status::Pass {
        assert!(Instant::now() < patience, "{:?}", quorum().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for gone in &sentinels.sentinels()[1..] {
        gone.kill9().await;
    }
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let check = quorum().await;
        if let Some(cause) = &check.cause {
            assert_eq!(check.status, Status::Warn, "{check:?}");
            assert!(cause.to_string().contains("too few sentinels"), "{cause}");
            break;
        }
        assert!(Instant::now() < patience, "{check:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The master serves all the same.
    assert_eq!(health.ready().await.status, Status::Pass);
}
