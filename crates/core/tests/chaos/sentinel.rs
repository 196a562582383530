//! Behind sentinels: a planned failover, a killed and a stopped master.

use std::time::{Duration, Instant};

use redkit_core::{Client, ClientConfig, Command, Driver};
use redkit_testkit::{Program, Sentinels};

use crate::ALONE;
use crate::load::Writer;

/// What the fixture's sentinels are told.
const DOWN_AFTER: Duration = Duration::from_secs(1);

/// How soon after the sentinels' own decision, whose length is their affair, the client follows at
/// the latest.
const SLACK: Duration = Duration::from_millis(750);

async fn connect(sentinels: &Sentinels, driver: Driver) -> Client {
    let config = ClientConfig::from_url(&sentinels.url())
        .unwrap()
        .driver(driver)
        .command_timeout(Duration::from_millis(500));
    Client::connect(config).await.unwrap()
}

async fn the_master_changes(driver: Driver, change: impl AsyncFnOnce(&Sentinels)) {
    let _alone = ALONE.lock().await;
    let sentinels = Sentinels::start(Program::Redis, 3, 2).await.unwrap();
    let client = connect(&sentinels, driver).await;
    let writers: Vec<_> = (0..8)
        .map(|i| Writer::start(&client, format!("key-{i}")))
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let old = sentinels.master().await.unwrap().addr();
    let start = Instant::now();
    change(&sentinels).await;
    sentinels.wait_for_other_master(old).await.unwrap();
    let known = start.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let end = Instant::now();
    for writer in writers {
        let (key, seen) = writer.end().await;
        assert!(seen.wrong.is_empty(), "{key}: {:?}", seen.wrong);
        assert!(
            seen.surfaced.is_empty(),
            "{key}: errors surfaced: {:?}",
            seen.surfaced
        );
        let silence = seen.longest_silence(start, end);
        println!(
            "{key}: silent for {silence:?} (the sentinels knew after {known:?}), {} outages",
            seen.outages
        );
        assert!(
            silence < known.max(DOWN_AFTER) + SLACK,
            "{key}: {silence:?}"
        );
    }
    // What is written now is on the new master.
    client
        .call::<()>(Command::new("SET").key("after").arg("new"))
        .await
        .unwrap();
    let master = sentinels.master().await.unwrap();
    assert_ne!(master.addr(), old);
    assert_eq!(
        master
            .raw(&["GET", "after"])
            .await
            .unwrap()
            .text()
            .as_deref(),
        Some("new")
    );
    client.shutdown().await;
}

async fn fail_over(sentinels: &Sentinels) {
    sentinels.failover().await.unwrap();
}

async fn kill(sentinels: &Sentinels) {
    sentinels.kill_master().await.unwrap();
}

async fn stop(sentinels: &Sentinels) {
    sentinels.master().await.unwrap().stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_planned_failover() {
    the_master_changes(Driver::Native, fail_over).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_planned_failover_under_fred() {
    the_master_changes(Driver::Fred, fail_over).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_master_killed() {
    the_master_changes(Driver::Native, kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_master_killed_under_fred() {
    the_master_changes(Driver::Fred, kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_master_stopped() {
    the_master_changes(Driver::Native, stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_master_stopped_under_fred() {
    the_master_changes(Driver::Fred, stop).await;
}
