//! The analysis of the key space.

use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command, Driver};
use redkit_monitor::{AnalysisConfig, Error, Statistics};
use redkit_testkit::{
    Cluster, FaultyBackend, Fixture, Injection, Program, Rule, Server, ServerOptions,
};
use tokio::time::Instant;

async fn set(client: &redkit_core::Client, key: &str, bytes: usize, ttl: Option<u64>) {
    let set = Command::new("SET")
        .key(client.key(key))
        .arg(vec![b'x'; bytes]);
    let set = match ttl {
        Some(seconds) => set.arg("EX").arg(seconds),
        None => set,
    };
    client.call::<()>(set).await.unwrap();
}

redkit_testkit::suite! {
    async fn counts_sizes_and_orphans_are_found_by_prefix(fixture: Fixture) {
        let client = &fixture.client;
        for number in 0..300 {
            set(client, &format!("cache:products:{{{number}}}"), 100, Some(1_000)).await;
        }
        for number in 0..20 {
            set(client, &format!("session:web:{{{number}}}"), 10, None).await;
        }
        set(client, "cart:7:items", 50_000, None).await;
        set(client, "idempotent:pay:{k}", 10, None).await;
        // What stays on purpose.
        for stays in ["semaphore:exports:{eu}:permits", "monitor:dashboard:{fleet}:audit", "monitor:dashboard:{fleet}:refusals"] {
            set(client, stays, 10, None).await;
        }
        let namespace = fixture.namespace();
        let config = AnalysisConfig::default().keys_per_second(1_000_000).prefix_depth(4);
        let analysis = Statistics::new(client).analyze(config).unwrap();
        let progress = analysis.watch();
        let report = analysis.finish().await.unwrap();
        assert_eq!(progress.borrow().scanned, report.scanned);
        assert!(report.is_complete && report.failed.is_empty(), "{report:?}");
        let prefix = |end: &str| {
            let wanted = format!("{namespace}:{end}");
            report.prefixes.iter().find(|prefix| prefix.prefix == wanted).unwrap_or_else(|| panic!("{wanted} {report:?}"))
        };
        let (products, sessions, carts) = (prefix("cache:products:"), prefix("session:web:"), prefix("cart:*:"));
        // `SCAN` may give a key twice while the table grows.
        assert!(products.keys >= 300 && products.without_ttl == 0, "{products:?}");
        assert!(products.bytes() >= 300 * 100);
        assert!(sessions.keys >= 20 && sessions.without_ttl >= 20);
        assert!(carts.bytes() >= 50_000);
        assert!(report.biggest[0].bytes >= 50_000);
        assert!(report.orphans >= 21, "sessions and an execution, no cart and nothing that stays on purpose");
        let orphans = [format!("{namespace}:session:"), format!("{namespace}:idempotent:")];
        let is_orphan = |key: &bytes::Bytes| orphans.iter().any(|orphan| key.starts_with(orphan.as_bytes()));
        assert!(report.orphan_examples.iter().all(is_orphan), "{:?}", report.orphan_examples);
        assert!(report.ttl[4] >= 300 || report.ttl[3] >= 300, "{:?}", report.ttl);
    }
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_kept_and_a_part_can_be_sampled() {
    let client = FaultyBackend::embedded().client();
    for number in 0..10_000 {
        set(&client, &format!("k:{number}"), 1, None).await;
    }
    let start = Instant::now();
    let config = AnalysisConfig::default()
        .keys_per_second(1_000)
        .sample_every(10);
    let report = Statistics::new(&client)
        .analyze(config)
        .unwrap()
        .finish()
        .await
        .unwrap();
    assert!(report.scanned >= 10_000);
    assert_eq!(report.sampled, report.scanned / 10);
    let took = start.elapsed().as_secs_f64();
    assert!((9.0..12.0).contains(&took), "{took}");
    let config = AnalysisConfig::default().max_keys(1_000);
    let report = Statistics::new(&client)
        .analyze(config)
        .unwrap()
        .finish()
        .await
        .unwrap();
    assert!(
        !report.is_complete && (1_000..1_500).contains(&report.scanned),
        "{report:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_analysis_gives_what_it_has_seen() {
    let client = FaultyBackend::embedded().client();
    for number in 0..5_000 {
        set(&client, &format!("k:{number}"), 1, None).await;
    }
    let config = AnalysisConfig::default().keys_per_second(200);
    let analysis = Statistics::new(&client).analyze(config).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(analysis.progress().total, 5_000);
    let start = Instant::now();
    analysis.cancel();
    let report = analysis.finish().await.unwrap();
    assert!(
        !report.is_complete && report.scanned >= 400 && report.scanned < 1_500,
        "{report:?}"
    );
    assert!(start.elapsed() < Duration::from_millis(100));
    let zero = AnalysisConfig::default().keys_per_second(0);
    assert!(Statistics::new(&client).analyze(zero).is_err());
}

#[tokio::test]
async fn an_analysis_across_a_change_of_server_does_not_call_itself_complete() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    server
        .raw(&["DEBUG", "POPULATE", "2000", "key", "10"])
        .await
        .unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let config = AnalysisConfig::default().keys_per_second(1_000);
    let analysis = Statistics::new(&client).analyze(config).unwrap();
    let mut progress = analysis.watch();
    progress
        .wait_for(|progress| progress.scanned > 0)
        .await
        .unwrap();
    server.restart().await.unwrap();
    let report = analysis.finish().await.unwrap();
    assert!(
        !report.is_complete && report.failed.is_empty(),
        "{report:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_analysis_sends_nothing_on_the_connection_that_others_share() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    for number in 0..300 {
        set(&client, &format!("k:{number}"), 1, None).await;
    }
    backend.forget();
    let analysis = Statistics::new(&client).analyze(AnalysisConfig::default());
    let report = analysis.unwrap().finish().await.unwrap();
    assert!(report.is_complete && report.sampled >= 300, "{report:?}");
    assert!(backend.count("MEMORY") >= 300);
    let shared = backend.seen_shared();
    assert!(shared.is_empty(), "{shared:?}");
}

#[tokio::test(start_paused = true)]
async fn an_analysis_goes_on_when_its_connection_breaks_and_ends_when_the_client_does() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    for number in 0..300 {
        set(&client, &format!("k:{number}"), 1, None).await;
    }
    // Three in a row are made up for.
    backend.set(
        Rule::new(Injection::LoseReply)
            .on_name("SCAN")
            .skip(1)
            .times(3),
    );
    let analysis = Statistics::new(&client).analyze(AnalysisConfig::default());
    let report = analysis.unwrap().finish().await.unwrap();
    assert!(report.is_complete && report.sampled >= 300, "{report:?}");
    assert_eq!(backend.count("CONNECT"), 2 + 1 + 3);

    let slow = AnalysisConfig::default().keys_per_second(10);
    let analysis = Statistics::new(&client).analyze(slow).unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;
    client.shutdown().await;
    let ended = tokio::time::timeout(Duration::from_secs(60), analysis.finish());
    let ended = ended.await.unwrap();
    assert!(matches!(ended, Err(Error::NoServer { .. })), "{ended:?}");
}

/// The connections of clients, on all servers.
async fn connections(client: &Client) -> usize {
    let mut sum = 0;
    for server in client.servers() {
        let list = Command::new("CLIENT").arg("LIST");
        let list: String = client.call_server(&server.name, list).await.unwrap();
        sum += list.lines().count();
    }
    sum
}

async fn until_there_are(client: &Client, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut there = connections(client).await;
    while there != wanted {
        assert!(Instant::now() < deadline, "{there} instead of {wanted}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        there = connections(client).await;
    }
}

/// How many connections there are when none is being opened or closed any more.
async fn settled_connections(client: &Client) -> usize {
    let (mut there, mut seen) = (connections(client).await, 0);
    let deadline = Instant::now() + Duration::from_secs(20);
    while seen < 20 {
        assert!(Instant::now() < deadline, "connections come and go");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = connections(client).await;
        seen = if now == there { seen + 1 } else { 0 };
        there = now;
    }
    there
}

/// An analysis that goes on for long has one more connection to each server, and closes it.
async fn own_connections_are_closed(url: &str, driver: Driver) {
    let config = ClientConfig::from_url(url).unwrap().driver(driver);
    let client = Client::connect(config).await.unwrap();
    for number in 0..500 {
        set(&client, &format!("k:{number}"), 1, None).await;
    }
    let before = settled_connections(&client).await;
    let slow = AnalysisConfig::default().keys_per_second(1);
    let analysis = Statistics::new(&client).analyze(slow).unwrap();
    until_there_are(&client, before + client.servers().len()).await;
    drop(analysis);
    until_there_are(&client, before).await;
    let fast = AnalysisConfig::default().keys_per_second(1_000_000);
    let analysis = Statistics::new(&client).analyze(fast).unwrap();
    let report = analysis.finish().await.unwrap();
    assert!(report.is_complete && report.sampled >= 500, "{report:?}");
    until_there_are(&client, before).await;
    client.shutdown().await;
}

#[tokio::test]
async fn an_analysis_closes_its_connection_to_a_server() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    own_connections_are_closed(&server.url(), Driver::default()).await;
    own_connections_are_closed(&server.url(), Driver::Fred).await;
}

#[tokio::test]
async fn an_analysis_closes_its_connection_to_each_node_of_a_cluster() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    own_connections_are_closed(&cluster.url(), Driver::default()).await;
}
