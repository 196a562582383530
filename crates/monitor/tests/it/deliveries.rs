//! Sinks, figures and snapshots are the program's own code: one that fails takes nothing from the others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::Client;
use redkit_core::breaker::BreakerState;
use redkit_core::inspection::{Inspect, Snapshot};
use redkit_monitor::alerts::{
    Alert, AlertState, Alerts, AlertsBuilder, ChannelSink, Rule, Sink, SinkError,
};
use redkit_monitor::{Dependency, Health};
use redkit_testkit::FaultyBackend;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn builder(client: &Client) -> AlertsBuilder {
    let health = Health::builder().dependency(Dependency::soft("orders", client));
    Alerts::builder(client, "shop", &health.build().unwrap())
}

async fn next(alerts: &mut mpsc::Receiver<Alert>) -> Alert {
    timeout(20 * MINUTE, alerts.recv())
        .await
        .expect("no alert")
        .unwrap()
}

/// A pattern with facts, which may panic.
struct Pattern {
    name: &'static str,
    facts: Mutex<Vec<(&'static str, u64)>>,
    panics: AtomicBool,
}

impl Pattern {
    fn registered(client: &Client, name: &'static str) -> Arc<Self> {
        let pattern = Arc::new(Self {
            name,
            facts: Mutex::default(),
            panics: AtomicBool::new(false),
        });
        client.register(Arc::downgrade(&pattern) as Weak<dyn Inspect>);
        pattern
    }

    fn set(&self, facts: &[(&'static str, u64)]) {
        *self.facts.lock() = facts.to_vec();
    }
}

#[async_trait]
impl Inspect for Pattern {
    fn kind(&self) -> &'static str {
        "pattern"
    }

    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn snapshot(&self) -> Snapshot {
        assert!(!self.panics.load(Ordering::Relaxed), "for the test");
        let facts = self.facts.lock();
        facts
            .iter()
            .fold(Snapshot::default(), |snapshot, (name, count)| {
                snapshot.fact(name, *count)
            })
    }
}

/// Panics for alerts about `poison`, fails for those about `refused`, and takes the rest.
struct Odd(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Sink for Odd {
    fn name(&self) -> &str {
        "odd"
    }

    async fn send(&self, alert: &Alert) -> Result<(), SinkError> {
        assert!(!alert.subject.ends_with("poison"), "for the test");
        if alert.subject.ends_with("refused") {
            return Err(SinkError::retryable("500"));
        }
        if alert.subject.ends_with("hangs") {
            std::future::pending::<()>().await;
        }
        self.0
            .lock()
            .push(format!("{} {}", alert.subject, alert.state.as_str()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_is_used_again() {
    let client = FaultyBackend::embedded().client();
    let (poison, other) = (
        Pattern::registered(&client, "poison"),
        Pattern::registered(&client, "other"),
    );
    let told = Arc::new(Mutex::new(Vec::new()));
    let alerts = builder(&client)
        .rule(Rule::dead_letters_over(0))
        .sink(Odd(Arc::clone(&told)));
    let alerts = alerts.start().unwrap();
    poison.set(&[("dead_letters", 1)]);
    other.set(&[("dead_letters", 0)]);
    sleep(MINUTE).await;
    other.set(&[("dead_letters", 1)]);
    sleep(MINUTE).await;
    assert_eq!(*told.lock(), ["orders/pattern/other firing"]);
    assert!(alerts.shutdown(SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_cannot_be_delivered_holds_up_no_other() {
    let client = FaultyBackend::embedded().client();
    let names = ["hangs", "refused", "refused", "other"];
    let patterns = names.map(|name| Pattern::registered(&client, name));
    let told = Arc::new(Mutex::new(Vec::new()));
    let alerts = builder(&client)
        .rule(Rule::dead_letters_over(0))
        .sink(Odd(Arc::clone(&told)));
    let alerts = alerts.start().unwrap();
    for pattern in &patterns {
        pattern.set(&[("dead_letters", 1)]);
    }
    sleep(20 * SECOND).await;
    assert_eq!(*told.lock(), ["orders/pattern/other firing"]);
    // What is about one subject is told in order.
    patterns[3].set(&[("dead_letters", 0)]);
    sleep(20 * SECOND).await;
    assert_eq!(told.lock().last().unwrap(), "orders/pattern/other resolved");
    assert!(!alerts.shutdown(SECOND).await, "some wait still");
}

#[tokio::test(start_paused = true)]
async fn figures_and_snapshots_that_panic_are_alerts_of_their_own_and_blind_no_other() {
    let client = FaultyBackend::embedded().client();
    let (fragile, other) = (
        Pattern::registered(&client, "fragile"),
        Pattern::registered(&client, "other"),
    );
    let panics = Arc::new(AtomicBool::new(false));
    let (sender, mut told) = mpsc::channel(100);
    let read = Arc::clone(&panics);
    let _alerts = builder(&client)
        .rule(Rule::dead_letters_over(0))
        .figures("orders", "topic", "emails", move || {
            assert!(!read.load(Ordering::Relaxed), "for the test");
            async { Ok(Snapshot::default().fact("dead_letters", 0_u64)) }
        })
        .sink(ChannelSink::from(sender))
        .start()
        .unwrap();
    fragile.set(&[("dead_letters", 1)]);
    assert_eq!(next(&mut told).await.subject, "orders/pattern/fragile");
    panics.store(true, Ordering::Relaxed);
    fragile.panics.store(true, Ordering::Relaxed);
    sleep(MINUTE / 2).await;
    other.set(&[("dead_letters", 1)]);
    assert_eq!(next(&mut told).await.subject, "orders/pattern/other");
    let mut failed = [next(&mut told).await, next(&mut told).await].map(|alert| {
        assert_eq!(
            (alert.rule.as_str(), alert.state),
            ("check_failed", AlertState::Firing)
        );
        alert.subject
    });
    failed.sort();
    assert_eq!(failed, ["orders/pattern/fragile", "orders/topic/emails"]);
    sleep(10 * MINUTE).await;
    assert!(
        told.is_empty(),
        "a letter of which nobody knows is not gone"
    );
}

#[tokio::test(start_paused = true)]
async fn figures_that_cannot_be_read_resolve_no_hit_rate() {
    let client = FaultyBackend::embedded().client();
    let (lookups, fails) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (sender, mut told) = mpsc::channel(100);
    let (read, is_broken) = (Arc::clone(&lookups), Arc::clone(&fails));
    let _alerts = builder(&client)
        .rule(Rule::hit_rate_under(0.5))
        .check_failed_after(24 * 60 * MINUTE)
        .figures("orders", "cache", "far", move || {
            let misses = read.fetch_add(1_000, Ordering::Relaxed);
            let read = match is_broken.load(Ordering::Relaxed) {
                true => Err("not there".to_owned()),
                false => Ok(Snapshot::default()
                    .fact("hits", 0_u64)
                    .fact("misses", misses)),
            };
            async move { read }
        })
        .sink(ChannelSink::from(sender))
        .start()
        .unwrap();
    assert_eq!(next(&mut told).await.subject, "orders/cache/far");
    fails.store(true, Ordering::Relaxed);
    sleep(2 * MINUTE).await;
    fails.store(false, Ordering::Relaxed);
    sleep(2 * MINUTE).await;
    assert!(told.is_empty(), "{:?}", told.recv().await);
}

#[tokio::test(start_paused = true)]
async fn two_objects_of_one_name_are_one_subject() {
    let client = FaultyBackend::embedded().client();
    let twins = [
        Pattern::registered(&client, "twin"),
        Pattern::registered(&client, "twin"),
    ];
    let (sender, mut told) = mpsc::channel(100);
    let alerts = builder(&client)
        .rule(Rule::oldest_pending_over(MINUTE))
        .rule(Rule::lost_locks().window(MINUTE))
        .sink(ChannelSink::from(sender))
        .start()
        .unwrap();
    twins[0].set(&[("oldest_pending", 90), ("lost", 3)]);
    twins[1].set(&[("oldest_pending", 1), ("lost", 0)]);
    assert_eq!(next(&mut told).await.rule, "oldest_pending");
    sleep(2 * MINUTE).await;
    assert!(told.is_empty(), "{:?}", told.recv().await);
    twins[0].set(&[("oldest_pending", 90), ("lost", 4)]);
    assert_eq!(next(&mut told).await.rule, "lost_locks");
    assert_eq!(alerts.firing().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_changes_that_is_stuck_is_told() {
    let client = FaultyBackend::embedded().client();
    let queue = Pattern::registered(&client, "orders");
    let (sender, mut told) = mpsc::channel(100);
    let builder = builder(&client).rule(Rule::oldest_pending_over(MINUTE));
    let _alerts = builder.sink(ChannelSink::from(sender)).start().unwrap();
    // The fact of a write-behind queue.
    queue.set(&[("oldest", 90)]);
    assert_eq!(next(&mut told).await.rule, "oldest_pending");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opens_again_and_again_is_told_after_its_time() {
    let backend = FaultyBackend::embedded();
    let mut breaker = redkit_core::breaker::BreakerConfig::default();
    breaker.minimum_calls = 3;
    let config = redkit_core::ClientConfig::default().breaker(breaker);
    let config = config.retry(1, Duration::ZERO, Duration::ZERO);
    let client = backend.client_with(&config);
    let (sender, mut told) = mpsc::channel(100);
    let builder = builder(&client).rule(Rule::breaker_open().for_at_least(MINUTE));
    let _alerts = builder.sink(ChannelSink::from(sender)).start().unwrap();
    backend.set(
        redkit_testkit::Rule::new(redkit_testkit::Injection::Refuse(
            "READONLY",
            "You can't write against a read only replica.",
        ))
        .on_name("SET"),
    );
    let mut half_open = 0;
    let caller = client.clone();
    let calls = async {
        loop {
            let set = redkit_core::Command::new("SET").key(caller.key("k")).arg(1);
            let _ = caller.call::<()>(set).await;
            half_open += u32::from(caller.breaker().status().state == BreakerState::HalfOpen);
            sleep(SECOND).await;
        }
    };
    tokio::select! {
        alert = next(&mut told) => assert_eq!(alert.rule, "breaker_open"),
        () = calls => {}
    }
    assert!(
        half_open > 0,
        "the breaker tries whether the server is well"
    );
}
