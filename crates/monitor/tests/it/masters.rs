//! Alerts about a cluster of which one master does not answer, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{
    CallError, Client, ClientConfig, Command, Fault, FaultKind, ServerNode, Topology, Value,
};
use redkit_monitor::alerts::{
    Alert, AlertState, Alerts, AlertsBuilder, ChannelSink, Context, Rule as AlertRule,
};
use redkit_monitor::{AnalysisConfig, Dependency, Health, Statistics};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);

/// What a master says of itself.
#[derive(Clone, Default)]
struct Figures {
    run_id: u64,
    hits: u64,
    misses: u64,
    evicted: u64,
    memory: u64,
    is_silent: bool,
}

/// Three masters, of which a test says what `INFO` says.
struct Masters {
    backend: Arc<FaultyBackend>,
    figures: Arc<Mutex<[Figures; 3]>>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Masters {
    fn new() -> Self {
        let figures = || Figures {
            hits: 1_000_000_000,
            misses: 1_000,
            ..Figures::default()
        };
        let masters = Self {
            backend: FaultyBackend::embedded(),
            figures: Arc::new(Mutex::new([figures(), figures(), figures()])),
        };
        masters.backend.set_topology(Topology::Cluster);
        let slots = [0..=5_000, 5_001..=10_000, 10_001..=16_383];
        let nodes = NAMES.iter().zip(slots);
        let nodes = nodes.map(|(name, slots)| ServerNode::new(name, vec![slots]));
        masters.backend.set_servers(nodes.collect());
        masters.answer_info();
        masters
    }

    fn answer_info(&self) {
        for (index, name) in NAMES.into_iter().enumerate() {
            let figures = Arc::clone(&self.figures);
            let info = Injection::answer(move |_| figures.lock()[index].info());
            let rule = Rule::new(info).on_name("INFO").on_server(name);
            self.backend.add(rule);
        }
    }

    /// Of which the client knows none.
    fn unknown() -> Self {
        let masters = Self::new();
        masters.backend.set_servers(Vec::new());
        let refuse =
            |_: &Command| Err(Fault::new(FaultKind::Connect, "no master is known").not_sent());
        let is_command = |command: &Command| !command.name().ends_with("SUBSCRIBE");
        masters
            .backend
            .set(Rule::new(Injection::answer(refuse)).on(is_command));
        masters
    }

    /// All faults anew: this one, and the figures.
    fn replace(&self, rule: Rule) {
        self.backend.set(rule);
        self.answer_info();
    }

    fn b(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures.lock()[1]);
    }

    fn client(&self) -> Client {
        self.backend.client_with(&ClientConfig::default())
    }

    /// Alerts about these masters, which are received.
    fn watched(&self, rule: AlertRule) -> (Alerts, mpsc::Receiver<Alert>) {
        let client = self.client();
        let health = Health::builder().dependency(Dependency::soft("orders", &client));
        let (sender, told) = mpsc::channel(100);
        let builder: AlertsBuilder =
            Alerts::builder(&client, "shop", &health.build().unwrap()).rule(rule);
        let builder = builder.check_failed_after(Duration::from_secs(24 * 3_600));
        (
            builder.sink(ChannelSink::from(sender)).start().unwrap(),
            told,
        )
    }
}

impl Figures {
    fn info(&self) -> Result<Value, CallError> {
        if self.is_silent {
            return Err(Fault::new(FaultKind::Timeout, "late").maybe());
        }
        let text = format!(
            "run_id:{}\r\nkeyspace_hits:{}\r\nkeyspace_misses:{}\r\nevicted_keys:{}\r\nused_memory:{}\r\n",
            self.run_id, self.hits, self.misses, self.evicted, self.memory
        );
        Ok(Value::Bulk(text.into()))
    }
}

async fn next(told: &mut mpsc::Receiver<Alert>) -> Alert {
    timeout(20 * MINUTE, told.recv())
        .await
        .expect("no alert")
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_master_that_is_full_and_does_not_answer_is_neither_over_nor_told_again() {
    let masters = Masters::new();
    let (alerts, mut told) = masters.watched(AlertRule::memory_over(1_000));
    masters.b(|b| b.memory = 2_000);
    assert_eq!(next(&mut told).await.subject, "orders/b");
    for _ in 0..3 {
        masters.b(|b| b.is_silent = true);
        sleep(MINUTE).await;
        let firing = alerts.firing();
        assert_eq!(firing.len(), 1);
        assert!(matches!(
            firing[0].context,
            Context::Memory { used: 2_000, .. }
        ));
        masters.b(|b| b.is_silent = false);
        sleep(MINUTE).await;
    }
    assert!(told.is_empty(), "{:?}", told.recv().await);
    masters.b(|b| b.memory = 0);
    let over = next(&mut told).await;
    assert_eq!(over.state, AlertState::Resolved);
    assert!(matches!(over.context, Context::Memory { .. }), "{over}");
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_is_looked_for_in_vain_for_a_moment_goes_on() {
    let masters = Masters::new();
    let (_alerts, mut told) = masters.watched(AlertRule::memory_over(1_000).for_at_least(MINUTE));
    masters.b(|b| b.memory = 2_000);
    sleep(MINUTE * 2 / 3).await;
    masters.b(|b| b.is_silent = true);
    sleep(Duration::from_secs(10)).await;
    masters.b(|b| b.is_silent = false);
    let start = tokio::time::Instant::now();
    assert_eq!(next(&mut told).await.state, AlertState::Firing);
    assert!(start.elapsed() <= MINUTE / 2, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_hit_rate_is_that_of_the_window_though_masters_miss_a_look_or_are_replaced() {
    let masters = Masters::new();
    let rule = AlertRule::hit_rate_under(0.8).window(MINUTE * 5);
    let (alerts, mut told) = masters.watched(rule);
    // Nine of ten look-ups find nothing, for as long as the test lasts.
    let running = Arc::clone(&masters.figures);
    let traffic = tokio::spawn(async move {
        loop {
            for master in running.lock().iter_mut() {
                master.hits += 100;
                master.misses += 900;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(next(&mut told).await.state, AlertState::Firing);
    let rate = || match alerts.firing().first().map(|alert| alert.context.clone()) {
        Some(Context::HitRate { rate, .. }) => rate,
        other => panic!("{other:?}"),
    };
    // A look without its figures, and then another server in its place, with counters that are far higher.
    for change in [
        (|b| b.is_silent = true) as fn(&mut Figures),
        |b| b.is_silent = false,
        |b| {
            b.run_id = 7;
            b.hits = 500_000_000_000;
        },
        |b| {
            b.run_id = 8;
            (b.hits, b.misses) = (0, 0);
        },
    ] {
        masters.b(change);
        for _ in 0..12 {
            sleep(Duration::from_secs(5)).await;
            assert!((rate() - 0.1).abs() < 0.01, "{}", rate());
        }
    }
    traffic.abort();
    assert!(told.is_empty(), "{:?}", told.recv().await);
}

#[tokio::test(start_paused = true)]
async fn a_master_that_was_slow_and_does_not_answer_is_no_end_of_the_slowness() {
    let masters = Masters::new();
    let rule = AlertRule::latency_over(Duration::from_millis(100)).for_at_least(Duration::ZERO);
    let slow = Injection::DelayReply(Duration::from_millis(150));
    let slow = || Rule::new(slow.clone()).on_name("PING").on_server("b");
    masters.backend.add(slow());
    let (alerts, mut told) = masters.watched(rule);
    assert_eq!(next(&mut told).await.state, AlertState::Firing);
    let silent = Rule::new(Injection::NotSent).on_name("PING");
    masters.replace(silent.on_server("b"));
    sleep(MINUTE * 3).await;
    assert!(told.is_empty(), "{:?}", told.recv().await);
    assert_eq!(alerts.firing().len(), 1);
    masters.replace(slow());
    sleep(MINUTE).await;
    assert!(told.is_empty(), "{:?}", told.recv().await);
    masters.replace(Rule::new(Injection::Pass).on_name("PING").on_server("b"));
    assert_eq!(next(&mut told).await.state, AlertState::Resolved);
}

#[tokio::test(start_paused = true)]
async fn the_hit_rate_of_those_that_answer_begins_nothing_and_ends_nothing() {
    let masters = Masters::new();
    let rule = AlertRule::hit_rate_under(0.8).window(MINUTE);
    let (alerts, mut told) = masters.watched(rule);
    let traffic = Arc::clone(&masters.figures);
    let well = Arc::new(Mutex::new([true, false, true]));
    let is_well = Arc::clone(&well);
    let traffic = tokio::spawn(async move {
        loop {
            for (master, is_well) in traffic.lock().iter_mut().zip(*is_well.lock()) {
                match is_well {
                    true => master.hits += 1_000,
                    false => master.misses += 9_000,
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    // Only b misses.
    assert_eq!(next(&mut told).await.state, AlertState::Firing);
    masters.b(|b| b.is_silent = true);
    sleep(MINUTE * 5).await;
    assert!(told.is_empty(), "{:?}", told.recv().await);
    assert_eq!(alerts.firing().len(), 1);
    masters.b(|b| b.is_silent = false);
    *well.lock() = [true, true, true];
    assert_eq!(next(&mut told).await.state, AlertState::Resolved);
    // Only b finds what is looked for: of the others alone nothing is said.
    *well.lock() = [false, true, false];
    masters.b(|b| b.is_silent = true);
    sleep(MINUTE * 5).await;
    assert!(told.is_empty(), "{:?}", told.recv().await);
    traffic.abort();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_a_place_has_evicted_nothing_in_the_window() {
    let masters = Masters::new();
    let (_alerts, mut told) = masters.watched(AlertRule::evictions());
    sleep(MINUTE).await;
    masters.b(|b| {
        b.run_id = 7;
        b.evicted = 1_000_000;
    });
    sleep(MINUTE * 2).await;
    assert!(told.is_empty(), "{:?}", told.recv().await);
    masters.b(|b| b.evicted += 1);
    assert_eq!(next(&mut told).await.subject, "orders/b");
}

#[tokio::test(start_paused = true)]
async fn the_analysis_of_a_cluster_that_is_not_known_is_an_error() {
    let masters = Masters::unknown();
    let analysis = Statistics::new(&masters.client()).analyze(AnalysisConfig::default());
    let error = analysis.unwrap().finish().await.unwrap_err();
    assert!(error.to_string().contains("no master is known"), "{error}");
}

#[cfg(feature = "prometheus")]
#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_not_known_is_shown_as_down() {
    let masters = Masters::unknown();
    let health = Health::builder().dependency(Dependency::hard("orders", &masters.client()));
    let handle = redkit_monitor::prometheus::recorder().handle();
    let exporter =
        redkit_monitor::prometheus::Exporter::new(handle, &health.build().unwrap()).unwrap();
    let text = exporter.render().await;
    let up = text
        .lines()
        .find(|line| line.starts_with("redis_up{"))
        .unwrap();
    assert!(up.ends_with(" 0"), "{up}");
}
