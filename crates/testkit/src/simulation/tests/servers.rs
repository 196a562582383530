//! What happens to servers and their data.

use std::time::Duration;

use redkit_core::{CallError, ClientConfig, Command, Error, Value};
use tokio::time::{Instant, sleep};

use super::*;

#[test]
fn a_failover_forgets_all_scripts() {
    let mut world = Stage::new();
    let load = Command::new("SCRIPT").arg("LOAD").arg("return 1");
    let sha: String = world.ask(SERVER, load).unwrap().to().unwrap();
    let run = Command::new("EVALSHA").arg(sha).arg(0);
    assert_eq!(world.ask(SERVER, run.clone()).unwrap(), Value::Int(1));
    world.inject(Fault::Failover {
        server: SERVER,
        lag: ms(0),
        down: ms(50),
    });
    world.run_for(ms(100));
    let error = world.ask(SERVER, run).unwrap_err();
    assert!(matches!(error, CallError::Replied(error) if error.code() == "NOSCRIPT"));
}

#[test]
fn data_of_a_replica_that_is_behind_are_those_of_then() {
    let mut world = Stage::new();
    let mut schedule = Schedule::default();
    let (lag, down) = (ms(300), ms(50));
    let fault = Fault::Failover {
        server: SERVER,
        lag,
        down,
    };
    schedule.faults.push(PlannedFault {
        at: ms(1_000),
        fault,
    });
    world.plan(&schedule);
    for n in 0..99 {
        let set = Command::new("SET").key("k").arg(n);
        world.ask(SERVER, set).unwrap();
        world.run_for(ms(10));
    }
    world.run_for(ms(100));
    let left: u32 = world.get("k").unwrap().parse().unwrap();
    assert!((69..=71).contains(&left), "{left}");
}

#[test]
fn a_server_that_is_down_refuses_connections_and_comes_back_as_it_was_told() {
    for (data, left) in [(Data::Kept, Some("v")), (Data::Lost, None)] {
        let mut world = Stage::new();
        world.process(|process, told| async move {
            let config = ClientConfig::default()
                .retry(1, Duration::ZERO, Duration::ZERO)
                .command_timeout(ms(100));
            let client = process.client_with(SERVER, &config);
            let set = Command::new("SET").key("k").arg("v");
            client.call::<()>(set).await.unwrap();
            sleep(ms(200)).await;
            let result = client
                .call::<Value>(Command::new("SET").key("x").arg(1))
                .await;
            let is_sent =
                |error: &Error| !matches!(error.call_error(), Some(CallError::NotSent(_)));
            told.note(format!("{:?}", result.as_ref().map_err(is_sent)));
        });
        world.run_for(ms(100));
        world.inject(Fault::RestartServer {
            server: SERVER,
            down: Duration::from_secs(1),
            data,
        });
        assert!(world.run_until_done(Duration::from_secs(1)));
        assert_eq!(world.seen(), ["Err(false)"]);
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.get("k").as_deref(), left);
    }
}

#[test]
fn a_full_server_refuses_writes_and_carries_out_what_was_sent_to_a_stopped_one() {
    let mut world = Stage::new();
    world.process(|process, told| async move {
        let client = process.client();
        for _ in 0..3 {
            sleep(ms(100)).await;
            let result = client.call::<i64>(incr()).await;
            let at = process.now().as_millis() / 100;
            told.note(format!("{} {at}", result.map_or(-1, |n| n)));
        }
    });
    world.run_for(ms(50));
    let lasts = ms(100);
    world.inject(Fault::FullMemory {
        server: SERVER,
        lasts,
    });
    world.run_for(ms(150));
    world.inject(Fault::PauseServer {
        server: SERVER,
        lasts: ms(500),
    });
    assert!(world.run_until_done(Duration::from_secs(5)));
    assert_eq!(world.seen(), ["-1 1", "1 7", "2 8"]);
}

#[test]
fn blocking_commands_wait_on_the_server_and_see_its_time() {
    let mut world = Stage::new();
    world.process(|process, told| async move {
        let client = process.client().dedicated().await.unwrap();
        for _ in 0..2 {
            let wait = Command::new("BLPOP").key("list").arg(1);
            let wait = wait.deadline(Instant::now() + Duration::from_secs(3));
            let popped: Option<(String, String)> = client.call(wait).await.unwrap();
            let at = process.now().as_millis() / 100;
            told.note(format!("{:?} {at}", popped.map(|(_, item)| item)));
        }
    });
    world.run_for(ms(500));
    let push = Command::new("RPUSH").key("list").arg("item");
    world.ask(SERVER, push).unwrap();
    assert!(world.run_until_done(Duration::from_secs(5)));
    assert_eq!(world.seen(), ["Some(\"item\") 5", "None 15"]);
}
