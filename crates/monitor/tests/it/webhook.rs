//! Webhooks against receivers that take, fail, hang, refuse and redirect.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use redkit_core::inspection::{Inspect, Snapshot};
use redkit_core::{Client, ClientConfig};
use redkit_monitor::alerts::{Alerts, Rule, Template, Webhook};
use redkit_monitor::{Dependency, Health};
use redkit_testkit::{Server, ServerOptions};
use sha2::Sha256;
use tokio::time::{Instant, sleep};

const PERIOD: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    Hang,
    Redirect,
}

/// A receiver that answers as it is told, and then with 200.
#[derive(Clone, Default)]
struct Receiver {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    elsewhere: Arc<Mutex<usize>>,
}

impl Receiver {
    async fn listen(answers: impl IntoIterator<Item = Answer>) -> (Self, String) {
        let receiver = Self::default();
        receiver.answers.lock().extend(answers);
        let app = Router::new()
            .route("/hook", post(take))
            .route("/elsewhere", post(stray).get(stray));
        let app = app.with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (receiver, url)
    }

    fn count(&self) -> usize {
        self.requests.lock().len()
    }

    async fn has(&self, count: usize) {
        let patience = Instant::now() + Duration::from_secs(20);
        while self.count() < count {
            assert!(Instant::now() < patience, "{} requests", self.count());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    receiver.requests.lock().push((headers, body));
    let answer = receiver.answers.lock().pop_front();
    match answer {
        None => StatusCode::OK.into_response(),
        Some(Answer::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answer::Hang) => std::future::pending().await,
        Some(Answer::Redirect) => (
            StatusCode::TEMPORARY_REDIRECT,
            [(header::LOCATION, "/elsewhere")],
        )
            .into_response(),
    }
}

async fn stray(State(receiver): State<Receiver>) -> StatusCode {
    *receiver.elsewhere.lock() += 1;
    StatusCode::OK
}

async fn connected(server: &Server) -> Client {
    let config = ClientConfig::from_url(&server.url())
        .unwrap()
        .namespace("shop");
    Client::connect(config).await.unwrap()
}

/// Alerts that fire at once, because the breaker of what they are about is open.
fn firing(client: &Client, webhook: Webhook) -> Alerts {
    let backend = redkit_testkit::FaultyBackend::embedded();
    let dependency = backend.client();
    dependency.breaker().force_open();
    let health = Health::builder()
        .dependency(Dependency::soft("orders", &dependency))
        .build()
        .unwrap();
    let builder = Alerts::builder(client, "shop", &health).every(PERIOD);
    builder
        .rule(Rule::breaker_open())
        .sink(webhook)
        .start()
        .unwrap()
}

#[tokio::test]
async fn five_instances_deliver_once_signed_and_under_one_key() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let (receiver, url) = Receiver::listen([Answer::Status(503), Answer::Status(429)]).await;
    let mut fleet = Vec::new();
    for _ in 0..5 {
        let webhook = Webhook::builder("hook", &url)
            .secret("secret".to_owned().into())
            .build()
            .unwrap();
        fleet.push(firing(&connected(&server).await, webhook));
    }
    // Two attempts fail; the third is taken.
    receiver.has(3).await;
    sleep(PERIOD * 10).await;
    assert_eq!(receiver.count(), 3);
    let requests = receiver.requests.lock().clone();
    let key = |headers: &HeaderMap| headers["idempotency-key"].to_str().unwrap().to_owned();
    let (headers, body) = &requests[2];
    assert!(requests.iter().all(|(other, _)| key(other) == key(headers)));
    let alert: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(
        (&alert["state"], &alert["rule"]),
        (&"firing".into(), &"breaker_open".into())
    );
    assert_eq!(alert["key"], key(headers));
    let signature = headers["x-redkit-signature"].to_str().unwrap();
    let (time, signature) = signature
        .strip_prefix("t=")
        .unwrap()
        .split_once(",v1=")
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    let expected: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(signature, expected);
    for alerts in fleet {
        alerts.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up_in_time_and_tried_again() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let (receiver, url) = Receiver::listen([Answer::Hang]).await;
    let limit = Duration::from_millis(200);
    let webhook = Webhook::builder("hook", &url)
        .timeout(limit)
        .template(Template::Slack)
        .build()
        .unwrap();
    let alerts = firing(&connected(&server).await, webhook);
    receiver.has(1).await;
    let start = Instant::now();
    receiver.has(2).await;
    assert!(start.elapsed() >= limit / 2 && start.elapsed() < Duration::from_secs(10));
    let body: serde_json::Value = serde_json::from_slice(&receiver.requests.lock()[1].1).unwrap();
    assert!(
        body["text"].as_str().unwrap().contains("circuit breaker"),
        "{body}"
    );
    assert!(alerts.shutdown(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn redirections_are_not_followed_and_refusals_not_repeated() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    for answer in [Answer::Redirect, Answer::Status(401)] {
        server.raw(&["FLUSHALL"]).await.unwrap();
        let (receiver, url) = Receiver::listen([answer]).await;
        let webhook = Webhook::builder("hook", &url).build().unwrap();
        let alerts = firing(&connected(&server).await, webhook);
        receiver.has(1).await;
        sleep(PERIOD * 10).await;
        assert_eq!((receiver.count(), *receiver.elsewhere.lock()), (1, 0));
        alerts.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn what_waits_for_a_receiver_that_is_not_there_is_cut_off_at_shutdown() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let webhook = Webhook::builder("hook", "http://127.0.0.1:1/hook")
        .build()
        .unwrap();
    let alerts = firing(&connected(&server).await, webhook);
    sleep(PERIOD * 5).await;
    assert_eq!(alerts.firing().len(), 1);
    let start = Instant::now();
    assert!(!alerts.shutdown(PERIOD * 5).await);
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// An object of the program's own, whose name nobody checks.
struct Worker;

#[async_trait]
impl Inspect for Worker {
    fn kind(&self) -> &'static str {
        "worker"
    }

    fn name(&self) -> String {
        "Größe 100%".to_owned()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default().fact("dead_letters", 1_u64)
    }
}

#[tokio::test]
async fn an_alert_about_a_name_of_any_letters_is_delivered() {
    let client = redkit_testkit::FaultyBackend::embedded().client();
    let worker = Arc::new(Worker);
    client.register(Arc::downgrade(&worker) as Weak<dyn Inspect>);
    let health = Health::builder()
        .dependency(Dependency::soft("orders", &client))
        .build()
        .unwrap();
    let (receiver, url) = Receiver::listen([]).await;
    let alerts = Alerts::builder(&client, "shop", &health)
        .every(PERIOD)
        .rule(Rule::dead_letters_over(0))
        .sink(Webhook::builder("hook", &url).build().unwrap())
        .start()
        .unwrap();
    receiver.has(1).await;
    let (headers, body) = receiver.requests.lock()[0].clone();
    let key = headers["idempotency-key"].to_str().unwrap();
    assert!(key.contains("Gr%C3%B6%C3%9Fe%20100%25"), "{key}");
    let alert: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert!(
        alert["key"].as_str().unwrap().contains("Größe 100%"),
        "{alert}"
    );
    alerts.shutdown(PERIOD).await;
}
