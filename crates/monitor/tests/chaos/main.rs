//! What monitoring costs: `cargo xtask chaos monitor`. Where other programs run on the machine, give this one their
//! processors: build it, and run it under `chrt -r 10`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use redkit_core::{Client, ClientConfig, Command};
use redkit_monitor::alerts::{Alerts, ChannelSink, Rule};
use redkit_monitor::dashboard::Dashboard;
use redkit_monitor::prometheus::{DURATION_BUCKETS, Exporter, RecorderHandle, install};
use redkit_monitor::{AnalysisConfig, Dependency, Health, Statistics};
use redkit_testkit::{Server, ServerOptions};
use tokio::task::JoinSet;

const TASKS: usize = 256;
const CALLS: usize = 400;
const PAIRS: usize = 5;
const MEASURED: usize = 15;

async fn client(server: &Server) -> Client {
    let config = ClientConfig::from_url(&server.url()).unwrap();
    Client::connect(config.namespace("shop")).await.unwrap()
}

/// A field of a file about this process, in its unit.
fn own(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

/// The processor time that this process has taken: user and system, in 1/100 s.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2);
    Duration::from_millis(
        ticks
            .map(|field| field.parse::<u64>().unwrap())
            .sum::<u64>()
            * 10,
    )
}

/// Processor time for each call of 256 tasks, in µs.
async fn per_call(client: &Client) -> f64 {
    let before = processor_time();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let client = client.clone();
        tasks.spawn(async move {
            for _ in 0..CALLS {
                client.get::<String>(format!("key:{task}")).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    (processor_time() - before).as_secs_f64() * 1e6 / (TASKS * CALLS) as f64
}

/// Everything that monitoring does besides: probes, alerts, scrapes, a dashboard that nobody watches.
struct Monitoring {
    alerts: Alerts,
    dashboard: Dashboard,
    _asked: JoinSet<()>,
}

impl Monitoring {
    fn start(client: &Client, handle: &RecorderHandle) -> Self {
        let dependency = Dependency::hard("redis", client);
        let health = Health::builder().dependency(dependency).build().unwrap();
        let (sender, _) = tokio::sync::mpsc::channel(100);
        let alerts = Alerts::builder(client, "shop", &health)
            .rule(Rule::unhealthy())
            .rule(Rule::latency_over(Duration::from_millis(100)))
            .rule(Rule::memory_share_over(0.9))
            .rule(Rule::evictions())
            .sink(ChannelSink::from(sender))
            .start()
            .unwrap();
        let dashboard = Dashboard::builder(client).health(&health).start().unwrap();
        let exporter = Exporter::new(handle.clone(), &health).unwrap();
        let mut asked = JoinSet::new();
        asked.spawn(async move {
            loop {
                // More often than Prometheus and Kubernetes would.
                exporter.render().await;
                health.ready().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self {
            alerts,
            dashboard,
            _asked: asked,
        }
    }

    async fn end(self) {
        self.alerts.shutdown(Duration::from_secs(1)).await;
        self.dashboard.shutdown().await;
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures"]
async fn monitoring_costs_two_hundredths_of_a_call_at_most() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    // Its metrics go nowhere: it was built before there is a recorder.
    let bare = client(&server).await;
    // The recorder of the exporter's library, which keeps every duration until it is summed up.
    let kept = PrometheusBuilder::new()
        .set_buckets(&DURATION_BUCKETS)
        .unwrap();
    let kept = kept.build_recorder();
    let sums = kept.handle();
    let handle = install().unwrap();
    let watched = client(&server).await;
    let keeping = {
        let _its_own = metrics::set_default_local_recorder(&kept);
        client(&server).await
    };
    for task in 0..TASKS {
        bare.set(format!("key:{task}"), &"value").await.unwrap();
    }
    per_call(&bare).await;
    let (mut all, mut besides, mut by_library) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..MEASURED {
        let without = per_call(&bare).await;
        // What counting costs is measured, and apart from it what goes on besides.
        let counted = per_call(&watched).await;
        let library = per_call(&keeping).await;
        sums.run_upkeep();
        let monitoring = Monitoring::start(&watched, &handle);
        let with = per_call(&watched).await;
        monitoring.end().await;
        println!(
            "pair {pair}: {without:.2} µs a call, counted {counted:.2} µs, by the library {library:.2} µs, with monitoring {with:.2} µs"
        );
        all.push(with / without);
        besides.push(with / counted);
        by_library.push(library / without);
    }
    let (all, besides, by_library) = (median(all), median(besides), median(by_library));
    println!(
        "{TASKS} tasks: monitoring takes {all:.3} times the processor time of a call; without the counting, {besides:.3}; \
         the recorder of the exporter's library alone {by_library:.3}"
    );
    assert!(all <= 1.02, "{all}");
}

/// Latencies of calls that come one by one, in µs, until `stop`.
async fn latencies(client: Client, stop: Arc<AtomicBool>) -> Vec<f64> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        client
            .call::<Option<String>>(Command::new("GET").key("key:17"))
            .await
            .unwrap();
        took.push(begun.elapsed().as_secs_f64() * 1e6);
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    took
}

async fn p99_during(client: &Client, work: impl Future) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let calls = tokio::spawn(latencies(client.clone(), Arc::clone(&stop)));
    work.await;
    stop.store(true, Ordering::Relaxed);
    let mut took = calls.await.unwrap();
    took.sort_by(f64::total_cmp);
    took[took.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, for a minute and a half"]
async fn a_million_keys_are_analyzed_within_fifty_megabytes_and_others_hardly_notice() {
    const KEYS: u64 = 1_000_000;
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    server
        .raw(&["DEBUG", "POPULATE", &KEYS.to_string(), "key", "50"])
        .await
        .unwrap();
    let client = client(&server).await;
    let before = own("status", "VmRSS:");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    // At its own pace, which is what others have to live with.
    let mut raised = Vec::new();
    for pair in 0..PAIRS {
        let quiet = p99_during(&client, tokio::time::sleep(Duration::from_secs(8))).await;
        let config = AnalysisConfig::default().sample_every(10).max_keys(40_000);
        let analysis = Statistics::new(&client).analyze(config).unwrap();
        let busy = p99_during(&client, async { analysis.finish().await.unwrap() }).await;
        println!("pair {pair}: GET p99 {quiet:.0} µs, and {busy:.0} µs during an analysis");
        raised.push(busy / quiet);
    }
    // And all of them, ten times as fast.
    let begun = Instant::now();
    let config = AnalysisConfig::default()
        .keys_per_second(50_000)
        .sample_every(100);
    let analysis = Statistics::new(&client).analyze(config).unwrap();
    let scanned = analysis.finish().await.unwrap().scanned;
    let took = begun.elapsed();
    let grown = own("status", "VmHWM:").saturating_sub(before);
    let raised = median(raised);
    println!(
        "{scanned} keys in {took:?}: {grown} KB more memory at most; at its own pace GET p99 {raised:.3} times that without"
    );
    assert_eq!(scanned, KEYS);
    assert!(grown < 50_000, "{grown} KB");
    assert!(raised <= 1.1, "{raised}");
}
