//! Many objects: what each update and each page of a list is, in bytes and time, whatever there is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use futures_util::future::join_all;
use redkit_core::inspection::{Action, Inspect, InspectError, List, Snapshot};
use redkit_core::{Client, ClientConfig};
use redkit_lock::LockManager;
use redkit_testkit::{FaultyBackend, Server, ServerOptions};
use serde_json::{Value, json};

use super::{builder, event, object, post};

/// A group of a topic as its worker tells of it, without a worker.
struct Group {
    number: usize,
    measures: Arc<AtomicUsize>,
}

const ACTIONS: &[Action] = &[Action {
    name: "redrive",
    argument: "nothing for all",
    description: "Publishes the dead letters again, all of them or one that is named by its id.",
    is_destructive: false,
}];

const LISTS: &[List] = &[List {
    name: "dead_letters",
    filter: "",
    description: "What could not be handled, the oldest first, with the error of the last attempt.",
}];

#[async_trait]
impl Inspect for Group {
    fn kind(&self) -> &'static str {
        "topic"
    }

    fn name(&self) -> String {
        format!("topic-{:04}/mail", self.number)
    }

    fn snapshot(&self) -> Snapshot {
        let facts = [
            "received",
            "acknowledged",
            "retried",
            "buried",
            "panicked",
            "timed_out",
            "running",
        ];
        facts
            .into_iter()
            .fold(Snapshot::default(), |snapshot, fact| {
                snapshot.fact(fact, 100_000_u64)
            })
    }

    async fn measure(&self) -> Result<Snapshot, InspectError> {
        self.measures.fetch_add(1, Ordering::Relaxed);
        let dead: u64 = if self.number == 777 { 3 } else { 0 };
        let facts = ["lag", "pending", "retries", "delayed", "consumers"];
        let snapshot = facts
            .into_iter()
            .fold(Snapshot::default(), |snapshot, fact| {
                snapshot.fact(fact, 12_u64)
            });
        Ok(snapshot
            .fact("dead_letters", dead)
            .fact("oldest_pending", 0.5))
    }

    fn actions(&self) -> &'static [Action] {
        ACTIONS
    }

    fn lists(&self) -> &'static [List] {
        LISTS
    }
}

fn groups(client: &Client, measures: &Arc<AtomicUsize>) -> Vec<Arc<dyn Inspect>> {
    let group = |number| {
        let measures = Arc::clone(measures);
        let group: Arc<dyn Inspect> = Arc::new(Group { number, measures });
        client.register(Arc::downgrade(&group));
        group
    };
    (0..1_000).map(group).collect()
}

/// All items of a list, and what its longest page took and weighed.
async fn walk(
    app: &Router,
    path: &str,
    request: Value,
    items: &str,
) -> (Vec<Value>, usize, Duration, usize) {
    let (mut all, mut pages, mut longest, mut heaviest) = (Vec::new(), 0, Duration::ZERO, 0);
    let mut cursor = String::new();
    loop {
        let mut request = request.clone();
        request["cursor"] = json!(cursor);
        let begun = Instant::now();
        let (status, page) = post(app, "admin", path, request).await;
        longest = longest.max(begun.elapsed());
        assert_eq!(status, StatusCode::OK, "{page}");
        heaviest = heaviest.max(page.to_string().len());
        pages += 1;
        all.extend(page[items].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return (all, pages, longest, heaviest),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_topics_are_paged_by_the_server_and_those_in_trouble_come_first() {
    let backend = FaultyBackend::embedded();
    let (client, other) = (backend.client(), backend.client());
    let measures = Arc::default();
    let _groups = groups(&other, &measures);
    let here = builder(&client).start().unwrap();
    let _there = builder(&other).start().unwrap();
    let app: Router = here.routes();
    // Each update is bounded, and of a thousand the one with dead letters is in it, once it had its turn.
    let state = event(&app, "state", |state| {
        object(state, "topic", "topic-0777/mail")
            .is_some_and(|topic| topic["measured"]["dead_letters"] == 3)
    })
    .await;
    assert_eq!(state["totals"]["topic"], 1_000);
    let shown = state["objects"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|object| object["kind"] == "topic")
        .count();
    assert_eq!(shown, 50);
    let weight = state.to_string().len();
    assert!(weight < 100_000, "an update of {weight} bytes");
    assert!(
        state["attention"]
            .to_string()
            .contains("3 dead letters of topic-0777/mail")
    );

    let (all, pages, longest, heaviest) = walk(
        &app,
        "/api/objects",
        json!({ "kind": "topic", "count": 25 }),
        "objects",
    )
    .await;
    let names: BTreeSet<_> = all
        .iter()
        .map(|topic| topic["name"].as_str().unwrap())
        .collect();
    assert_eq!((all.len(), names.len(), pages), (1_000, 1_000, 40));
    assert!(
        heaviest < 40_000 && longest < Duration::from_secs(2),
        "{heaviest} {longest:?}"
    );
    println!(
        "1,000 topics: an update {weight} bytes; a page of 25 at most {heaviest} bytes, {longest:?}"
    );

    // What is asked for is bounded, and may be looked for.
    let (_, page) = post(
        &app,
        "reader",
        "/api/objects",
        json!({ "kind": "topic", "count": 100_000 }),
    )
    .await;
    assert_eq!(
        (page["objects"].as_array().unwrap().len(), &page["total"]),
        (200, &json!(1_000))
    );
    let (_, page) = post(
        &app,
        "reader",
        "/api/objects",
        json!({ "kind": "topic", "filter": "C-077" }),
    )
    .await;
    assert_eq!(
        (page["objects"].as_array().unwrap().len(), &page["next"]),
        (10, &json!(null))
    );
    let class = page["objects"][0]["class"].as_u64().unwrap();
    let class = &page["classes"][usize::try_from(class).unwrap()];
    assert_eq!(
        (&class["actions"][0]["name"], &class["lists"][0]["name"]),
        (&json!("redrive"), &json!("dead_letters"))
    );
    let (status, _) = post(
        &app,
        "reader",
        "/api/objects",
        json!({ "kind": "topic", "cursor": "x" }),
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = post(&app, "nobody", "/api/objects", json!({ "kind": "topic" })).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn however_many_topics_there_are_a_hundred_are_measured_in_three_seconds() {
    let client = FaultyBackend::embedded().client();
    let measures = Arc::<AtomicUsize>::default();
    let _groups = groups(&client, &measures);
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    let begun = tokio::time::Instant::now();
    let measured = |state: &Value| {
        state["objects"]
            .as_array()
            .unwrap()
            .iter()
            .any(|object| object["measured"]["dead_letters"] == 3)
    };
    event(&app, "state", measured).await;
    let seconds = begun.elapsed().as_secs();
    assert!(
        (20..=30).contains(&seconds),
        "its turn comes after {seconds} s"
    );
    let turns = measures.load(Ordering::Relaxed);
    let bound = usize::try_from(seconds / 3 + 1).unwrap() * 100;
    assert!(turns <= bound, "{turns} measurements in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_locks_are_paged_by_the_server() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config.namespace("shop")).await.unwrap();
    let locks = LockManager::builder(&client, "orders")
        .ttl(Duration::from_secs(60))
        .build()
        .unwrap();
    let mut held = Vec::new();
    for hundred in 0..100 {
        let taken = (0..100).map(|n| locks.try_acquire(format!("order-{}", hundred * 100 + n)));
        held.extend(join_all(taken).await.into_iter().map(Result::unwrap));
    }
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    let state = event(&app, "state", |state| {
        object(state, "locks", "orders").is_some()
    })
    .await;
    let orders = object(&state, "locks", "orders").unwrap();
    assert_eq!(orders["facts"]["held"], 10_000);
    assert!(orders["items"].as_array().unwrap().len() <= 60 && state.to_string().len() < 100_000);
    let list = json!({ "kind": "locks", "name": "orders", "list": "locks", "count": 50 });
    let (all, pages, longest, heaviest) = walk(&app, "/api/list", list, "items").await;
    let keys: BTreeSet<_> = all
        .iter()
        .map(|lock| lock["facts"]["key"].to_string())
        .collect();
    assert_eq!(keys.len(), 10_000);
    assert!(
        heaviest < 100_000 && longest < Duration::from_secs(5),
        "{heaviest} {longest:?}"
    );
    println!("10,000 locks: {pages} pages, the heaviest {heaviest} bytes, the longest {longest:?}");
    drop(held);
    client.shutdown().await;
}
