//! Real processes at the same sessions.

use std::time::Duration;

use crate::fleet::{World, run};

#[tokio::test]
async fn a_fleet_on_one_server_revives_nothing_and_loses_no_change() {
    run(&World::one().await, 3, Duration::from_secs(8)).await;
}

#[tokio::test]
async fn a_fleet_on_a_cluster_revives_nothing_and_loses_no_change() {
    run(&World::cluster().await, 3, Duration::from_secs(8)).await;
}
