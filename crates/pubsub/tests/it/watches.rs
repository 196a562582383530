//! How a group stands, as metrics.

use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use redkit_core::Command;
use redkit_pubsub::Error;
use redkit_pubsub::topic::{Delivery, Outcome, Publication};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::sleep;

use crate::handling::{builder, topic, until};

const GAUGES: [&str; 5] = [
    "lag",
    "pending",
    "dead_letters",
    "live_workers",
    "oldest_seconds",
];

/// Lag, pending messages, dead letters, live workers and the age of the oldest message of the group `g`, as they were set
/// since this was asked last.
fn shown(snapshots: &Snapshotter) -> [f64; 5] {
    let snapshot = snapshots.snapshot().into_vec();
    GAUGES.map(|name| {
        let found = snapshot.iter().find_map(|(key, _, _, value)| {
            let key = key.key();
            let labels = key.labels().map(|label| (label.key(), label.value()));
            let is_it = key.name() == format!("redkit_topic_{name}");
            (is_it && labels.eq([("topic", "t"), ("group", "g")])).then_some(value)
        });
        match found {
            Some(DebugValue::Gauge(value)) => value.into_inner(),
            other => panic!("{name}: {other:?}"),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_watched_is_shown_as_it_stands_until_the_watch_ends() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let backend = FaultyBackend::embedded();
    let topic = builder(&backend.client()).partitions(3).build().unwrap();
    topic.consumer("g").create_group().await.unwrap();
    for n in 0..6 {
        topic.publish(&n).await.unwrap();
    }
    let watch = topic.watch("g", Duration::from_secs(10)).await.unwrap();
    let [counts @ .., oldest] = shown(&snapshots);
    assert_eq!(counts, [6.0, 0.0, 0.0, 0.0]);
    assert!(oldest < 1.0, "{oldest}");
    sleep(Duration::from_secs(31)).await;
    let [.., oldest] = shown(&snapshots);
    assert!((29.0..=31.0).contains(&oldest), "{oldest}");
    let consumer = topic.consumer("g").concurrency(6);
    let worker = consumer.start(|delivery: Delivery<u32>| async move {
        match delivery.payload {
            0 => Outcome::dead("poison"),
            1 => std::future::pending().await,
            _ => Outcome::Ack,
        }
    });
    let worker = worker.await.unwrap();
    let is_done = || (worker.stats().acknowledged, worker.stats().dead) == (4, 1);
    until("all but one are handled", is_done).await;
    sleep(Duration::from_secs(11)).await;
    let [counts @ .., oldest] = shown(&snapshots);
    assert_eq!(counts, [0.0, 1.0, 1.0, 1.0]);
    assert!(oldest >= 31.0, "{oldest}");
    // Nobody knows how it stands.
    backend.add(Rule::new(Injection::NotSent));
    sleep(Duration::from_secs(11)).await;
    assert!(shown(&snapshots).iter().all(|value| value.is_nan()));
    backend.clear();
    sleep(Duration::from_secs(11)).await;
    let [counts @ .., _] = shown(&snapshots);
    assert_eq!(counts, [0.0, 1.0, 1.0, 1.0]);
    drop(watch);
    sleep(Duration::from_secs(1)).await;
    assert!(shown(&snapshots).iter().all(|value| value.is_nan()));
    backend.forget();
    sleep(Duration::from_secs(60)).await;
    let is_look = |command: &Command| command.iter().any(|arg| arg.ends_with(b":dead:g"));
    assert!(!backend.seen().iter().any(is_look));
}

/// No worker was ever deployed, or the group's name is mistyped.
#[tokio::test(start_paused = true)]
async fn messages_for_a_group_that_is_not_there_are_seen_to_grow_old() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let topic = topic(&FaultyBackend::embedded().client());
    let _watch = topic.watch("g", Duration::from_secs(10)).await.unwrap();
    let [lag, counts @ .., oldest] = shown(&snapshots);
    assert!(
        lag.is_nan(),
        "nobody knows which messages the group will have"
    );
    assert_eq!((counts, oldest), ([0.0, 0.0, 0.0], 0.0));
    topic.publish(&1).await.unwrap();
    sleep(Duration::from_secs(31)).await;
    let [.., oldest] = shown(&snapshots);
    assert!((29.0..=31.0).contains(&oldest), "{oldest}");
}

/// No worker is there that would move it into its stream.
#[tokio::test(start_paused = true)]
async fn a_delayed_message_is_seen_to_grow_old_from_the_time_when_it_was_due() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let topic = topic(&FaultyBackend::embedded().client());
    topic.consumer("g").create_group().await.unwrap();
    let _watch = topic.watch("g", Duration::from_secs(10)).await.unwrap();
    let delayed = Publication::new().delay(Duration::from_secs(60));
    topic.publish_with(&1, delayed).await.unwrap();
    sleep(Duration::from_secs(51)).await;
    assert_eq!(shown(&snapshots), [0.0; 5]);
    sleep(Duration::from_secs(40)).await;
    let [counts @ .., oldest] = shown(&snapshots);
    assert_eq!(counts, [1.0, 0.0, 0.0, 0.0]);
    assert!((29.0..=31.0).contains(&oldest), "{oldest}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_leaves_the_gauges_to_another_one_of_its_group() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let backend = FaultyBackend::embedded();
    let topics = [topic(&backend.client()), topic(&backend.client())];
    topics[0].consumer("g").create_group().await.unwrap();
    topics[0].publish(&1).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let first = topics[0].watch("g", hour).await.unwrap();
    let second = topics[1].watch("g", Duration::from_secs(10)).await.unwrap();
    let third = topics[1].watch("g", hour).await.unwrap();
    let other_group = topics[0].watch("h", hour).await.unwrap();
    topics[0].publish(&2).await.unwrap();
    sleep(Duration::from_secs(11)).await;
    drop(first);
    sleep(Duration::from_secs(1)).await;
    let [counts @ .., _] = shown(&snapshots);
    assert_eq!(counts, [2.0, 0.0, 0.0, 0.0], "the second looked last");
    drop(second);
    drop(third);
    sleep(Duration::from_secs(1)).await;
    assert!(shown(&snapshots).iter().all(|value| value.is_nan()));
    drop(other_group);
}

/// Of each gauge the maximum over the processes that watch the group.
#[test]
fn the_dashboard_has_a_panel_for_each_gauge_of_a_group() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/grafana/redkit.json"
    );
    let dashboard = std::fs::read_to_string(path).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries: Vec<_> = panels
        .iter()
        .map(|panel| panel["targets"][0]["expr"].as_str())
        .collect();
    for name in GAUGES {
        let query = format!("max by (topic, group) (redkit_topic_{name})");
        assert!(queries.contains(&Some(&*query)), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_though_the_server_is_away_and_refuses_what_cannot_work() {
    let backend = FaultyBackend::embedded();
    let topic = topic(&backend.client());
    let second = Duration::from_secs(1);
    for (group, every) in [("", second), ("g", second / 2)] {
        let error = topic.watch(group, every).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    backend.add(Rule::new(Injection::NotSent));
    let watches = [
        topic.watch("g", second).await.unwrap(),
        topic.watch("g", Duration::MAX).await.unwrap(),
    ];
    sleep(5 * second).await;
    drop(watches);
}
