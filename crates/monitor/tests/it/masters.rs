//! Alerts about a cluster of which one master does not answer, in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, Fault,
    FaultKind, Interest, PushStream, ServerNode, Topology, Value,
};
use redkit_embedded::Embedded;
use redkit_monitor::alerts::{
    Alert, AlertState, Alerts, AlertsBuilder, ChannelSink, Context, Rule,
};
use redkit_monitor::{AnalysisConfig, Dependency, Health, Statistics};
use tokio::sync::{mpsc, watch};
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
    inner: Embedded,
    figures: Mutex<[Figures; 3]>,
    are_unknown: AtomicBool,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Masters {
    fn new() -> Arc<Self> {
        let figures = || Figures {
            hits: 1_000_000_000,
            misses: 1_000,
            ..Figures::default()
        };
        Arc::new(Self {
            inner: Embedded::new(),
            figures: Mutex::new([figures(), figures(), figures()]),
            are_unknown: AtomicBool::new(false),
        })
    }

    fn set(&self, change: impl Fn(&mut Figures)) {
        self.figures.lock().iter_mut().for_each(change);
    }

    fn b(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures.lock()[1]);
    }

    fn client(self: &Arc<Self>) -> Client {
        let backend = Arc::clone(self) as Arc<dyn Backend>;
        Client::from_backend(backend, &ClientConfig::default()).unwrap()
    }

    /// Alerts about these masters, which are received.
    fn watched(self: &Arc<Self>, rule: Rule) -> (Alerts, mpsc::Receiver<Alert>) {
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

#[async_trait]
impl Backend for Masters {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        if self.are_unknown.load(Ordering::Relaxed) {
            return Err(Fault::new(FaultKind::Connect, "no master is known").not_sent());
        }
        self.inner.call(command).await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.inner.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.inner.subscribe(interest).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.inner.dedicated().await
    }

    fn topology(&self) -> Topology {
        Topology::Cluster
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.state()
    }

    fn servers(&self) -> Vec<ServerNode> {
        if self.are_unknown.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let slots = [0..=5_000, 5_001..=10_000, 10_001..=16_383];
        NAMES
            .iter()
            .zip(slots)
            .map(|(name, slots)| ServerNode::new(name, vec![slots]))
            .collect()
    }

    async fn call_on(&self, server: &str, command: &Command) -> Result<Value, CallError> {
        let index = NAMES.iter().position(|name| *name == server).unwrap();
        let figures = self.figures.lock()[index].clone();
        if command.name() != "INFO" {
            return self.inner.call(command).await;
        }
        if figures.is_silent {
            return Err(Fault::new(FaultKind::Timeout, "late").maybe());
        }
        let text = format!(
            "run_id:{}\r\nkeyspace_hits:{}\r\nkeyspace_misses:{}\r\nevicted_keys:{}\r\nused_memory:{}\r\n",
            figures.run_id, figures.hits, figures.misses, figures.evicted, figures.memory
        );
        Ok(Value::Bulk(text.into()))
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
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
    let (alerts, mut told) = masters.watched(Rule::memory_over(1_000));
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
    let (_alerts, mut told) = masters.watched(Rule::memory_over(1_000).for_at_least(MINUTE));
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
    let rule = Rule::hit_rate_under(0.8).window(MINUTE * 5);
    let (alerts, mut told) = masters.watched(rule);
    // Nine of ten look-ups find nothing, for as long as the test lasts.
    let running = Arc::clone(&masters);
    let traffic = tokio::spawn(async move {
        loop {
            running.set(|master| {
                master.hits += 100;
                master.misses += 900;
            });
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
async fn a_server_that_takes_a_place_has_evicted_nothing_in_the_window() {
    let masters = Masters::new();
    let (_alerts, mut told) = masters.watched(Rule::evictions());
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
    let masters = Masters::new();
    masters.are_unknown.store(true, Ordering::Relaxed);
    let analysis = Statistics::new(&masters.client()).analyze(AnalysisConfig::default());
    let error = analysis.unwrap().finish().await.unwrap_err();
    assert!(error.to_string().contains("no master is known"), "{error}");
}

#[cfg(feature = "prometheus")]
#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_not_known_is_shown_as_down() {
    let masters = Masters::new();
    masters.are_unknown.store(true, Ordering::Relaxed);
    let health = Health::builder().dependency(Dependency::hard("orders", &masters.client()));
    let handle = redkit_monitor::prometheus::recorder().unwrap().handle();
    let exporter =
        redkit_monitor::prometheus::Exporter::new(handle, &health.build().unwrap()).unwrap();
    let text = exporter.render().await;
    let up = text
        .lines()
        .find(|line| line.starts_with("redis_up{"))
        .unwrap();
    assert!(up.ends_with(" 0"), "{up}");
}
