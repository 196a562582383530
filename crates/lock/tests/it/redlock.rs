//! Redlock: a majority of independent servers, a fence that grows whatever their clocks say, and what a
//! server that is stopped costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command, ErrorKind};
use redkit_embedded::Embedded;
use redkit_lock::{Error, Fence, NodeOutcome, Redlock, RedlockBuilder};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule, ServerOptions};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(30);
const NODE_TIMEOUT: Duration = Duration::from_millis(50);

/// Independent engines in this process, each behind a backend that fails as it is told.
struct Nodes(Vec<Arc<FaultyBackend>>, Vec<Embedded>);

impl Nodes {
    fn new(count: usize) -> Self {
        Self::of((0..count).map(|_| Embedded::new()).collect())
    }

    fn of(engines: Vec<Embedded>) -> Self {
        let backends = engines
            .iter()
            .map(|engine| FaultyBackend::new(Arc::new(engine.clone())));
        Self(backends.collect(), engines)
    }

    /// The same servers over connections of their own.
    fn another_process(&self) -> Self {
        Self::of(self.1.clone())
    }

    /// Each node's clock is this much behind that of the node before it.
    async fn with_clocks_apart(count: usize, by: Duration) -> Self {
        let mut engines = Vec::new();
        for _ in 0..count {
            engines.push(Embedded::new());
            // An engine begins with the time of day, whatever the paused clock has done.
            advance(by).await;
        }
        Self::of(engines)
    }

    /// Another process's view of them.
    fn builder(&self) -> RedlockBuilder {
        let clients: Vec<Client> = self.0.iter().map(|node| node.client()).collect();
        Redlock::builder(&clients, "jobs")
    }

    fn redlock(&self) -> Redlock {
        self.builder().build().unwrap()
    }

    fn stop(&self, node: usize) {
        self.0[node].set(Rule::new(Injection::HangBefore));
    }

    fn start(&self, node: usize) {
        self.0[node].clear();
    }

    async fn holds(&self, node: usize) -> bool {
        let exists = Command::new("EXISTS").key("redlock:jobs:{k}");
        self.0[node].client().call::<i64>(exists).await.unwrap() == 1
    }
}

#[tokio::test(start_paused = true)]
async fn one_holder_at_a_time_with_growing_fences() {
    let nodes = Nodes::new(3);
    let (one, other) = (nodes.redlock(), nodes.redlock());
    let first = one.try_acquire("k").await.unwrap();
    assert!(first.held_on() == 3 && !first.is_lost() && first.remaining() > 29 * SECOND);
    let error = other.try_acquire("k").await.unwrap_err();
    let Error::NoQuorum {
        needed: 2,
        nodes: outcomes,
    } = &error
    else {
        panic!("{error}");
    };
    assert!(
        outcomes
            .iter()
            .all(|o| matches!(o, NodeOutcome::Held { .. })),
        "{outcomes:?}"
    );
    assert!(
        error.is_retryable() && error.to_string().contains("0 of 3"),
        "{error}"
    );
    let fence = first.fence();
    assert!(first.release().await);
    let second = other.try_acquire("k").await.unwrap();
    assert!(second.fence() > fence);
    drop(second);
    sleep(SECOND).await;
    for node in 0..3 {
        assert!(!nodes.holds(node).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_server_costs_its_timeout_and_nothing_else() {
    let nodes = Nodes::new(3);
    let redlock = nodes.redlock();
    nodes.stop(1);
    for _ in 0..20 {
        let start = Instant::now();
        let guard = redlock.acquire("k", LONG).await.unwrap();
        assert!(start.elapsed() <= NODE_TIMEOUT, "{:?}", start.elapsed());
        assert_eq!(guard.held_on(), 2);
        let start = Instant::now();
        assert!(guard.release().await);
        assert!(start.elapsed() <= NODE_TIMEOUT, "{:?}", start.elapsed());
    }
    // Held for long it is renewed by the other two.
    let guard = redlock.acquire("k", LONG).await.unwrap();
    sleep(10 * TTL).await;
    assert!(!guard.is_lost());
    assert!(guard.extend().await.is_ok() && guard.remaining() > 29 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn two_stopped_servers_of_three_are_told_and_leave_nothing() {
    let nodes = Nodes::new(3);
    let redlock = nodes.redlock();
    nodes.stop(0);
    nodes.stop(2);
    let start = Instant::now();
    let error = redlock.try_acquire("k").await.unwrap_err();
    assert!(start.elapsed() <= 2 * NODE_TIMEOUT);
    let Error::NoQuorum {
        nodes: outcomes, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(matches!(outcomes[0], NodeOutcome::Failed(_)) && outcomes[1] == NodeOutcome::Granted);
    assert_eq!(error.kind(), ErrorKind::Server);
    sleep(SECOND).await;
    assert!(!nodes.holds(1).await, "the one that granted it was told");
}

/// The greatest of the fences given is not monotone across majorities when clocks differ: A and B may
/// give A's high one, B and C a lower one. It is written back, so it is.
#[tokio::test(start_paused = true)]
async fn the_fence_grows_across_majorities_with_clocks_minutes_apart() {
    let nodes = Nodes::with_clocks_apart(3, Duration::from_secs(300)).await;
    let redlock = nodes.redlock();
    let mut last = Fence::new(0);
    // Each majority in turn, so that every pair of majorities follows on another.
    for without in [2, 0, 1, 0, 2, 1, 2, 0] {
        nodes.stop(without);
        let guard = redlock.try_acquire("k").await.unwrap();
        assert!(
            guard.fence() > last,
            "without {without}: {:?} after {last:?}",
            guard.fence()
        );
        last = guard.fence();
        guard.release().await;
        nodes.start(without);
        sleep(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_a_majority_does_not_take_is_not_handed_out() {
    let nodes = Nodes::with_clocks_apart(3, Duration::from_secs(300)).await;
    let redlock = nodes.redlock();
    for node in &nodes.0 {
        node.set(Rule::new(Injection::Refuse("NOPERM", "no")).on(|command| {
            command
                .iter()
                .any(|arg| String::from_utf8_lossy(arg).contains("Writes back"))
        }));
    }
    let error = redlock.try_acquire("k").await.unwrap_err();
    let Error::NoQuorum {
        nodes: outcomes, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(outcomes[0], NodeOutcome::Granted);
    assert_eq!(
        outcomes[1..],
        [NodeOutcome::NotWritten, NodeOutcome::NotWritten]
    );
    sleep(SECOND).await;
    for node in 0..3 {
        assert!(!nodes.holds(node).await);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_took_as_long_as_the_lock_is_held_give_no_lock() {
    let nodes = Nodes::new(3);
    let ttl = Duration::from_millis(400);
    let builder = nodes.builder().ttl(ttl).node_timeout(ttl / 4);
    // After the drift there is less left than the servers took.
    let redlock = builder.drift(Duration::from_millis(320)).build().unwrap();
    for node in &nodes.0 {
        node.set(Rule::new(Injection::DelayReply(Duration::from_millis(90))).times(1));
    }
    let error = redlock.try_acquire("k").await.unwrap_err();
    assert!(error.to_string().contains("nothing was left"), "{error}");
    sleep(SECOND).await;
    for node in 0..3 {
        assert!(!nodes.holds(node).await);
    }
}

#[tokio::test(start_paused = true)]
async fn servers_that_fail_are_not_counted_as_a_lock_that_is_taken() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let nodes = Nodes::new(3);
    let recorder = DebuggingRecorder::new();
    let locks = metrics::with_local_recorder(&recorder, || nodes.redlock());
    let counted = || {
        let all = recorder.snapshotter().snapshot().into_vec();
        let counted = all.into_iter().filter_map(|(key, _, _, value)| {
            if key.key().name() != "redkit_redlock_acquires_total" {
                return None;
            }
            let outcome = key.key().labels().find(|label| label.key() == "outcome")?;
            let DebugValue::Counter(count @ 1..) = value else {
                return None;
            };
            Some((outcome.value().to_owned(), count))
        });
        let mut counted: Vec<_> = counted.collect();
        counted.sort();
        counted
    };
    let of = |outcome: &str| (outcome.to_owned(), 1);
    let guard = locks.try_acquire("k").await.unwrap();
    assert_eq!(counted(), [of("acquired")]);
    // A minority that fails does not make it another error.
    nodes.stop(0);
    assert!(locks.try_acquire("k").await.is_err());
    assert_eq!(counted(), [of("refused")]);
    nodes.stop(1);
    assert!(locks.try_acquire("k").await.is_err());
    assert!(locks.try_acquire("free").await.is_err());
    assert_eq!(counted(), [("failed".to_owned(), 2)]);
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_extended_outlives_one_server_after_the_other() {
    let nodes = Nodes::new(3);
    nodes.stop(2);
    let guard = nodes.redlock().try_acquire("k").await.unwrap();
    assert_eq!(guard.held_on(), 2);
    let mut lost = Box::pin(guard.lost());
    assert!(timeout(SECOND, &mut lost).await.is_err());
    // The third is well again.
    nodes.start(2);
    guard.extend().await.unwrap();
    assert_eq!((guard.held_on(), nodes.holds(2).await), (3, true));
    // The first dies, and the second after it: without the third the lock would be lost.
    nodes.stop(0);
    sleep(TTL).await;
    guard.extend().await.unwrap();
    assert_eq!(guard.held_on(), 2);
    nodes.start(0);
    guard.extend().await.unwrap();
    assert_eq!(guard.held_on(), 3);
    nodes.stop(1);
    // Whoever watched knows of those that granted it later, whichever it looks at first.
    for _ in 0..20 {
        assert!(timeout(SECOND, guard.lost()).await.is_err());
    }
    assert!(
        timeout(2 * TTL, &mut lost).await.is_err(),
        "a majority holds it all the time"
    );
    assert_eq!(guard.held_on(), 2);
    drop(lost);
    nodes.start(1);
    guard.extend().await.unwrap();
    assert_eq!(guard.held_on(), 3);
    // What one of them forgot, as after a restart without its data, is taken again as well.
    let key = nodes.0[0].client().key("redlock:jobs:{k}");
    nodes.0[0]
        .client()
        .call::<u64>(Command::new("DEL").key(key))
        .await
        .unwrap();
    guard.extend().await.unwrap();
    assert_eq!(guard.held_on(), 3);
    let fence = guard.fence();
    assert!(guard.release().await);
    for node in 0..3 {
        assert!(!nodes.holds(node).await, "it is given back everywhere");
    }
    // A majority of servers that had not granted it at first gives a greater fence.
    nodes.stop(0);
    assert!(nodes.redlock().try_acquire("k").await.unwrap().fence() > fence);
}

/// The lock is lost while an extension waits for a server to grant it anew.
#[tokio::test(start_paused = true)]
async fn a_lock_that_is_lost_during_an_extension_stays_lost() {
    let nodes = Nodes::new(3);
    nodes.stop(2);
    let guard = nodes.redlock().try_acquire("k").await.unwrap();
    nodes.0[2].set(Rule::new(Injection::DelayReply(NODE_TIMEOUT / 2)));
    nodes.stop(1);
    let ms = Duration::from_millis(1);
    while guard.remaining() > NODE_TIMEOUT + 5 * ms {
        sleep(ms).await;
    }
    assert!(!guard.is_lost());
    let start = Instant::now();
    let extended = guard.extend().await;
    assert!(
        start.elapsed() > NODE_TIMEOUT + 5 * ms,
        "the server was asked"
    );
    assert!(matches!(extended, Err(Error::Lost)), "{extended:?}");
    assert!(guard.is_lost());
    timeout(ms, guard.lost()).await.expect("it is lost");
    assert!(!guard.release().await);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_another_holder_has_is_not_taken_by_an_extension() {
    let nodes = Nodes::new(3);
    nodes.stop(2);
    let guard = nodes.redlock().try_acquire("k").await.unwrap();
    nodes.start(2);
    let client = nodes.0[2].client();
    let theirs = Command::new("SET")
        .key(client.key("redlock:jobs:{k}"))
        .arg("another's");
    client.call::<()>(theirs).await.unwrap();
    guard.extend().await.unwrap();
    assert_eq!(guard.held_on(), 2);
    assert!(guard.release().await);
    assert!(nodes.holds(2).await, "the other's is left alone");
}

#[tokio::test(start_paused = true)]
async fn the_lock_is_lost_at_the_local_deadline_when_a_majority_hangs() {
    let nodes = Nodes::new(3);
    let redlock = nodes.redlock();
    let start = Instant::now();
    let guard = redlock.try_acquire("k").await.unwrap();
    nodes.stop(0);
    sleep(3 * TTL).await;
    assert!(!guard.is_lost() && guard.held_on() == 2);
    let stopped = Instant::now();
    nodes.stop(1);
    guard.lost().await;
    let told = stopped.elapsed();
    assert!(told <= TTL && start.elapsed() > 3 * TTL, "{told:?}");
    assert!(guard.is_lost() && matches!(guard.extend().await, Err(Error::Lost)));
    assert!(!guard.release().await);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_servers_forgot_is_lost_and_its_release_takes_nobody_elses() {
    let nodes = Nodes::new(3);
    let redlock = nodes.redlock();
    let guard = redlock.try_acquire("k").await.unwrap();
    for node in &nodes.0 {
        node.client()
            .call::<()>(Command::new("FLUSHALL"))
            .await
            .unwrap();
    }
    let other = nodes.redlock().try_acquire("k").await.unwrap();
    timeout(TTL / 2, guard.lost()).await.unwrap();
    drop(guard);
    sleep(SECOND).await;
    assert!(!other.is_lost() && nodes.holds(0).await);
    assert!(other.release().await);
}

#[tokio::test(start_paused = true)]
async fn a_dead_holders_lock_is_free_after_its_ttl() {
    let nodes = Nodes::new(3);
    let dying = nodes.another_process();
    let guard = dying.redlock().try_acquire("k").await.unwrap();
    for node in &dying.0 {
        node.set(Rule::new(Injection::LoseRequest));
    }
    let redlock = nodes.redlock();
    let start = Instant::now();
    let next = redlock.acquire("k", 3 * TTL).await.unwrap();
    assert!(start.elapsed() <= TTL + SECOND, "{:?}", start.elapsed());
    assert!(guard.is_lost() && !next.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_takes_the_lock_once() {
    let nodes = Nodes::new(3);
    let config =
        ClientConfig::default().retry(3, Duration::from_millis(5), Duration::from_millis(5));
    let clients: Vec<Client> = nodes
        .0
        .iter()
        .map(|node| node.client_with(&config))
        .collect();
    let redlock = Redlock::builder(&clients, "jobs").build().unwrap();
    // So that the reply that is lost is not `NOSCRIPT`.
    assert!(redlock.try_acquire("warm").await.unwrap().release().await);
    for node in &nodes.0 {
        node.set(Rule::new(Injection::LoseReply).times(1));
    }
    let guard = redlock.try_acquire("k").await.unwrap();
    assert_eq!(guard.held_on(), 3);
    for node in &nodes.0 {
        node.set(Rule::new(Injection::LoseReply).times(1));
    }
    guard.release().await;
    assert!(redlock.try_acquire("k").await.is_ok());
}

#[tokio::test]
async fn what_cannot_work_is_refused_when_it_is_built() {
    let clients: Vec<Client> = (0..3).map(|_| FaultyBackend::embedded().client()).collect();
    let of = |clients: &[&Client]| Redlock::builder(clients.iter().copied(), "jobs");
    let all: Vec<&Client> = clients.iter().collect();
    for (builder, says) in [
        (of(&all[..2]), "fewer than three"),
        (of(&[all[0], all[1], all[0]]), "twice"),
        (of(&all).ttl(Duration::from_millis(50)), "ttl"),
        (of(&all).node_timeout(Duration::ZERO), "node_timeout"),
        (of(&all).node_timeout(TTL), "node_timeout"),
        (of(&all).drift(TTL), "drift"),
        (of(&all).hold_at_most(SECOND), "hold_at_most"),
        (of(&all).fence_ttl(SECOND), "fence_ttl"),
        (of(&all).fence_ttl(Duration::MAX), "fence_ttl"),
        (Redlock::builder(all.iter().copied(), "a b"), "name"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    let redlock = of(&all).build().unwrap();
    assert!(matches!(
        redlock.try_acquire("").await,
        Err(Error::EmptyKey)
    ));
}

#[tokio::test(start_paused = true)]
async fn the_longest_time_of_holding_may_be_without_end() {
    let nodes = Nodes::new(3);
    let builder = nodes.builder().hold_at_most(Duration::MAX);
    let redlock = builder.build().unwrap();
    let guard = redlock.try_acquire("k").await.unwrap();
    sleep(3 * TTL).await;
    assert!(guard.release().await);
}

#[tokio::test(start_paused = true)]
async fn no_server_lets_go_before_the_lock_is_lost_here() {
    let nodes = Nodes::new(3);
    let ttl = Duration::from_micros(200_900);
    let builder = nodes.builder().ttl(ttl).drift(Duration::ZERO);
    let redlock = builder.build().unwrap();
    let guard = redlock.try_acquire("k").await.unwrap();
    for node in &nodes.0 {
        let pttl = Command::new("PTTL").key("redlock:jobs:{k}");
        let left: u64 = node.client().call(pttl).await.unwrap();
        let (left, remaining) = (Duration::from_millis(left), guard.remaining());
        let least = remaining + Duration::from_millis(1);
        assert!(left >= least, "{remaining:?} of {left:?}");
    }
}

/// What a user may not do on any server it may not do later either.
#[tokio::test(start_paused = true)]
async fn refusals_of_all_servers_end_the_wait_at_once() {
    let nodes = Nodes::new(3);
    let redlock = nodes.redlock();
    for node in &nodes.0 {
        node.set(Rule::new(Injection::Refuse("NOPERM", "no")));
    }
    let start = Instant::now();
    let error = redlock.acquire("k", LONG).await.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// An attempt that failed is undone before the next, which would take it for another holder.
#[tokio::test(start_paused = true)]
async fn an_attempt_does_not_wait_for_the_one_before_it() {
    let nodes = Nodes::with_clocks_apart(3, Duration::from_secs(300)).await;
    let redlock = nodes.redlock();
    // Scripts are sent by their text, with their header, for the first time.
    for (number, node) in nodes.0.iter().enumerate() {
        let late = Injection::DelayRequest(Duration::from_millis(20));
        node.add(Rule::new(late).on_part("Releases a lock"));
        if number > 0 {
            let refused = Rule::new(Injection::Refuse("NOPERM", "no"));
            node.add(refused.on_part("Writes back").times(1));
        }
    }
    let start = Instant::now();
    assert!(redlock.acquire("k", LONG).await.is_ok());
    let took = start.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
}

/// The record of the fence outlives a lock that is held for longer than the record would.
#[tokio::test(start_paused = true)]
async fn the_fence_is_remembered_for_as_long_as_the_lock_is_held() {
    let nodes = Nodes::with_clocks_apart(3, Duration::from_secs(300)).await;
    let redlock = nodes.builder().fence_ttl(2 * TTL).build().unwrap();
    let guard = redlock.try_acquire("k").await.unwrap();
    let fence = guard.fence();
    sleep(7 * TTL).await;
    assert!(guard.release().await);
    // The clock of the others is behind.
    nodes.stop(0);
    let next = redlock.try_acquire("k").await.unwrap();
    assert!(next.fence() > fence, "{:?} after {fence:?}", next.fence());
}

/// Each process on connections of its own.
async fn contended(redlocks: Vec<Redlock>, rounds: u32) {
    let holders = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for redlock in redlocks {
        let holders = Arc::clone(&holders);
        tasks.spawn(async move {
            let mut last = Fence::new(0);
            for _ in 0..rounds {
                let guard = redlock.acquire("k", LONG).await.unwrap();
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                assert!(guard.fence() > last);
                last = guard.fence();
                sleep(Duration::from_millis(1)).await;
                holders.fetch_sub(1, Ordering::SeqCst);
                assert!(guard.release().await);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn contending_processes_never_hold_it_together() {
    let nodes = Nodes::new(5);
    contended((0..6).map(|_| nodes.redlock()).collect(), 20).await;
}

redkit_testkit::suite! {
    #[networked]
    async fn real_servers_grant_by_majority_and_one_may_hang(fixture: Fixture) {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(fixture.private_server(ServerOptions::new()).await.unwrap());
        }
        let mut redlocks = Vec::new();
        for _ in 0..3 {
            let mut clients = Vec::new();
            for server in &servers {
                let config = fixture.config_at(&server.url()).unwrap();
                clients.push(fixture.connect(config).await.unwrap());
            }
            let builder = Redlock::builder(&clients, "jobs");
            redlocks.push(builder.node_timeout(Duration::from_millis(250)).build().unwrap());
        }
        contended(redlocks.clone(), 5).await;
        servers[0].stop().unwrap();
        let start = Instant::now();
        let guard = redlocks[0].acquire("k", LONG).await.unwrap();
        assert_eq!(guard.held_on(), 2);
        assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
        assert!(redlocks[1].try_acquire("k").await.is_err());
        assert!(guard.release().await);
        contended(redlocks, 2).await;
        servers[0].cont().unwrap();
    }
}
