//! A topic with several consumer processes, of which some are killed and some are paused for longer than
//! their lease: nothing is lost, and a message is handled twice only where a process died or was paused.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command, Driver};
use redkit_pubsub::topic::{Delivery, Outcome, Topic};
use redkit_testkit::{BackendKind, Fixture};
use tokio::process::Child;
use tokio::time::sleep;

use crate::handling::{topic, until_stats};

const MESSAGES: u32 = 400;
const POISON: u32 = 77;
const CONCURRENCY: usize = 4;
const LEASE: Duration = Duration::from_millis(800);

fn variable(name: &str) -> String {
    std::env::var(name).expect("it is started by a test")
}

/// The other process: works until it is killed, drains when its input ends.
#[test]
#[ignore = "a process that the test below starts"]
fn a_worker_process() {
    let config = ClientConfig::from_url(&variable("REDKIT_TEST_URL")).unwrap();
    let config = config.namespace(variable("REDKIT_TEST_NAMESPACE"));
    let config = match &*variable("REDKIT_TEST_FRED") {
        "true" => config.driver(Driver::Fred),
        _ => config,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let client = Client::connect(config).await.unwrap();
        let numbers: Topic<u32> = topic(&client);
        let effects = client.key("effects");
        let consumer = numbers
            .consumer("g")
            .concurrency(CONCURRENCY)
            .lease(LEASE)
            .max_attempts(20);
        let consumer = consumer.backoff(Duration::from_millis(5), Duration::from_millis(50));
        let worker = consumer.start(move |delivery: Delivery<u32>| {
            let (client, effects) = (client.clone(), effects.clone());
            async move {
                sleep(Duration::from_millis(10)).await;
                if delivery.payload == POISON {
                    panic!("poison");
                }
                if rand::random_range(0..100) < 5 {
                    return Outcome::retry("no luck");
                }
                let effect = Command::new("HINCRBY")
                    .key(&effects)
                    .arg(delivery.payload)
                    .arg(1);
                match client.call::<u64>(effect).await {
                    Ok(_) => Outcome::Ack,
                    Err(error) => Outcome::retry(error),
                }
            }
        });
        let worker = worker.await.unwrap();
        let end = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        while !end.is_finished() {
            sleep(Duration::from_millis(20)).await;
        }
        worker.shutdown(Duration::from_millis(50)).await;
    });
}

fn spawn(fixture: &Fixture) -> Child {
    tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "topic_processes::a_worker_process",
            "--ignored",
            "--nocapture",
        ])
        .env("REDKIT_TEST_URL", fixture.url())
        .env("REDKIT_TEST_NAMESPACE", fixture.namespace())
        .env(
            "REDKIT_TEST_FRED",
            (fixture.kind == BackendKind::Fred).to_string(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn signal(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill")
        .args([signal, &pid])
        .status()
        .await;
    assert!(sent.unwrap().success());
}

async fn effects(fixture: &Fixture) -> BTreeMap<u32, u64> {
    let key = fixture.client.key("effects");
    fixture
        .client
        .call(Command::new("HGETALL").key(&key))
        .await
        .unwrap()
}

redkit_testkit::suite! {
    #[networked]
    async fn nothing_is_lost_when_processes_are_killed_and_paused(fixture: Fixture) {
        let numbers = topic(&fixture.client);
        let mut workers: Vec<Child> = (0..4).map(|_| spawn(&fixture)).collect();
        until_stats(&numbers, "g", |stats| stats.live_workers == 4).await;
        // Each of these may have had so many messages in its hands.
        let mut troubles = 0;
        for n in 0..MESSAGES {
            numbers.publish(&n).await.unwrap();
            if n % 80 == 40 {
                troubles += 1;
                let index = (n as usize / 80) % workers.len();
                match n / 80 % 2 {
                    0 => {
                        workers[index].kill().await.unwrap(); // SIGKILL
                        workers[index] = spawn(&fixture);
                    }
                    _ => {
                        signal(&workers[index], "-STOP").await;
                        sleep(LEASE * 2).await;
                        signal(&workers[index], "-CONT").await;
                    }
                }
            }
            sleep(Duration::from_millis(2)).await;
        }
        let stats = until_stats(&numbers, "g", |stats| stats.length == 0).await;
        let effects = effects(&fixture).await;
        let missing: Vec<u32> = (0..MESSAGES).filter(|n| *n != POISON && !effects.contains_key(n)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let doubles = effects.values().filter(|&&count| count > 1).count();
        assert!(doubles <= troubles * CONCURRENCY, "{doubles} doubles with {troubles} troubles");
        let letters = numbers.dead_letters("g").unwrap().list(10).await.unwrap();
        let dead: Vec<u32> = letters.into_iter().map(|letter| letter.payload.unwrap()).collect();
        assert_eq!((dead, stats.dead), (vec![POISON], 1));
        for mut worker in workers {
            worker.kill().await.unwrap();
        }
    }

    #[networked]
    async fn rolling_restarts_double_nothing(fixture: Fixture) {
        let numbers = topic(&fixture.client);
        let mut workers: Vec<Child> = (0..3).map(|_| spawn(&fixture)).collect();
        until_stats(&numbers, "g", |stats| stats.live_workers == 3).await;
        for n in 0..300 {
            if n == POISON {
                continue;
            }
            numbers.publish(&n).await.unwrap();
            if n % 60 == 30 {
                let index = (n as usize / 60) % workers.len();
                drop(workers[index].stdin.take());
                assert!(workers[index].wait().await.unwrap().success());
                workers[index] = spawn(&fixture);
            }
            sleep(Duration::from_millis(1)).await;
        }
        until_stats(&numbers, "g", |stats| stats.length == 0).await;
        let effects = effects(&fixture).await;
        assert_eq!(effects.len(), 299);
        assert!(effects.values().all(|&count| count == 1), "{effects:?}");
        for mut worker in workers {
            worker.kill().await.unwrap();
        }
    }
}
