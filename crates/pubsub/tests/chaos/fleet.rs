//! Eight consumer processes for two minutes: some are killed, some stopped for longer than their lease, some replaced
//! in order; one in twenty handlers fails, and one message in a thousand can never be handled.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redkit_core::{Client, Command};
use redkit_pubsub::topic::{Publication, Topic};
use redkit_testkit::{Server, ServerOptions};
use tokio::time::{Instant, sleep};

use crate::judge::{Line, judge};
use crate::processes::{GROUP, JOURNAL, LEASE, Worker, connect, is_poison, topic};

const PROCESSES: usize = 8;
const KEYS: u64 = 64;
/// With all troubles, and then with drains alone.
const TROUBLED: Duration = Duration::from_secs(90);
const CALM: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(12);

/// Publishes numbers until it is over.
async fn publish(topic: &Topic<u64>, next: &AtomicU64, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        let message = next.load(Ordering::SeqCst);
        let publication = || {
            let publication = Publication::new().id(message.to_string());
            publication.key((message % KEYS).to_string())
        };
        while let Err(error) = topic.publish_with(&message, publication()).await {
            assert!(error.is_retryable(), "{error}");
            sleep(Duration::from_millis(20)).await;
        }
        next.store(message + 1, Ordering::SeqCst);
        sleep(PAUSE).await;
    }
}

/// Kills, pauses and replaces processes for a time; gives those that were killed or paused.
async fn trouble(fleet: &mut [Worker], url: &str, is_ordered: bool) -> (BTreeSet<u32>, [u32; 3]) {
    let (mut troubled, mut counts) = (BTreeSet::new(), [0; 3]);
    let end = Instant::now() + TROUBLED;
    while Instant::now() < end {
        sleep(Duration::from_millis(rand::random_range(300..1_200))).await;
        let index = rand::random_range(0..fleet.len());
        let worker = &mut fleet[index];
        match rand::random_range(0..3) {
            0 => {
                troubled.insert(worker.pid);
                worker.kill().await;
                *worker = Worker::start(url, is_ordered);
                counts[0] += 1;
            }
            1 => {
                troubled.insert(worker.pid);
                worker.signal("-STOP").await;
                sleep(LEASE.mul_f64(rand::random_range(1.2..2.5))).await;
                worker.signal("-CONT").await;
                counts[1] += 1;
            }
            _ => {
                worker.drain().await;
                *worker = Worker::start(url, is_ordered);
                counts[2] += 1;
            }
        }
    }
    (troubled, counts)
}

/// Replaces one process after the other.
async fn roll(fleet: &mut [Worker], url: &str, is_ordered: bool) -> u32 {
    let (end, mut drains) = (Instant::now() + CALM, 0);
    for index in (0..fleet.len()).cycle() {
        if Instant::now() >= end {
            break;
        }
        fleet[index].drain().await;
        fleet[index] = Worker::start(url, is_ordered);
        drains += 1;
        sleep(Duration::from_millis(500)).await;
    }
    drains
}

async fn until_empty(topic: &Topic<u64>) {
    let began = Instant::now();
    while topic.stats(GROUP).await.unwrap().length > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it is not empty");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn longest(topic: &Topic<u64>, is_over: &AtomicBool) -> u64 {
    let mut longest = 0;
    while !is_over.load(Ordering::SeqCst) {
        if let Ok(stats) = topic.stats(GROUP).await {
            longest = longest.max(stats.length);
        }
        sleep(Duration::from_millis(500)).await;
    }
    longest
}

async fn journal(client: &Client) -> Vec<Line> {
    let range = Command::new("LRANGE").key(client.key(JOURNAL));
    let lines: Vec<String> = client.call(range.arg(0).arg(-1)).await.unwrap();
    lines.iter().map(|line| Line::parse(line)).collect()
}

async fn fleet(is_ordered: bool) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connect(&server.url()).await;
    let (url, numbers) = (server.url(), topic(&client));
    let start = || Worker::start(&url, is_ordered);
    let mut workers: Vec<Worker> = (0..PROCESSES).map(|_| start()).collect();
    sleep(Duration::from_secs(1)).await;
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let troubles = async {
        let (troubled, counts) = trouble(&mut workers, &url, is_ordered).await;
        // Whatever the troubles have left is taken over before the calm begins.
        sleep(LEASE * 4).await;
        let calm = next.load(Ordering::SeqCst);
        let drains = roll(&mut workers, &url, is_ordered).await;
        is_over.store(true, Ordering::SeqCst);
        (troubled, counts, calm, drains)
    };
    let ((), longest, (troubled, [kills, stops, drains], calm, more_drains)) = tokio::join!(
        publish(&numbers, &next, &is_over),
        longest(&numbers, &is_over),
        troubles
    );
    until_empty(&numbers).await;
    let messages = next.load(Ordering::SeqCst);
    let letters = numbers.dead_letters(GROUP).unwrap();
    let letters = letters.list(1_000).await.unwrap();
    let dead: BTreeSet<u64> = letters
        .into_iter()
        .map(|letter| letter.payload.unwrap())
        .collect();
    assert_eq!(dead, (0..messages).filter(|n| is_poison(*n)).collect());
    let keys = is_ordered.then_some(KEYS);
    let figures = judge(
        &journal(&client).await,
        messages,
        calm,
        &dead,
        &troubled,
        keys,
    );
    println!(
        "{kills} kills, {stops} stops past the lease, {} drains; the stream had {longest} entries at most; {figures:?}",
        drains + more_drains
    );
    // A queue deletes what is done: what it holds is what waits, however much was published.
    assert!(longest < messages / 4, "{longest} of {messages}");
    for mut worker in workers {
        worker.drain().await;
    }
    client.shutdown().await;
}

#[tokio::test]
#[ignore = "two minutes: `cargo xtask chaos pubsub shared`"]
async fn shared() {
    fleet(false).await;
}

#[tokio::test]
#[ignore = "two minutes: `cargo xtask chaos pubsub ordered`"]
async fn ordered() {
    fleet(true).await;
}
