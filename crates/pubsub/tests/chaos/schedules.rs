//! Schedules over a year with a leap day and both changes of the clocks.
#![cfg(feature = "schedule")]

use std::time::Duration;

use crate::clocks::{Stretch, check_each_time_comes_once};

#[test]
#[ignore = "minutes: `cargo xtask chaos pubsub year`"]
fn year() {
    let began = std::time::Instant::now();
    let figures = check_each_time_comes_once(&Stretch {
        begin: "2027-12-29T00:00:00Z",
        lasts: Duration::from_secs(371 * 86_400),
        look: Duration::from_secs(1_200),
        often: ("0 * * * *", 3_600),
        notice: Duration::from_secs(20),
    });
    assert!(figures.ticks > 371 * 25, "{figures:?}");
    println!("371 days in {:?}: {figures:?}", began.elapsed());
}
