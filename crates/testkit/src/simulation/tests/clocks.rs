//! Time in a world: clocks of processes, their pauses and their ends.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::Command;
use tokio::time::sleep;

use super::*;

#[test]
fn a_process_reaches_the_server_and_an_hour_takes_no_time() {
    let mut world = Stage::new();
    world.process(|process, told| async move {
        let client = process.client();
        let set = Command::new("SET").key("k").arg("v").arg("EX").arg(3_600);
        client.call::<()>(set).await.unwrap();
        sleep(Duration::from_secs(3_599)).await;
        let there: Option<String> = client.call(Command::new("GET").key("k")).await.unwrap();
        sleep(Duration::from_secs(2)).await;
        let gone: Option<String> = client.call(Command::new("GET").key("k")).await.unwrap();
        told.note(format!("{there:?} {gone:?}"));
    });
    let began = std::time::Instant::now();
    assert!(world.run_until_done(Duration::from_secs(4_000)));
    assert_eq!(world.seen(), ["Some(\"v\") None"]);
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(world.now() >= Duration::from_secs(3_601));
}

#[test]
fn timers_of_a_fast_clock_end_early() {
    let mut world = Stage::new();
    let times = Arc::new(Mutex::new(Vec::new()));
    for drift in [0, 10_000, -10_000] {
        let times = Arc::clone(&times);
        let options = ProcessOptions::new("p").drift(drift);
        world.process_with(options, move |process| {
            let times = Arc::clone(&times);
            async move {
                sleep(Duration::from_secs(10)).await;
                times.lock().push((drift, process.now().as_millis()));
            }
        });
    }
    assert!(world.run_until_done(Duration::from_secs(20)));
    let mut times = times.lock().clone();
    times.sort_unstable();
    assert_eq!(times, [(-10_000, 10_101), (0, 10_000), (10_000, 9_900)]);
}

#[test]
fn a_clock_that_leaps_ends_timers_at_once() {
    let mut world = Stage::new();
    let process = world.process(|_, _| sleep(Duration::from_secs(60)));
    world.run_for(ms(500));
    world.inject(Fault::JumpClock {
        process,
        by: Duration::from_secs(60),
    });
    assert!(world.run_until_done(ms(100)));
}

#[test]
fn a_paused_process_notices_nothing_until_it_goes_on() {
    let mut world = Stage::new();
    let process = world.process(|process, told| async move {
        loop {
            sleep(ms(100)).await;
            told.note(format!("{}", process.now().as_millis()));
        }
    });
    world.run_for(ms(250));
    let lasts = Duration::from_secs(5);
    world.inject(Fault::PauseProcess { process, lasts });
    world.run_for(ms(5100));
    let seen = world.seen();
    assert_eq!(seen[..3], ["100", "200", "5250"]);
    assert!(seen.len() <= 5, "{seen:?}");
}

#[test]
fn a_killed_process_sends_nothing_more_and_its_successor_starts_anew() {
    struct SaysGoodbye(redkit_core::Client);
    impl Drop for SaysGoodbye {
        fn drop(&mut self) {
            let client = self.0.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    drop(
                        client
                            .call::<()>(Command::new("SET").key("bye").arg(1))
                            .await,
                    );
                });
            }
        }
    }
    let mut world = Stage::new();
    let process = world.process(|process, told| async move {
        told.note(format!("starts as {}", process.incarnation()));
        let _guard = SaysGoodbye(process.client());
        sleep(Duration::from_secs(1_000)).await;
    });
    world.run_for(ms(100));
    world.inject(Fault::KillProcess {
        process,
        restart_after: Some(ms(200)),
    });
    assert!(!world.is_alive(process));
    world.run_for(Duration::from_secs(5));
    assert!(world.is_alive(process));
    assert_eq!(world.seen(), ["starts as 0", "starts as 1"]);
    assert_eq!(world.get("bye"), None);
}
