//! The dashboard: what is published and shown, who may do what, and orders between instances.

mod page;
mod rights;
mod scale;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use parking_lot::Mutex;
use redkit_core::Client;
use redkit_core::inspection::{
    Action, Fact, Inspect, InspectError, Item, List, Page, Query, Snapshot,
};
use redkit_monitor::dashboard::{Dashboard, DashboardBuilder, Rights, Viewer};
use redkit_testkit::Fixture;
use secrecy::SecretString;
use serde_json::{Value, json};
use tower::ServiceExt;

const KEY: &str = "a key of the tests, which is long enough";

/// An object that counts how often it was acted on.
pub(crate) struct Shelf {
    name: &'static str,
    boxes: AtomicUsize,
    painted: Mutex<Vec<String>>,
}

impl Shelf {
    pub(crate) fn registered(client: &Client, name: &'static str) -> Arc<Self> {
        let shelf = Arc::new(Self {
            name,
            boxes: AtomicUsize::new(3),
            painted: Mutex::default(),
        });
        let object: Arc<dyn Inspect> = Arc::clone(&shelf) as _;
        client.register(Arc::downgrade(&object));
        shelf
    }

    pub(crate) fn painted(&self) -> Vec<String> {
        self.painted.lock().clone()
    }
}

#[async_trait]
impl Inspect for Shelf {
    fn kind(&self) -> &'static str {
        "shelf"
    }

    fn name(&self) -> String {
        assert_ne!(self.name, "nameless", "it has no name");
        self.name.to_owned()
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default().fact("boxes", self.boxes.load(Ordering::Relaxed));
        for n in 0..Snapshot::MOST_ITEMS {
            snapshot.push(vec![("number", Fact::from(n))]);
        }
        snapshot
    }

    async fn measure(&self) -> Result<Snapshot, InspectError> {
        assert!(!self.name.starts_with("rotten"), "it falls down");
        Ok(Snapshot::default().fact("height", 7_u64))
    }

    fn lists(&self) -> &'static [List] {
        &[List {
            name: "boxes",
            filter: "",
            description: "The boxes.",
        }]
    }

    async fn list(&self, _: &str, query: &Query) -> Result<Page, InspectError> {
        let from: usize = query.cursor.parse().unwrap_or_default();
        let all = self.boxes.load(Ordering::Relaxed);
        let until = (from + query.wanted()).min(all);
        let item = |n: usize| {
            let item = Item::default()
                .fact("number", n)
                .payload("inside", "a secret letter");
            item.action("paint", format!("box {n}")).action("burn", "")
        };
        Ok(Page {
            items: (from..until).map(item).collect(),
            next: (until < all).then(|| until.to_string()),
        })
    }

    fn actions(&self) -> &'static [Action] {
        &[Action {
            name: "paint",
            argument: "the colour",
            description: "Paints it.",
            is_destructive: false,
        }]
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        match (action, argument) {
            ("paint", "invisible") => Err(InspectError::Argument("there is no such colour".into())),
            ("paint", "explosive") => panic!("it has exploded"),
            ("paint", colour) => {
                self.painted.lock().push(colour.to_owned());
                Ok(format!("it is {colour} now"))
            }
            _ => Err(InspectError::UnknownAction {
                kind: "shelf",
                action: action.into(),
            }),
        }
    }
}

/// Viewers as a header names them.
pub(crate) fn viewer(parts: &Parts) -> Option<Viewer> {
    let name = parts.headers.get("x-viewer")?.to_str().ok()?;
    let rights = match name {
        "admin" => Rights::all(),
        "painter" => Rights::read_only().action("shelf", "paint"),
        "reader" => Rights::read_only(),
        "nobody" => Rights::none(),
        _ => return None,
    };
    Some(Viewer::new(name, rights))
}

pub(crate) fn builder(client: &Client) -> DashboardBuilder {
    Dashboard::builder(client).program("shop").access(viewer)
}

pub(crate) fn with_key(builder: DashboardBuilder) -> DashboardBuilder {
    builder.command_key(SecretString::from(KEY))
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1_000_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

pub(crate) async fn get(app: &Router, viewer: &str, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).header("x-viewer", viewer);
    send(app, request.body(Body::empty()).unwrap()).await
}

pub(crate) async fn post(
    app: &Router,
    viewer: &str,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    let request = Request::post(path)
        .header("x-viewer", viewer)
        .header("content-type", "application/json")
        .header("sec-fetch-site", "same-origin");
    send(app, request.body(Body::from(body.to_string())).unwrap()).await
}

/// The events of the stream: the first of this name for which `is` holds.
pub(crate) async fn event(app: &Router, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    use futures_util::StreamExt;
    let request = Request::get("/events").header("x-viewer", "reader");
    let request = request.body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    let read = async {
        while let Some(part) = body.next().await {
            text.push_str(&String::from_utf8_lossy(&part.unwrap()));
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else {
                    continue;
                };
                if event.starts_with(&format!("event: {name}\n")) {
                    let data: Value = serde_json::from_str(data).unwrap();
                    if is(&data) {
                        return data;
                    }
                }
            }
        }
        panic!("the stream has ended");
    };
    let read = tokio::time::timeout(Duration::from_secs(30), read).await;
    read.expect("no such event in 30 s")
}

pub(crate) fn object<'s>(state: &'s Value, kind: &str, name: &str) -> Option<&'s Value> {
    let mut objects = state["objects"].as_array()?.iter();
    objects.find(|object| object["kind"] == kind && object["name"] == name)
}

redkit_testkit::suite! {
    async fn a_page_shows_the_objects_of_all_instances_as_one(fixture: Fixture) {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let shelves = [Shelf::registered(&fixture.client, "tools"), Shelf::registered(&other, "tools")];
        let only_there = Shelf::registered(&other, "books");
        let here = builder(&fixture.client).start().unwrap();
        let there = builder(&other).start().unwrap();
        let app: Router = here.routes();
        let state = event(&app, "state", |state| {
            object(state, "shelf", "tools").is_some_and(|tools| tools["each"].as_array().unwrap().len() == 2 && tools["measured"]["height"] == 7)
                && object(state, "shelf", "books").is_some()
        })
        .await;
        let tools = object(&state, "shelf", "tools").unwrap();
        assert_eq!(tools["facts"]["boxes"], 6);
        // Bounded, and what is left out is counted.
        let shown = tools["items"].as_array().unwrap().len();
        assert!(shown <= 60);
        assert_eq!(shown + usize::try_from(tools["omitted"].as_u64().unwrap()).unwrap(), 200);
        assert_eq!(state["processes"].as_array().unwrap().len(), 2);
        assert_eq!(state["verdict"]["text"], "All is well");
        // It is gone at once when it says so.
        there.shutdown().await;
        event(&app, "state", |state| object(state, "shelf", "books").is_none()).await;
        drop((shelves, only_there, here));
    }

    async fn an_action_on_another_instances_object_is_done_by_that_instance(fixture: Fixture) {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let books = Shelf::registered(&other, "books");
        let here = with_key(builder(&fixture.client)).start().unwrap();
        let there = with_key(builder(&other)).start().unwrap();
        let app: Router = here.routes();
        event(&app, "state", |state| object(state, "shelf", "books").is_some()).await;
        let paint = json!({ "kind": "shelf", "name": "books", "action": "paint", "argument": "red" });
        let (status, answer) = post(&app, "painter", "/api/act", paint).await;
        assert_eq!((status, &answer["text"]), (StatusCode::OK, &json!("it is red now")), "{answer}");
        assert_eq!(books.painted(), ["red"]);
        // Its error comes back as well, and so does a page of a list.
        let paint = json!({ "kind": "shelf", "name": "books", "action": "paint", "argument": "invisible" });
        let (status, answer) = post(&app, "painter", "/api/act", paint).await;
        assert_eq!((status, &answer["error"]), (StatusCode::CONFLICT, &json!("there is no such colour")));
        let list = json!({ "kind": "shelf", "name": "books", "list": "boxes" });
        let (status, page) = post(&app, "admin", "/api/list", list.clone()).await;
        assert_eq!((status, page["items"].as_array().map(Vec::len)), (StatusCode::OK, Some(3)), "{page}");
        assert_eq!(page["items"][0]["payload"]["inside"], "a secret letter");
        // What the viewer may not see does not even leave the instance that has it.
        let (_, page) = post(&app, "reader", "/api/list", list).await;
        assert!(!page.to_string().contains("secret"), "{page}");
        drop((here, there));
    }

    async fn every_action_is_in_the_audit_with_its_outcome(fixture: Fixture) {
        let _tools = Shelf::registered(&fixture.client, "tools");
        let here = builder(&fixture.client).start().unwrap();
        let app: Router = here.routes();
        let act = |argument: &str| json!({ "kind": "shelf", "name": "tools", "action": "paint", "argument": argument });
        post(&app, "painter", "/api/act", act("red")).await;
        post(&app, "painter", "/api/act", act("invisible")).await;
        post(&app, "reader", "/api/act", act("blue")).await;
        let (status, entries) = get(&app, "reader", "/api/audit").await;
        assert_eq!(status, StatusCode::OK);
        let mut found: Vec<_> = entries.as_array().unwrap().iter().map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            (text("viewer"), text("argument"), text("outcome"))
        }).collect();
        found.sort();
        let row = |viewer: &str, argument: &str, outcome: &str| (viewer.to_owned(), argument.to_owned(), outcome.to_owned());
        assert_eq!(found, [
            row("painter", "invisible", "begun"),
            row("painter", "invisible", "failed"),
            row("painter", "red", "begun"),
            row("painter", "red", "done"),
            row("reader", "blue", "refused"),
        ]);
        let end = entries.as_array().unwrap().iter().find(|entry| entry["outcome"] == "done").unwrap();
        assert!(end["begun"].is_string() && end["at"].as_u64().unwrap() > 1_700_000_000_000);
    }

    async fn every_key_of_a_dashboard_expires_but_the_audit(fixture: Fixture) {
        let client = &fixture.client;
        let here = with_key(builder(client)).start().unwrap();
        let app: Router = here.routes();
        let _tools = Shelf::registered(client, "tools");
        event(&app, "state", |_| true).await;
        post(&app, "painter", "/api/act", json!({ "kind": "shelf", "name": "tools", "action": "paint", "argument": "red" })).await;
        let mut keys = client.scan(redkit_core::Pattern::prefix("monitor:dashboard:")).keys();
        let mut seen = Vec::new();
        while let Some(key) = keys.next().await {
            let key = client.key(key.unwrap());
            let text = key.to_string();
            let ttl: i64 = client.call(redkit_core::Command::new("PTTL").key(&key)).await.unwrap();
            if text.contains(":audit") || text.contains(":refusals") {
                assert_eq!(ttl, -1, "{text}");
            } else {
                assert!(ttl > 0 && ttl <= 60_000, "{text} {ttl}");
            }
            seen.push(text);
        }
        for role in ["}:instances", "}:watched", "}:at:", "}:audit"] {
            assert!(seen.iter().any(|key| key.contains(role)), "{role} in {seen:?}");
        }
    }
}
