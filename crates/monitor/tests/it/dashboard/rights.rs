//! What viewers may and may not do, whatever their page shows.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use redkit_core::breaker::BreakerState;
use redkit_core::{Client, ClientConfig};
use redkit_monitor::{Dependency, Health};
use redkit_testkit::{FaultyBackend, Injection, Rule, Server, ServerOptions};
use serde_json::json;

use super::{Shelf, builder, event, get, object, post, send, with_key};

const PAINT: &str = r#"{"kind":"shelf","name":"tools","action":"paint","argument":"red"}"#;

fn paint() -> serde_json::Value {
    serde_json::from_str(PAINT).unwrap()
}

#[tokio::test]
async fn an_action_without_the_right_is_refused_and_not_done() {
    let client = FaultyBackend::embedded().client();
    let tools = Shelf::registered(&client, "tools");
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    let (status, answer) = post(&app, "reader", "/api/act", paint()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    // The right to another action of the same kind is not enough, nor is one on another kind.
    for (kind, action) in [("shelf", "burn"), ("locks", "paint")] {
        let act = json!({ "kind": kind, "name": "tools", "action": action });
        let (status, _) = post(&app, "painter", "/api/act", act).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{kind} {action}");
    }
    assert!(tools.painted().is_empty());
    let (status, _) = post(&app, "painter", "/api/act", paint()).await;
    assert_eq!((status, tools.painted().len()), (StatusCode::OK, 1));
}

#[tokio::test]
async fn a_viewer_who_may_not_look_gets_nothing() {
    let client = FaultyBackend::embedded().client();
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    for viewer in ["nobody", "a stranger"] {
        for path in [
            "/",
            "/events",
            "/assets/app.js",
            "/api/me",
            "/api/audit",
            "/api/logs",
            "/api/analysis",
        ] {
            let (status, body) = get(&app, viewer, path).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{viewer} {path} {body}");
        }
        let (status, _) = post(&app, viewer, "/api/list", json!({})).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn without_a_resolver_everybody_reads_and_nobody_acts() {
    let client = FaultyBackend::embedded().client();
    let tools = Shelf::registered(&client, "tools");
    let dashboard = redkit_monitor::dashboard::Dashboard::builder(&client)
        .start()
        .unwrap();
    let app: Router = dashboard.routes();
    let (status, me) = get(&app, "whoever", "/api/me").await;
    assert_eq!((status, &me["name"]), (StatusCode::OK, &json!("anonymous")));
    assert_eq!(
        me["rights"],
        json!({ "payloads": false, "analysis": false, "actions": [] })
    );
    let (status, _) = post(&app, "whoever", "/api/act", paint()).await;
    assert_eq!((status, tools.painted().len()), (StatusCode::FORBIDDEN, 0));
}

#[tokio::test]
async fn a_request_of_another_site_is_refused() {
    let client = FaultyBackend::embedded().client();
    let tools = Shelf::registered(&client, "tools");
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://elsewhere.example"),
        ("x-nothing", ""),
    ] {
        let request = Request::post("/api/act").header("x-viewer", "admin");
        let request = request
            .header("content-type", "application/json")
            .header("host", "shop.example");
        let request = request.header(name, value).body(Body::from(PAINT)).unwrap();
        assert_eq!(
            send(&app, request).await.0,
            StatusCode::FORBIDDEN,
            "{name} {value}"
        );
    }
    // A form of another page cannot send JSON.
    let request = Request::post("/api/act")
        .header("x-viewer", "admin")
        .header("sec-fetch-site", "same-origin");
    let request = request
        .header("content-type", "text/plain")
        .body(Body::from(PAINT))
        .unwrap();
    assert_eq!(send(&app, request).await.0, StatusCode::FORBIDDEN);
    assert!(tools.painted().is_empty());
}

#[tokio::test]
async fn an_action_that_cannot_be_noted_is_not_done() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let tools = Shelf::registered(&client, "tools");
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    backend.set(Rule::new(Injection::NotSent).on_part("{fleet}:audit"));
    let (status, answer) = post(&app, "painter", "/api/act", paint()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert!(tools.painted().is_empty());
}

#[tokio::test]
async fn payloads_are_for_viewers_who_may_see_them_and_as_the_hook_shows_them() {
    let client = FaultyBackend::embedded().client();
    let _tools = Shelf::registered(&client, "tools");
    let redact = |field: &str, text: &str| match field {
        "inside" => Some(text.replace("secret", "…")),
        _ => None,
    };
    let dashboard = builder(&client).redact(redact).start().unwrap();
    let app: Router = dashboard.routes();
    let list = json!({ "kind": "shelf", "name": "tools", "list": "boxes", "count": 2 });
    let (_, page) = post(&app, "reader", "/api/list", list.clone()).await;
    assert_eq!(
        (&page["hidden"], page["items"].as_array().unwrap().len()),
        (&json!(true), 2)
    );
    assert!(!page.to_string().contains("letter"), "{page}");
    assert_eq!(page["items"][0]["actions"], json!([]));
    let (_, page) = post(&app, "painter", "/api/list", list.clone()).await;
    assert_eq!(page["items"][0]["actions"], json!([["paint", "box 0"]]));
    let (_, page) = post(&app, "admin", "/api/list", list).await;
    assert_eq!(page["items"][0]["payload"]["inside"], "a … letter");
    assert_eq!(page["next"], "2");
    let next =
        json!({ "kind": "shelf", "name": "tools", "list": "boxes", "count": 2, "cursor": "2" });
    let (_, page) = post(&app, "admin", "/api/list", next).await;
    assert_eq!(
        (page["items"].as_array().unwrap().len(), &page["next"]),
        (1, &json!(null))
    );
}

#[tokio::test(start_paused = true)]
async fn payloads_of_another_instance_are_hidden_by_its_own_hook_and_pass_sealed_through_redis() {
    let backend = FaultyBackend::embedded();
    let (client, other) = (backend.client(), backend.client());
    let _books = Shelf::registered(&other, "books");
    let here = with_key(builder(&client)).start().unwrap();
    let redact = |_: &str, text: &str| Some(text.replace("secret", "…"));
    let there = with_key(builder(&other)).redact(redact).start().unwrap();
    let app: Router = here.routes();
    let has_books = |state: &serde_json::Value| object(state, "shelf", "books").is_some();
    event(&app, "state", has_books).await;
    // What stands in Redis is not taken out of it, so that it can be looked at.
    backend.set(Rule::new(Injection::NotSent).on_name("DEL"));
    let list = json!({ "kind": "shelf", "name": "books", "list": "boxes" });
    let (status, page) = post(&app, "admin", "/api/list", list.clone()).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    assert_eq!(page["items"][0]["payload"]["inside"], "a … letter");
    let mut outcomes = 0;
    let mut keys = client
        .scan(redkit_core::Pattern::prefix("monitor:dashboard:"))
        .keys();
    while let Some(key) = keys.next().await {
        let key = client.key(key.unwrap());
        if !key.to_string().contains("}:outcome:") {
            continue;
        }
        outcomes += 1;
        let get = redkit_core::Command::new("GET").key(&key);
        let raw: bytes::Bytes = client.call(get).await.unwrap();
        for text in [&b"letter"[..], b"inside", b"number"] {
            assert!(!raw.windows(text.len()).any(|part| part == text), "{raw:?}");
        }
    }
    assert_eq!(outcomes, 1);
    // The process that serves the page has a word too.
    let hides = with_key(builder(&client))
        .redact(|_, _| None)
        .start()
        .unwrap();
    let app: Router = hides.routes();
    let (_, page) = post(&app, "admin", "/api/list", list.clone()).await;
    assert_eq!(page["items"][0]["payload"]["inside"], "hidden", "{page}");
    // A hook that panics shows nothing.
    let panics = with_key(builder(&client))
        .redact(|_, _| panic!("the hook"))
        .start()
        .unwrap();
    let app: Router = panics.routes();
    let (_, page) = post(&app, "admin", "/api/list", list).await;
    assert_eq!(page["items"][0]["payload"]["inside"], "hidden", "{page}");
    drop((here, there));
}

#[tokio::test(start_paused = true)]
async fn an_action_that_panics_has_failed_and_the_audit_says_so() {
    let backend = FaultyBackend::embedded();
    let (client, other) = (backend.client(), backend.client());
    let shelves = [
        Shelf::registered(&client, "tools"),
        Shelf::registered(&other, "books"),
    ];
    let here = with_key(builder(&client)).start().unwrap();
    let there = with_key(builder(&other)).start().unwrap();
    let app: Router = here.routes();
    let has_books = |state: &serde_json::Value| object(state, "shelf", "books").is_some();
    event(&app, "state", has_books).await;
    for name in ["tools", "books"] {
        let act =
            json!({ "kind": "shelf", "name": name, "action": "paint", "argument": "explosive" });
        let (status, answer) = post(&app, "painter", "/api/act", act).await;
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
        assert!(
            answer["error"].as_str().unwrap().contains("panicked"),
            "{answer}"
        );
        let (_, entries) = super::get(&app, "reader", "/api/audit").await;
        let mut entries = entries.as_array().unwrap().iter();
        let ended = entries.find(|entry| entry["name"] == name && entry["outcome"] == "failed");
        let text = ended.unwrap()["text"].as_str().unwrap();
        assert!(text.contains("panicked"), "{text}");
    }
    drop((there, shelves));
}

#[tokio::test(start_paused = true)]
async fn instances_with_different_command_keys_do_not_obey_each_other() {
    let backend = FaultyBackend::embedded();
    let (client, other) = (backend.client(), backend.client());
    let books = Shelf::registered(&other, "books");
    let here = with_key(builder(&client)).start().unwrap();
    let stranger = secrecy::SecretString::from("another key, which is long enough too");
    let _there = builder(&other).command_key(stranger).start().unwrap();
    let app: Router = here.routes();
    event(&app, "state", |state| {
        object(state, "shelf", "books").is_some()
    })
    .await;
    let act = json!({ "kind": "shelf", "name": "books", "action": "paint", "argument": "red" });
    let (status, answer) = post(&app, "painter", "/api/act", act.clone()).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{answer}");
    assert!(
        answer["error"].as_str().unwrap().contains("unknown"),
        "{answer}"
    );
    assert!(books.painted().is_empty());
    // Without a key there are no orders at all.
    let keyless = builder(&client).observer().start().unwrap();
    let app: Router = keyless.routes();
    let (status, answer) = post(&app, "painter", "/api/act", act).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(
        answer["error"].as_str().unwrap().contains("command key"),
        "{answer}"
    );
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_and_name_no_secret() {
    let client = FaultyBackend::embedded().client();
    let short = builder(&client).command_key(secrecy::SecretString::from("secret"));
    assert!(!format!("{short:?}").contains("secret\""));
    let error = short.start().unwrap_err().to_string();
    assert!(
        error.contains("command_key") && !error.contains("secret`"),
        "{error}"
    );
    for program in ["", "a\nb", &"x".repeat(101)] {
        let error = builder(&client).program(program).start().unwrap_err();
        assert!(error.to_string().contains("program"), "{error}");
    }
}

/// Which of the two an operator means, nobody can know.
#[tokio::test]
async fn what_two_clients_have_under_one_name_is_not_acted_upon() {
    let (orders, cache) = (
        FaultyBackend::embedded().client(),
        FaultyBackend::embedded().client(),
    );
    let health = Health::builder()
        .dependency(Dependency::hard("orders", &orders))
        .dependency(Dependency::soft("cache", &cache))
        .build()
        .unwrap();
    let dashboard = builder(&orders).health(&health).start().unwrap();
    let app: Router = dashboard.routes();
    cache.breaker().force_open();
    let name = cache.breaker().name();
    let act = json!({ "kind": "breaker", "name": name, "action": "force_open", "argument": "" });
    let (status, answer) = post(&app, "admin", "/api/act", act).await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    assert!(answer.to_string().contains("two clients"), "{answer}");
    assert_ne!(orders.breaker().status().state, BreakerState::ForcedOpen);

    // What one of them has is acted upon.
    let tools = Shelf::registered(&cache, "tools");
    let (status, _) = post(&app, "admin", "/api/act", paint()).await;
    assert_eq!((status, tools.painted().len()), (StatusCode::OK, 1));
}

#[tokio::test]
async fn on_a_full_server_an_action_is_noted_and_done() {
    let options = ServerOptions::new().config("maxmemory-policy noeviction");
    let server = Server::redis(options).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config.namespace("shop")).await.unwrap();
    let tools = Shelf::registered(&client, "tools");
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    let full = server.raw(&["CONFIG", "SET", "maxmemory", "1"]).await;
    full.unwrap();
    let (status, answer) = post(&app, "painter", "/api/act", paint()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(tools.painted().len(), 1);
    let (_, audit) = get(&app, "reader", "/api/audit").await;
    let audit = audit.to_string();
    assert!(
        audit.contains("\"begun\"") && audit.contains("\"done\""),
        "{audit}"
    );
}
