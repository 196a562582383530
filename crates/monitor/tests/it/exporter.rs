//! The exporter for Prometheus.

use std::time::Duration;

use redkit_core::Command;
use redkit_monitor::prometheus::{Exporter, SERVER_METRICS, recorder};
use redkit_monitor::{Dependency, Health};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};

fn exporter(
    client: &redkit_core::Client,
    handle: impl Into<redkit_monitor::prometheus::RecorderHandle>,
) -> Exporter {
    let dependency = Dependency::hard("orders", client);
    let health = Health::builder()
        .dependency(dependency)
        .fresh_for(Duration::ZERO)
        .build()
        .unwrap();
    Exporter::new(handle, &health).unwrap()
}

/// Checks the text format: each metric's rows stand together behind their type, and each row is a name, labels
/// and a number.
fn assert_well_formed(text: &str) {
    let mut types = std::collections::BTreeMap::new();
    let mut current = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none(), "{name} twice");
            current = name;
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(
                name.starts_with(current) && types.contains_key(current),
                "{line}"
            );
            let (_, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
        }
    }
}

redkit_testkit::suite! {
    async fn every_server_and_its_figures_are_shown(fixture: Fixture) {
        let client = &fixture.client;
        client.call::<()>(Command::new("SET").key(client.key("k")).arg("v").arg("EX").arg(60)).await.unwrap();
        let text = exporter(client, recorder().handle()).render().await;
        assert_well_formed(&text);
        for server in client.servers() {
            let up = format!("redis_up{{dependency=\"orders\",server=\"{}\"}} 1\n", server.name);
            assert!(text.contains(&up), "{up} {text}");
        }
        assert!(text.contains("redkit_health_status{dependency=\"orders\"} 0\n"));
        for metric in SERVER_METRICS {
            // Without replicas there is no lag.
            let is_shown = text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind));
            assert!(is_shown || metric.name == "redis_connected_slave_lag_seconds", "{}", metric.name);
        }
        assert!(text.contains("cmd=\"set\""));
    }
}

#[tokio::test]
async fn what_the_process_counts_is_shown_with_its_buckets() {
    let recorder = recorder();
    let backend = FaultyBackend::embedded();
    let client = metrics::with_local_recorder(&recorder, || backend.client());
    client.call::<()>(Command::new("PING")).await.unwrap();
    let exporter = exporter(&client, recorder.handle());
    let text = exporter.render().await;
    assert_well_formed(&text);
    for row in [
        "redkit_client_calls_total{client=\"default\",outcome=\"answered\"} 1",
        "redkit_client_call_duration_seconds_bucket{client=\"default\",le=\"0.00025\"}",
        "redkit_client_call_duration_seconds_count{client=\"default\"} 1",
    ] {
        assert!(text.contains(row), "{row} {text}");
    }
    assert!(text.contains("# HELP redkit_client_calls_total "), "{text}");
    if let Ok(path) = std::env::var("REDKIT_METRICS_OUT") {
        // For `promtool check metrics`, by hand.
        std::fs::write(path, &text).unwrap();
    }
    // A server that is down is shown as such.
    backend.set(Rule::new(Injection::NotSent));
    let text = exporter.render().await;
    assert!(
        text.contains("redis_up{dependency=\"orders\",server=\"embedded\"} 0\n"),
        "{text}"
    );
    assert!(text.contains("redkit_health_status{dependency=\"orders\"} 2\n"));
    assert!(
        !text.contains("redis_memory_used_bytes{"),
        "an old figure would look like a new one"
    );
}

#[tokio::test]
async fn a_recorder_that_the_program_has_made_itself_is_shown_too() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let client = metrics::with_local_recorder(&recorder, || FaultyBackend::embedded().client());
    client.call::<()>(Command::new("PING")).await.unwrap();
    let text = exporter(&client, recorder.handle()).render().await;
    assert_well_formed(&text);
    let row = "redkit_client_call_duration_seconds_count{client=\"default\"} 1";
    assert!(text.contains(row), "{text}");
}

#[tokio::test]
async fn whatever_recorder_a_program_has_gets_every_duration_by_itself() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let client = metrics::with_local_recorder(&recorder, || FaultyBackend::embedded().client());
    for _ in 0..3 {
        client.call::<()>(Command::new("PING")).await.unwrap();
    }
    let counted = recorder.snapshotter().snapshot().into_vec();
    let durations = counted
        .into_iter()
        .find_map(|(key, _, _, value)| match value {
            metrics_util::debugging::DebugValue::Histogram(durations)
                if key.key().name() == "redkit_client_call_duration_seconds" =>
            {
                Some(durations)
            }
            _ => None,
        });
    assert_eq!(durations.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_does_not_hold_up_a_scrape_and_scrapes_share_an_answer() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let dependency = Dependency::hard("orders", &client);
    let health = Health::builder().dependency(dependency).build().unwrap();
    let exporter = Exporter::new(recorder().handle(), &health).unwrap();
    futures_util::future::join_all((0..100).map(|_| exporter.render())).await;
    assert_eq!(backend.count("INFO"), 1);
    backend.set(Rule::new(Injection::HangBefore));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let start = tokio::time::Instant::now();
    let text = exporter.render().await;
    assert!(text.contains("redis_up{dependency=\"orders\",server=\"embedded\"} 0\n"));
    assert!(
        start.elapsed() <= Duration::from_millis(1_100),
        "{:?}",
        start.elapsed()
    );
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn the_route_gives_the_text_format() {
    use tower::ServiceExt;

    let client = FaultyBackend::embedded().client();
    let app: axum::Router = exporter(&client, recorder().handle()).routes();
    let request = axum::http::Request::get("/metrics")
        .body(axum::body::Body::empty())
        .unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let body = axum::body::to_bytes(response.into_body(), 1_000_000)
        .await
        .unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("redis_up"));
}
