//! What happens to messages, connections and subscriptions.

use std::time::Duration;

use redkit_core::{Command, GapReason, Interest, Push};
use tokio::time::{Instant, sleep};

use super::*;

#[test]
fn a_lost_reply_is_a_maybe_and_a_lost_request_too_and_the_driver_connects_again() {
    let mut world = Stage::new();
    let process = world.process(|process, told| async move {
        let client = process.client();
        for _ in 0..4 {
            sleep(ms(100)).await;
            let result = client.call::<i64>(incr()).await;
            told.note(match result {
                Ok(n) => n.to_string(),
                Err(error) => format!("maybe: {}", error.is_maybe()),
            });
        }
    });
    world.run_for(ms(150));
    world.inject(Fault::LoseReply {
        process,
        server: SERVER,
    });
    world.run_for(ms(100));
    world.inject(Fault::LoseRequest {
        process,
        server: SERVER,
    });
    assert!(world.run_until_done(Duration::from_secs(5)));
    assert_eq!(world.seen(), ["1", "maybe: true", "maybe: true", "3"]);
}

#[test]
fn of_requests_under_way_when_a_connection_is_cut_some_first_ones_arrive() {
    let mut arrived = Vec::new();
    for seed in 0..40 {
        let mut world = Stage::of_seed(seed);
        let process = world.process(|process, _| async move {
            let client = process.client();
            let calls = (0..10).map(|_| client.call::<i64>(incr()));
            let results = futures_util::future::join_all(calls).await;
            for result in results {
                assert!(result.is_ok() || result.is_err_and(|error| error.is_maybe()));
            }
        });
        world.run_for(ms(1) + Duration::from_micros(200 * (seed % 20)));
        world.inject(Fault::Cut {
            process,
            server: SERVER,
        });
        assert!(world.run_until_done(Duration::from_secs(5)));
        arrived.push(world.get("n").map_or(0, |n| n.parse::<u32>().unwrap()));
    }
    assert!(arrived.iter().any(|n| (1..10).contains(n)), "{arrived:?}");
}

#[test]
fn what_a_partition_holds_arrives_when_it_is_over_though_its_caller_has_given_up() {
    let mut world = Stage::new();
    let process = world.process(|process, told| async move {
        let client = process.client();
        client.call::<i64>(incr()).await.unwrap();
        sleep(ms(100)).await;
        let began = Instant::now();
        let error = client.call::<i64>(incr()).await.unwrap_err();
        assert!(error.is_maybe(), "{error}");
        assert!(began.elapsed() <= ms(1001), "{:?}", began.elapsed());
        told.note("given up");
    });
    world.run_for(ms(50));
    world.inject(Fault::Partition {
        process,
        server: SERVER,
        direction: Direction::Both,
        lasts: Duration::from_secs(3),
    });
    assert!(world.run_until_done(ms(1200)));
    assert_eq!(world.get("n").as_deref(), Some("1"));
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.get("n").as_deref(), Some("2"), "it came late");
}

#[test]
fn a_subscription_is_told_that_it_is_lost_and_stands_again() {
    let mut world = Stage::new();
    let subscriber = world.process(|process, told| async move {
        let client = process.client();
        let interest = Interest::Channels(vec!["news".into()]);
        let mut pushes = client.subscribe(interest).await.unwrap();
        while let Some(push) = pushes.next().await {
            told.note(match push {
                Push::Message { payload, .. } => String::from_utf8_lossy(&payload).into(),
                Push::Gap(GapReason::Lost) => "lost".to_owned(),
                Push::Gap(GapReason::Reconnected) => "reconnected".to_owned(),
                other => format!("{other:?}"),
            });
        }
    });
    let publish = |world: &mut World, text: &str| {
        let publish = Command::new("PUBLISH").arg("news").arg(text);
        world.ask(SERVER, publish).unwrap();
        world.run_for(ms(300));
    };
    world.run_for(ms(300));
    publish(&mut world, "one");
    world.inject(Fault::Cut {
        process: subscriber,
        server: SERVER,
    });
    world.run_for(ms(300));
    publish(&mut world, "two");
    assert_eq!(world.seen(), ["one", "lost", "reconnected", "two"]);
}
