//! A topic with several consumer processes, of which some are killed and some are paused for longer than
//! their lease: nothing is lost, and a message is handled twice only where a process died or was paused.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command, Driver, Value};
use redkit_pubsub::topic::{Delivery, Outcome, Topic};
use redkit_testkit::{BackendKind, Fixture};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

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
        let watched = client.clone();
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
                let field = format!("{}:{}", delivery.payload, std::process::id());
                let effect = Command::new("HINCRBY").key(&effects).arg(field).arg(1);
                match client.call::<u64>(effect).await {
                    Ok(_) => Outcome::Ack,
                    Err(error) => {
                        // The effect may be there all the same.
                        note_doubt(&client).await;
                        Outcome::retry(error)
                    }
                }
            }
        });
        let worker = worker.await.unwrap();
        tokio::spawn(watch(watched));
        let end = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        while !end.is_finished() {
            sleep(Duration::from_millis(20)).await;
        }
        // Long enough for every handler on a busy machine: one that is cut after its effect doubles it.
        worker.shutdown(Duration::from_secs(5)).await;
    });
}

/// Notes that this process may have messages that others take, until it is noted.
async fn note_doubt(client: &Client) {
    let doubts = client.key("doubts");
    loop {
        let note = Command::new("SADD").key(&doubts).arg(std::process::id());
        match client.call::<u64>(note.idempotent(true)).await {
            Ok(_) => return,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Notes when this process was held up, or the server was for it, for so long that its signs of life may be late.
async fn watch(client: Client) {
    loop {
        let began = Instant::now();
        sleep(Duration::from_millis(20)).await;
        let answered = client.call::<Value>(Command::new("PING")).await;
        if answered.is_err() || began.elapsed() > LEASE / 3 {
            note_doubt(&client).await;
        }
    }
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

/// Of each message the processes that handled it, as often as they did.
async fn effects(fixture: &Fixture) -> BTreeMap<u32, Vec<u32>> {
    let key = fixture.client.key("effects");
    let fields: BTreeMap<String, u64> = fixture
        .client
        .call(Command::new("HGETALL").key(&key))
        .await
        .unwrap();
    let mut effects: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (field, count) in fields {
        let (message, process) = field.split_once(':').unwrap();
        let processes = effects.entry(message.parse().unwrap()).or_default();
        let process: u32 = process.parse().unwrap();
        processes.extend((0..count).map(|_| process));
    }
    effects
}

/// The processes that have noted a doubt.
async fn doubtful(fixture: &Fixture) -> BTreeSet<u32> {
    let key = fixture.client.key("doubts");
    let all: Vec<i64> = fixture
        .client
        .call(Command::new("SMEMBERS").key(&key))
        .await
        .unwrap();
    let number = |process| u32::try_from(process).unwrap();
    all.into_iter().map(number).collect()
}

/// Of each message that was handled more than once, the processes, when none of them had a reason for it.
fn unexplained(
    effects: &BTreeMap<u32, Vec<u32>>,
    has_reason: impl Fn(&u32) -> bool,
) -> Vec<(u32, Vec<u32>)> {
    let doubled = effects.iter().filter(|(_, processes)| processes.len() > 1);
    let without = doubled.filter(|(_, processes)| !processes.iter().any(&has_reason));
    let without = without.map(|(message, processes)| (*message, processes.clone()));
    without.collect()
}

/// The processes that have noted a doubt, as soon as they explain everything: one that was held up notes it late, and is
/// given some time for it.
async fn doubts_until(
    fixture: &Fixture,
    explain: impl Fn(&BTreeSet<u32>) -> bool,
) -> BTreeSet<u32> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let doubtful = doubtful(fixture).await;
        if explain(&doubtful) || Instant::now() >= until {
            return doubtful;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

redkit_testkit::suite! {
    #[networked]
    async fn nothing_is_lost_when_processes_are_killed_and_paused(fixture: Fixture) {
        let numbers = topic(&fixture.client);
        let mut workers: Vec<Child> = (0..4).map(|_| spawn(&fixture)).collect();
        until_stats(&numbers, "g", |stats| stats.live_workers == 4).await;
        // Each of these may have had so many messages in its hands, whenever it was in trouble.
        let (mut troubles, mut troubled) = (0, BTreeSet::new());
        for n in 0..MESSAGES {
            numbers.publish(&n).await.unwrap();
            if n % 80 == 40 {
                troubles += 1;
                let index = (n as usize / 80) % workers.len();
                troubled.extend(workers[index].id());
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
        let doubles: usize = effects.values().map(|processes| processes.len() - 1).sum();
        // Processes that a busy machine held up had messages in their hands as well.
        let most = |doubtful: &BTreeSet<u32>| (troubles + doubtful.difference(&troubled).count()) * CONCURRENCY;
        let without_reason = |doubtful: &BTreeSet<u32>| {
            unexplained(&effects, |process| troubled.contains(process) || doubtful.contains(process))
        };
        let doubtful = doubts_until(&fixture, |doubtful| {
            without_reason(doubtful).is_empty() && doubles <= most(doubtful)
        }).await;
        let without_reason = without_reason(&doubtful);
        assert!(without_reason.is_empty(), "handled twice, by no process in trouble ({troubled:?}): {without_reason:?}");
        assert!(doubles <= most(&doubtful), "{doubles} doubles with {troubles} troubles");
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
        // A process that a busy machine held up for longer than its lease had messages that others took.
        let without_reason = |doubtful: &BTreeSet<u32>| unexplained(&effects, |process| doubtful.contains(process));
        let doubtful = doubts_until(&fixture, |doubtful| without_reason(doubtful).is_empty()).await;
        let without_reason = without_reason(&doubtful);
        assert!(without_reason.is_empty(), "handled twice, by no process in doubt: {without_reason:?}");
        for mut worker in workers {
            worker.kill().await.unwrap();
        }
    }
}
