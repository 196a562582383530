//! The shop under faults for longer than a test may take: `cargo xtask chaos storefront`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    dead_code,
    reason = "the modules are those of the other tests, which use more of them"
)]

mod cost;
#[path = "../it/customer.rs"]
mod customer;
#[path = "../it/database.rs"]
mod database;
#[path = "../it/outage.rs"]
mod outage;
#[path = "../it/process.rs"]
mod process;
#[path = "../it/watched.rs"]
mod watched;

use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes a minute and a half"]
async fn a_minute_of_shopping_with_a_restart_and_a_killed_process() {
    outage::shoppers_and_faults(Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes two minutes, and measures"]
async fn the_cost_of_an_open_dashboard_of_five_instances() {
    cost::of_an_open_page().await;
}
