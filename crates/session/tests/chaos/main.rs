//! Scenarios that break servers and processes under sessions for minutes: `cargo xtask chaos session`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a scenario fails by panicking"
)]

#[path = "../it/fleet.rs"]
mod fleet;

use std::time::Duration;

use self::fleet::{World, run};

const PROCESSES: usize = 6;
const TIME: Duration = Duration::from_secs(120);

#[tokio::test]
#[ignore = "it takes two minutes"]
async fn one_server() {
    run(&World::one().await, PROCESSES, TIME).await;
}

#[tokio::test]
#[ignore = "it takes two minutes"]
async fn cluster() {
    run(&World::cluster().await, PROCESSES, TIME).await;
}
