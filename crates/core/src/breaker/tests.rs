//! The breaker as its users see it, in virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tokio::time::{Instant, advance, timeout};

use super::{Breaker, BreakerConfig, BreakerState, Outcome, Window};

fn config() -> BreakerConfig {
    BreakerConfig {
        minimum_calls: 4,
        ..BreakerConfig::default()
    }
}

fn fail(breaker: &Breaker, times: usize) {
    for _ in 0..times {
        breaker.acquire().unwrap().settle(Outcome::Failure);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_opens_it_before_any_call_has_ended() {
    let breaker = Breaker::new(config()).unwrap();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let breaker = breaker.clone();
            tokio::spawn(async move {
                let permit = breaker.acquire().unwrap();
                std::future::pending::<()>().await;
                permit.settle(Outcome::Success);
            })
        })
        .collect();
    tokio::task::yield_now().await;
    advance(Duration::from_millis(501)).await;
    let refusal = breaker.acquire().unwrap_err();
    assert_eq!(refusal.retry_after, Duration::from_secs(2));
    let status = breaker.status();
    assert_eq!((status.state, status.in_flight), (BreakerState::Open, 4));
    assert_eq!((status.slow_call_rate, status.failure_rate), (1.0, 0.0));
    for call in calls {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    assert_eq!(breaker.status().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_counts_nothing_and_a_timeout_is_what_the_caller_says() {
    let breaker = Breaker::new(config()).unwrap();
    let call = async {
        let _permit = breaker.acquire().unwrap();
        std::future::pending::<()>().await;
    };
    assert!(timeout(Duration::from_millis(100), call).await.is_err());
    let status = breaker.status();
    assert_eq!((status.calls, status.in_flight), (0, 0));

    let permit = breaker.acquire().unwrap();
    assert_eq!(permit.started(), Instant::now());
    advance(Duration::from_secs(1)).await;
    permit.settle(Outcome::Failure);
    let status = breaker.status();
    assert_eq!(
        (status.calls, status.failures, status.slow_calls),
        (1, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn the_whole_round_and_who_watches_it() {
    let breaker = Breaker::new(config()).unwrap();
    let mut events = breaker.events();
    assert_eq!(*events.borrow_and_update(), BreakerState::Closed);
    let begun = Instant::now();
    advance(Duration::from_secs(1)).await;
    fail(&breaker, 4);
    events.changed().await.unwrap();
    assert_eq!(*events.borrow_and_update(), BreakerState::Open);
    let status = breaker.status();
    assert_eq!(status.since - begun, Duration::from_secs(1));
    assert_eq!(status.retry_after, Some(Duration::from_secs(2)));

    advance(Duration::from_secs(2)).await;
    let probes: Vec<_> = (0..5).map(|_| breaker.acquire().unwrap()).collect();
    assert_eq!(*events.borrow_and_update(), BreakerState::HalfOpen);
    assert!(breaker.acquire().is_err());
    probes
        .into_iter()
        .for_each(|probe| probe.settle(Outcome::Success));
    assert_eq!(*events.borrow_and_update(), BreakerState::Closed);

    breaker.force_open();
    assert!(breaker.acquire().is_err());
    breaker.force_closed();
    fail(&breaker, 50);
    breaker.reset();
    let status = breaker.status();
    assert_eq!(
        (status.state, status.calls, status.not_permitted),
        (BreakerState::Closed, 0, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn the_window_by_time_slides() {
    let breaker = Breaker::new(BreakerConfig {
        window: Window::Time(Duration::from_secs(10)),
        ..config()
    })
    .unwrap();
    fail(&breaker, 3);
    advance(Duration::from_secs(10)).await;
    fail(&breaker, 3);
    let status = breaker.status();
    assert_eq!((status.state, status.calls), (BreakerState::Closed, 3));
    fail(&breaker, 1);
    assert_eq!(breaker.status().state, BreakerState::Open);
}

#[test]
fn metrics_carry_the_clients_name() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let breaker = Breaker::named("orders", config()).unwrap();
        drop(breaker.acquire().unwrap());
        fail(&breaker, 4);
        assert!(breaker.acquire().is_err());
    });
    let mut seen: Vec<String> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter_map(|(key, _, _, value)| {
            let key = key.key();
            let labels: Vec<_> = key.labels().map(|l| format!("{l:?}")).collect();
            assert!(labels.iter().any(|label| label.contains("orders")));
            let value = match value {
                DebugValue::Counter(0) => return None,
                DebugValue::Counter(count) => count.to_string(),
                DebugValue::Gauge(value) => value.to_string(),
                DebugValue::Histogram(_) => return None,
            };
            let other: Vec<_> = key
                .labels()
                .filter(|label| label.key() != "client")
                .map(metrics::Label::value)
                .collect();
            Some(format!("{} {} {value}", key.name(), other.join(",")))
        })
        .collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "redkit_breaker_calls_total failure 4",
            "redkit_breaker_calls_total neutral 1",
            "redkit_breaker_not_permitted_total  1",
            "redkit_breaker_state  2",
            "redkit_breaker_transitions_total open 1",
        ]
    );
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_transition_is_an_event_that_says_why() {
    // While there is but one subscriber, another thread may decide for all that nobody listens to a message.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let breaker = Breaker::named("orders", config()).unwrap();
        fail(&breaker, 4);
        breaker.reset();
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let mut lines = text.lines();
    let opened = lines.next().unwrap();
    for part in [
        "WARN redkit::breaker",
        "client=orders",
        "from=\"closed\"",
        "to=\"open\"",
        "failure_rate=1.0",
    ] {
        assert!(opened.contains(part), "{opened}");
    }
    let closed = lines.next().unwrap();
    assert!(closed.contains("INFO") && closed.contains("to=\"closed\""));
    assert_eq!(lines.next(), None);
}
