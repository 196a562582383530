//! Rules, their durations and their sinks, in virtual time; servers' figures on real servers.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::inspection::{Inspect, Snapshot};
use redkit_core::{Client, ClientConfig, Command};
use redkit_monitor::alerts::{
    Alert, AlertState, Alerts, AlertsBuilder, ChannelSink, Context, Rule, Severity,
};
use redkit_monitor::{CauseKind, Dependency, Health};
use redkit_testkit::{FaultyBackend, Injection, Rule as Fault, Server, ServerOptions};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn health(client: &Client) -> Health {
    Health::builder()
        .dependency(Dependency::soft("orders", client))
        .build()
        .unwrap()
}

/// Alerts about one client, which are received.
fn received(
    client: &Client,
    rules: impl IntoIterator<Item = Rule>,
) -> (Alerts, mpsc::Receiver<Alert>) {
    let (sender, alerts) = mpsc::channel(100);
    let builder = Alerts::builder(client, "shop", &health(client)).sink(ChannelSink::from(sender));
    let builder = rules.into_iter().fold(builder, AlertsBuilder::rule);
    (builder.start().unwrap(), alerts)
}

async fn next(alerts: &mut mpsc::Receiver<Alert>) -> Alert {
    timeout(20 * MINUTE, alerts.recv())
        .await
        .expect("no alert")
        .unwrap()
}

/// A pattern with facts as a test sets them.
#[derive(Default)]
struct Pattern(Mutex<BTreeMap<&'static str, u64>>);

impl Pattern {
    fn registered(client: &Client) -> Arc<Self> {
        let pattern = Arc::new(Self::default());
        client.register(Arc::downgrade(&pattern) as Weak<dyn Inspect>);
        pattern
    }

    fn set(&self, name: &'static str, count: u64) {
        self.0.lock().insert(name, count);
    }
}

#[async_trait]
impl Inspect for Pattern {
    fn kind(&self) -> &'static str {
        "pattern"
    }

    fn name(&self) -> String {
        "emails".to_owned()
    }

    fn snapshot(&self) -> Snapshot {
        let facts = self.0.lock();
        facts
            .iter()
            .fold(Snapshot::default(), |snapshot, (name, count)| {
                snapshot.fact(name, *count)
            })
    }
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_is_unhealthy_for_long_is_told_and_so_is_its_recovery() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let (alerts, mut told) = received(&client, [Rule::unhealthy().recovers_after(20 * SECOND)]);
    sleep(25 * SECOND).await;
    // Too short for an alert.
    backend.set(Fault::new(Injection::NotSent));
    sleep(20 * SECOND).await;
    backend.clear();
    sleep(MINUTE).await;
    assert!(told.is_empty() && alerts.firing().is_empty());
    backend.set(Fault::new(Injection::NotSent));
    let start = Instant::now();
    let alert = next(&mut told).await;
    let took = start.elapsed();
    assert!((30..=45).contains(&took.as_secs()), "{took:?}");
    assert_eq!(
        (alert.state, alert.severity),
        (AlertState::Firing, Severity::Critical)
    );
    assert_eq!(
        (alert.rule.as_str(), alert.subject.as_str()),
        ("unhealthy", "orders")
    );
    assert_eq!(
        alert.context,
        Context::Unhealthy {
            cause: Some(CauseKind::Unreachable)
        }
    );
    let firing = alerts.firing();
    assert_eq!(
        (firing.len(), firing[0].key.as_str()),
        (1, alert.key.as_str())
    );
    backend.clear();
    let start = Instant::now();
    let over = next(&mut told).await;
    let took = start.elapsed();
    assert!((20..=35).contains(&took.as_secs()), "{took:?}");
    assert_eq!(over.state, AlertState::Resolved);
    assert_eq!(over.key.replace("/resolved", "/firing"), alert.key);
    // A second time has another key.
    backend.set(Fault::new(Injection::NotSent));
    let again = next(&mut told).await;
    assert_ne!(again.key, alert.key);
    assert!(alerts.shutdown(SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_latency_that_wavers_about_its_limit_is_one_alert() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let rule = Rule::latency_over(Duration::from_millis(100)).clears_at(0.05);
    let (_alerts, mut told) = received(&client, [rule]);
    let slow =
        |millis| Fault::new(Injection::DelayReply(Duration::from_millis(millis))).on_name("PING");
    backend.set(slow(150));
    let alert = next(&mut told).await;
    let Context::Latency { observed, limit } = alert.context else {
        panic!("{alert:?}")
    };
    assert_eq!((observed.as_millis(), limit.as_millis()), (150, 100));
    for millis in [80, 150, 80, 60, 120] {
        backend.set(slow(millis));
        sleep(MINUTE).await;
    }
    assert!(told.is_empty());
    backend.set(slow(40));
    assert_eq!(next(&mut told).await.state, AlertState::Resolved);
}

#[tokio::test(start_paused = true)]
async fn hit_rates_are_those_of_their_window_and_need_enough_lookups() {
    let client = FaultyBackend::embedded().client();
    let cache = Pattern::registered(&client);
    let rule = Rule::hit_rate_under(0.8).minimum(100).window(MINUTE);
    let (_alerts, mut told) = received(&client, [rule]);
    cache.set("hits", 1_000_000);
    cache.set("misses", 0);
    sleep(15 * SECOND).await;
    // Few look-ups say nothing, and the million before the window neither.
    cache.set("misses", 50);
    sleep(2 * MINUTE).await;
    assert!(told.is_empty());
    cache.set("hits", 1_000_100);
    cache.set("misses", 150);
    let alert = next(&mut told).await;
    assert_eq!(alert.subject, "orders/pattern/emails");
    let Context::HitRate { rate, lookups, .. } = alert.context else {
        panic!("{alert:?}")
    };
    assert_eq!((rate, lookups), (0.5, 200));
    // Nobody asks any more.
    assert_eq!(next(&mut told).await.state, AlertState::Resolved);
    // The server's own counters.
    for number in 0..200 {
        let get = Command::new("GET").key(client.key(number));
        client.call::<Option<String>>(get).await.unwrap();
    }
    assert_eq!(next(&mut told).await.subject, "orders");
}

#[tokio::test(start_paused = true)]
async fn facts_of_patterns_make_alerts() {
    let client = FaultyBackend::embedded().client();
    let rules = || {
        [
            Rule::oldest_pending_over(MINUTE),
            Rule::dead_letters_over(0),
            Rule::no_consumers().for_at_least(Duration::ZERO),
            Rule::lost_locks(),
            Rule::denied_ratio_over(0.5),
        ]
    };
    let (_alerts, mut told) = received(&client, rules());
    let pattern = Pattern::registered(&client);
    for (name, well, ill, rule) in [
        ("oldest_pending", 30, 90, "oldest_pending"),
        ("dead_letters", 0, 3, "dead_letters"),
        ("consumers", 2, 0, "no_consumers"),
        ("lost", 7, 8, "lost_locks"),
        ("denied", 10, 1_000, "denied_ratio"),
    ] {
        pattern.0.lock().clear();
        pattern.set("allowed", 100);
        pattern.set(name, well);
        sleep(MINUTE).await;
        assert!(told.is_empty(), "{name}");
        pattern.set(name, ill);
        let alert = next(&mut told).await;
        assert_eq!(
            (alert.rule.as_str(), alert.state),
            (rule, AlertState::Firing)
        );
        if name != "lost" && name != "denied" {
            pattern.set(name, well);
        }
        let over = next(&mut told).await;
        assert_eq!(
            (over.rule.as_str(), over.state),
            (rule, AlertState::Resolved)
        );
    }
    // A pattern that is dropped takes its alert along.
    pattern.set("dead_letters", 1);
    next(&mut told).await;
    drop(pattern);
    let over = next(&mut told).await;
    assert_eq!(
        (over.state, over.context),
        (AlertState::Resolved, Context::Gone)
    );
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_refuses_calls_is_told() {
    let client = FaultyBackend::embedded().client();
    let (_alerts, mut told) = received(&client, [Rule::breaker_open()]);
    client.call::<()>(Command::new("PING")).await.unwrap();
    client.breaker().force_open();
    let alert = next(&mut told).await;
    assert_eq!(
        (alert.subject.as_str(), alert.context),
        (
            "orders/embedded",
            Context::Breaker {
                state: "forced_open"
            }
        )
    );
    client.breaker().reset();
    assert_eq!(next(&mut told).await.state, AlertState::Resolved);
}

#[tokio::test(start_paused = true)]
async fn figures_that_cannot_be_read_are_an_alert_of_their_own_and_resolve_nothing() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    client
        .call::<()>(
            Command::new("SET")
                .key(client.key("k"))
                .arg(vec![0; 10_000]),
        )
        .await
        .unwrap();
    let (_alerts, mut told) = received(&client, [Rule::memory_over(5_000)]);
    let alert = next(&mut told).await;
    assert!(
        matches!(alert.context, Context::Memory { used, .. } if used > 10_000),
        "{alert:?}"
    );
    backend.set(
        Fault::new(Injection::Refuse(
            "NOPERM",
            "no permissions to run the 'info' command",
        ))
        .on_name("INFO"),
    );
    let start = Instant::now();
    let failed = next(&mut told).await;
    let took = start.elapsed();
    assert!((60..=75).contains(&took.as_secs()), "{took:?}");
    assert_eq!(
        (failed.rule.as_str(), failed.subject.as_str()),
        ("check_failed", "orders/statistics")
    );
    assert!(failed.context.to_string().contains("'info'"), "{failed}");
    client
        .call::<i64>(Command::new("DEL").key(client.key("k")))
        .await
        .unwrap();
    sleep(5 * MINUTE).await;
    assert!(told.is_empty(), "nobody knows how much memory is used");
    backend.clear();
    let over = [next(&mut told).await.rule, next(&mut told).await.rule];
    assert_eq!(over, ["memory", "check_failed"]);
}

#[tokio::test(start_paused = true)]
async fn figures_of_the_program_are_read_bounded_and_their_failure_resolves_nothing() {
    let client = FaultyBackend::embedded().client();
    let oldest = Arc::new(Mutex::new(Ok(120)));
    let (sender, mut told) = mpsc::channel(100);
    let read = Arc::clone(&oldest);
    let _alerts = Alerts::builder(&client, "shop", &health(&client))
        .rule(Rule::oldest_pending_over(MINUTE))
        .figures("orders", "topic", "emails", move || {
            let oldest: Result<u64, String> = read.lock().clone();
            async move {
                let oldest = oldest?;
                sleep(SECOND * u32::try_from(oldest / 1_000).unwrap()).await;
                Ok(Snapshot::default().fact("oldest_pending", oldest))
            }
        })
        .sink(ChannelSink::from(sender))
        .start()
        .unwrap();
    assert_eq!(next(&mut told).await.subject, "orders/topic/emails");
    *oldest.lock() = Err("the topic is not there".to_owned());
    let failed = next(&mut told).await;
    assert_eq!(
        (failed.rule.as_str(), failed.subject.as_str()),
        ("check_failed", "orders/topic/emails")
    );
    sleep(5 * MINUTE).await;
    assert!(told.is_empty());
    *oldest.lock() = Ok(10);
    let over = [next(&mut told).await.rule, next(&mut told).await.rule];
    assert_eq!(over, ["oldest_pending", "check_failed"]);
    // One that never ends.
    *oldest.lock() = Ok(1_000_000);
    assert_eq!(next(&mut told).await.rule, "check_failed");
}

#[tokio::test]
async fn memory_evictions_and_the_policy_of_a_real_server_are_told() {
    let options = ServerOptions::new()
        .config("maxmemory 8mb")
        .config("maxmemory-policy allkeys-lru");
    let server = Server::redis(options).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap())
        .await
        .unwrap();
    let rules = [
        Rule::eviction_policy(),
        Rule::memory_share_over(0.7),
        Rule::evictions(),
    ];
    let (sender, mut told) = mpsc::channel(100);
    let builder =
        Alerts::builder(&client, "shop", &health(&client)).every(Duration::from_millis(100));
    let builder = rules
        .into_iter()
        .fold(builder.sink(ChannelSink::from(sender)), AlertsBuilder::rule);
    let alerts = builder.start().unwrap();
    let policy = next(&mut told).await;
    assert_eq!(
        policy.context,
        Context::EvictionPolicy {
            policy: "allkeys-lru".to_owned()
        }
    );
    server
        .raw(&["DEBUG", "POPULATE", "20000", "key", "1000"])
        .await
        .unwrap();
    // `DEBUG POPULATE` evicts nothing by itself.
    for number in 0..50 {
        client
            .call::<()>(Command::new("SET").key(client.key(number)).arg("v"))
            .await
            .unwrap();
    }
    let mut rules = [next(&mut told).await.rule, next(&mut told).await.rule];
    rules.sort();
    assert_eq!(rules, ["evictions", "memory_share"]);
    assert_eq!(alerts.firing().len(), 3);
    alerts.shutdown(SECOND).await;
}

#[tokio::test]
async fn the_longest_name_starts() {
    let client = FaultyBackend::embedded().client();
    let name = "a".repeat(64);
    let alerts = Alerts::builder(&client, &name, &health(&client)).start();
    assert!(alerts.unwrap().shutdown(SECOND).await);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let client = FaultyBackend::embedded().client();
    let refused = |change: fn(AlertsBuilder) -> AlertsBuilder| {
        let builder = Alerts::builder(&client, "shop", &health(&client));
        change(builder).start().unwrap_err().to_string()
    };
    for (text, change) in [
        (
            "every",
            (|builder| builder.every(Duration::ZERO)) as fn(AlertsBuilder) -> AlertsBuilder,
        ),
        ("two of the name", |builder| {
            builder.rule(Rule::unhealthy()).rule(Rule::unhealthy())
        }),
        ("no dependency", |builder| {
            builder.rule(Rule::unhealthy().of("nothing"))
        }),
        ("limit", |builder| builder.rule(Rule::hit_rate_under(80.0))),
        ("clears_at", |builder| {
            builder.rule(Rule::latency_over(SECOND).clears_at(2.0))
        }),
        ("clears_at", |builder| {
            builder.rule(Rule::hit_rate_under(0.8).clears_at(0.7))
        }),
        ("limit", |builder| builder.rule(Rule::latency_over(SECOND))),
        ("window", |builder| {
            builder.rule(Rule::evictions().window(Duration::ZERO))
        }),
        ("rule", |builder| {
            builder.rule(Rule::evictions().named("a b"))
        }),
    ] {
        let error = refused(change);
        assert!(error.contains(text), "{text}: {error}");
    }
}
