//! Subscriptions while servers stand still, masters die and slots move: whatever is missing lies in a gap that was
//! told, the service is back soon after the servers are, and with replay nothing is missing that the serving master
//! holds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{Client, Driver};
use redkit_pubsub::{Channel, Event, Overflow, Replay, Subscription};
use redkit_testkit::{Cluster, Program, Sentinels, Server, ServerOptions};
use tokio::time::{Instant, sleep};

use crate::faults::connect;
use crate::listening::next;

/// How the messages of a test travel.
#[derive(Debug, Clone, Copy)]
struct Way {
    is_sharded: bool,
    has_replay: bool,
}

const PLAIN: Way = Way {
    is_sharded: false,
    has_replay: false,
};
const REPLAYED: Way = Way {
    is_sharded: false,
    has_replay: true,
};
const SHARDED: Way = Way {
    is_sharded: true,
    has_replay: false,
};
const SHARDED_REPLAYED: Way = Way {
    is_sharded: true,
    has_replay: true,
};

fn channel(client: &Client, way: Way) -> Channel<u32> {
    let mut builder = Channel::builder(client, "n").queue(100_000, Overflow::DropOldest);
    if way.is_sharded {
        builder = builder.sharded();
    }
    if way.has_replay {
        builder = builder.replay(Replay::last(10_000));
    }
    builder.build().unwrap()
}

/// What came of a run.
#[derive(Debug)]
struct Heard {
    published: u32,
    missing: u32,
    /// How long after the end of each trouble a message came that was published since, in increasing order.
    back: Vec<Duration>,
}

impl Heard {
    fn median(&self) -> Duration {
        self.back[self.back.len() / 2]
    }

    fn worst(&self) -> Duration {
        self.back[self.back.len() - 1]
    }
}

/// When the servers were well again in a test, and how soon messages came after it.
#[derive(Default)]
struct Health {
    /// The number that is being published.
    publishing: AtomicU32,
    /// When servers were well again, and what was being published.
    marks: Mutex<VecDeque<(u32, Instant)>>,
    back: Mutex<Vec<Duration>>,
}

impl Health {
    /// The servers are well again.
    fn is_well(&self) {
        let publishing = self.publishing.load(Ordering::SeqCst);
        self.marks.lock().push_back((publishing, Instant::now()));
    }

    fn heard(&self, number: u32) {
        let mut marks = self.marks.lock();
        while let Some(&(since, well)) = marks.front()
            && since <= number
        {
            marks.pop_front();
            self.back.lock().push(well.elapsed());
        }
    }
}

/// How many messages are published when all has been well for a second.
const AFTERWARDS: u32 = 200;

/// Under load the worst that was seen was 2.8 s, after a slot had moved below a sharded subscription, and 1 s otherwise;
/// without load a few hundredths of a second.
const USUALLY_BACK: Duration = Duration::from_secs(3);
const BACK: Duration = Duration::from_secs(5);

/// On a busy machine a confirmation may take longer than the clients here wait.
async fn subscribed(channel: &Channel<u32>) -> Subscription<u32> {
    for _ in 0..50 {
        if let Ok(subscription) = channel.subscribe(["k"]).await {
            return subscription;
        }
    }
    panic!("it cannot subscribe");
}

/// Publishes numbers while `trouble` goes on, and a while longer, and checks what a subscriber hears of them.
async fn run(
    publisher: &Client,
    subscriber: &Client,
    way: Way,
    trouble: impl AsyncFnOnce(&Health),
) -> Heard {
    let mut subscription = subscribed(&channel(subscriber, way)).await;
    let numbers = channel(publisher, way);
    let (is_over, last) = (AtomicBool::new(false), AtomicU32::new(u32::MAX));
    let health = Health::default();
    let publish = async {
        let mut after = 0;
        for n in 0.. {
            health.publishing.store(n, Ordering::SeqCst);
            // The last one is said before it is published, so that the subscriber knows it when it comes.
            if is_over.load(Ordering::SeqCst) {
                after += 1;
                if after == AFTERWARDS {
                    last.store(n, Ordering::SeqCst);
                }
            }
            let began = Instant::now();
            while let Err(error) = numbers.publish("k", &n).await {
                assert!(error.is_retryable(), "{error}");
                assert!(
                    began.elapsed() < Duration::from_secs(40),
                    "it never comes back: {error}"
                );
                sleep(Duration::from_millis(5)).await;
            }
            if after == AFTERWARDS {
                return n + 1;
            }
            sleep(Duration::from_millis(3)).await;
        }
        unreachable!("it ends with the last one")
    };
    let trouble = async {
        sleep(Duration::from_millis(200)).await;
        trouble(&health).await;
        sleep(Duration::from_secs(1)).await;
        is_over.store(true, Ordering::SeqCst);
    };
    let check = check(&mut subscription, &last, &health);
    let (published, (), missing) = tokio::join!(publish, trouble, check);
    let mut back = std::mem::take(&mut *health.back.lock());
    back.sort();
    let heard = Heard {
        published,
        missing,
        back,
    };
    println!(
        "{way:?}: back after {:?} (median), {:?} (worst): {heard:?}",
        heard.median(),
        heard.worst()
    );
    assert!(heard.median() < USUALLY_BACK, "{heard:?}");
    assert!(heard.worst() < BACK, "{heard:?}");
    heard
}

/// As the check of one server's faults, until the last one.
async fn check(subscription: &mut Subscription<u32>, last: &AtomicU32, health: &Health) -> u32 {
    let (mut expected, mut missing, mut may_miss) = (0, 0, false);
    loop {
        let event = next_within(subscription).await;
        if let Event::Message(message) = &event {
            health.heard(message.payload);
        }
        match event {
            Event::Gap(_) => may_miss = true,
            // It was published twice, because its publisher did not know.
            Event::Message(message) if message.payload + 1 == expected => {}
            Event::Message(message) => {
                let n = message.payload;
                assert!(n >= expected, "{n} came after {expected} was expected");
                assert!(
                    n == expected || may_miss,
                    "{expected} to {n} are missing, and no gap was told"
                );
                missing += n - expected;
                (expected, may_miss) = (n + 1, false);
                if n == last.load(Ordering::SeqCst) {
                    return missing;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn next_within(subscription: &mut Subscription<u32>) -> Event<u32> {
    // A failover takes longer than what usual listening waits.
    match tokio::time::timeout(Duration::from_secs(30), subscription.next()).await {
        Ok(Some(event)) => event,
        Ok(None) => panic!("the subscription ended"),
        Err(_) => next(subscription).await,
    }
}

async fn a_server_that_stands_still(program: Program, driver: Driver) {
    let server = Server::start(program, ServerOptions::new()).await.unwrap();
    for way in [PLAIN, REPLAYED] {
        let publisher = connect(&server.url(), Driver::default()).await;
        let subscriber = connect(&server.url(), driver).await;
        let heard = run(&publisher, &subscriber, way, async |health| {
            for time in [100, 1_500, 700] {
                server.stop().unwrap();
                sleep(Duration::from_millis(time)).await;
                server.cont().unwrap();
                health.is_well();
                sleep(Duration::from_millis(300)).await;
            }
        })
        .await;
        if way.has_replay {
            assert_eq!(heard.missing, 0, "{heard:?}");
        }
        publisher.shutdown().await;
        subscriber.shutdown().await;
        server.raw(&["FLUSHALL"]).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_stands_still_loses_nothing_without_a_gap() {
    a_server_that_stands_still(Program::Redis, Driver::default()).await;
}

#[tokio::test]
async fn a_valkey_that_stands_still_loses_nothing_without_a_gap() {
    a_server_that_stands_still(Program::Valkey, Driver::default()).await;
}

#[tokio::test]
async fn through_fred_a_server_that_stands_still_loses_nothing_without_a_gap() {
    a_server_that_stands_still(Program::Redis, Driver::Fred).await;
}

async fn a_server_that_restarts_and_kills(program: Program, driver: Driver) {
    let options = ServerOptions::new()
        .config("appendonly yes")
        .config("appendfsync always");
    let server = Server::start(program, options).await.unwrap();
    for way in [PLAIN, REPLAYED] {
        let publisher = connect(&server.url(), Driver::default()).await;
        let subscriber = connect(&server.url(), driver).await;
        let heard = run(&publisher, &subscriber, way, async |health| {
            for round in 0..6 {
                match round % 3 {
                    0 => drop(server.kill_clients().await.unwrap()),
                    1 => drop(server.kill_subscribers().await.unwrap()),
                    _ => server.restart().await.unwrap(),
                }
                health.is_well();
                sleep(Duration::from_millis(400)).await;
            }
        })
        .await;
        if way.has_replay {
            assert_eq!(heard.missing, 0, "{heard:?}");
        }
        publisher.shutdown().await;
        subscriber.shutdown().await;
        server.raw(&["FLUSHALL"]).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_restarts_and_kills_connections_loses_nothing_without_a_gap() {
    a_server_that_restarts_and_kills(Program::Redis, Driver::default()).await;
}

#[tokio::test]
async fn a_valkey_that_restarts_and_kills_connections_loses_nothing_without_a_gap() {
    a_server_that_restarts_and_kills(Program::Valkey, Driver::default()).await;
}

#[tokio::test]
async fn a_master_that_dies_loses_nothing_without_a_gap() {
    a_master_that_dies(Program::Redis, Driver::default(), &[PLAIN, REPLAYED]).await;
}

#[tokio::test]
async fn a_valkey_master_that_dies_loses_nothing_without_a_gap() {
    a_master_that_dies(Program::Valkey, Driver::default(), &[REPLAYED]).await;
}

#[tokio::test]
async fn through_fred_a_master_that_dies_loses_nothing_without_a_gap() {
    a_master_that_dies(Program::Redis, Driver::Fred, &[PLAIN]).await;
}

async fn a_master_that_dies(program: Program, driver: Driver, ways: &[Way]) {
    let sentinels = Sentinels::start(program, 3, 1).await.unwrap();
    for &way in ways {
        let publisher = connect(&sentinels.url(), Driver::default()).await;
        let subscriber = connect(&sentinels.url(), driver).await;
        let heard = run(&publisher, &subscriber, way, async |health| {
            let killed = sentinels.kill_master().await.unwrap();
            sentinels
                .wait_for_other_master(killed.addr())
                .await
                .unwrap();
            health.is_well();
            sleep(Duration::from_millis(500)).await;
            killed.restart().await.unwrap();
        })
        .await;
        // What was published when all was well again, and more; how much more depends on the machine.
        assert!(heard.published > heard.missing + AFTERWARDS, "{heard:?}");
        publisher.shutdown().await;
        subscriber.shutdown().await;
        sentinels.wait_until_ok().await.unwrap();
    }
}

async fn slots_that_move(program: Program, ways: &[Way]) {
    let cluster = Cluster::start(program, 3, 0).await.unwrap();
    let slot = cluster.slot_of("{k}").await.unwrap();
    for &way in ways {
        let publisher = connect(&cluster.url(), Driver::default()).await;
        let subscriber = connect(&cluster.url(), Driver::default()).await;
        let heard = run(&publisher, &subscriber, way, async |health| {
            for _ in 0..3 {
                let from = cluster.node_of_slot(slot).await.unwrap();
                let masters = cluster.masters().await.unwrap();
                let to = masters.into_iter().find(|node| node.addr() != from.addr());
                cluster
                    .migrate_slots(slot..=slot, from, to.unwrap())
                    .await
                    .unwrap();
                health.is_well();
                sleep(Duration::from_millis(400)).await;
            }
        })
        .await;
        if way.has_replay {
            assert_eq!(heard.missing, 0, "{heard:?}");
        }
        publisher.shutdown().await;
        subscriber.shutdown().await;
        cluster.flushall().await.unwrap();
    }
}

#[tokio::test]
async fn a_slot_that_moves_loses_nothing_of_sharded_channels_without_a_gap() {
    slots_that_move(Program::Redis, &[SHARDED, SHARDED_REPLAYED]).await;
}

#[tokio::test]
async fn a_slot_that_moves_in_valkey_loses_nothing_without_a_gap() {
    slots_that_move(Program::Valkey, &[SHARDED_REPLAYED, REPLAYED]).await;
}

#[tokio::test]
async fn a_slot_that_moves_loses_nothing_of_a_channel_with_replay() {
    slots_that_move(Program::Redis, &[REPLAYED]).await;
}

#[tokio::test]
async fn a_master_of_a_cluster_that_hands_over_loses_nothing_without_a_gap() {
    a_master_that_hands_over(Program::Redis, &[SHARDED, SHARDED_REPLAYED]).await;
}

#[tokio::test]
async fn a_master_of_a_valkey_cluster_that_hands_over_loses_nothing_without_a_gap() {
    a_master_that_hands_over(Program::Valkey, &[SHARDED_REPLAYED]).await;
}

async fn a_master_that_hands_over(program: Program, ways: &[Way]) {
    let cluster = Cluster::start(program, 3, 1).await.unwrap();
    let slot = cluster.slot_of("{k}").await.unwrap();
    for &way in ways {
        let publisher = connect(&cluster.url(), Driver::default()).await;
        let subscriber = connect(&cluster.url(), Driver::default()).await;
        let heard = run(&publisher, &subscriber, way, async |health| {
            let master = cluster.node_of_slot(slot).await.unwrap();
            let replicas = cluster.replicas_of(master).await.unwrap();
            cluster.failover(replicas[0]).await.unwrap();
            health.is_well();
        })
        .await;
        // A planned failover hands all data over.
        if way.has_replay {
            assert_eq!(heard.missing, 0, "{heard:?}");
        }
        publisher.shutdown().await;
        subscriber.shutdown().await;
        cluster.flushall().await.unwrap();
    }
}
