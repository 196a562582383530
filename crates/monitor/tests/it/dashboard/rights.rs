//! What viewers may and may not do, whatever their page shows.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use redkit_testkit::{FaultyBackend, Injection, Rule};
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
    backend.set(Rule::new(Injection::NotSent).on_name("XADD"));
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
