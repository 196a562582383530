//! The page itself and its stream.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use redkit_monitor::{Dependency, Health};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use serde_json::json;
use tokio::time::sleep;
use tower::ServiceExt;

use super::{Shelf, builder, event, get, object, post};

#[tokio::test]
async fn the_page_is_found_at_any_path_and_forbids_everything_but_its_own_files() {
    let client = FaultyBackend::embedded().client();
    let dashboard = builder(&client).start().unwrap();
    let nested: Router = Router::new().nest("/ops/admin", dashboard.routes());
    let root: Router = dashboard.routes();
    for (app, path, link) in [
        (&nested, "/ops/admin", "\"admin/assets/app.js\""),
        (&root, "/", "\"assets/app.js\""),
    ] {
        let request = Request::get(path)
            .header("x-viewer", "reader")
            .body(Body::empty())
            .unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("script-src 'self'"));
        assert_eq!(
            response.headers()[header::X_CONTENT_TYPE_OPTIONS],
            "nosniff"
        );
        let body = axum::body::to_bytes(response.into_body(), 100_000).await;
        let body = String::from_utf8_lossy(&body.unwrap()).into_owned();
        assert!(body.contains(link), "{path}");
    }
    let request = Request::get("/ops/admin/assets/app.js")
        .header("x-viewer", "reader")
        .body(Body::empty())
        .unwrap();
    let response = nested.clone().oneshot(request).await.unwrap();
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/javascript; charset=utf-8"
    );
    let tag = response.headers()[header::ETAG].clone();
    let request = Request::get("/ops/admin/assets/app.js")
        .header("x-viewer", "reader")
        .header(header::IF_NONE_MATCH, tag);
    let response = nested
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    for path in [
        "/ops/admin/assets/none.js",
        "/ops/admin/nothing",
        "/ops/admin/assets/..%2fCargo.toml",
    ] {
        assert_eq!(
            get(&nested, "reader", path).await.0,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_verdict_says_what_is_down_and_since_when() {
    let (shared, orders) = (FaultyBackend::embedded(), FaultyBackend::embedded());
    let (client, dependency) = (shared.client(), orders.client());
    let health = Health::builder()
        .dependency(Dependency::hard("orders", &dependency))
        .dependency(Dependency::soft("cache", &client))
        .build()
        .unwrap();
    let dashboard = builder(&client).health(&health).start().unwrap();
    let app: Router = dashboard.routes();
    let state = event(&app, "state", |state| state["verdict"]["level"] == "ok").await;
    let well_since = state["verdict"]["since"].as_u64().unwrap();
    orders.set(Rule::new(Injection::NotSent));
    let state = event(&app, "state", |state| state["verdict"]["level"] == "bad").await;
    let text = state["verdict"]["text"].as_str().unwrap();
    assert!(
        text.starts_with("orders (") && text.ends_with("is down"),
        "{text}"
    );
    assert!(state["verdict"]["since"].as_u64().unwrap() >= well_since);
    orders.clear();
    event(&app, "state", |state| {
        state["verdict"]["text"] == "All is well"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_page_stays_when_redis_is_down_and_says_so() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let _tools = Shelf::registered(&client, "tools");
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    event(&app, "state", |state| state["unread"].is_null()).await;
    backend.set(Rule::new(Injection::NotSent));
    let state = event(&app, "state", |state| state["unread"].is_string()).await;
    assert_eq!(state["verdict"]["level"], "bad");
    assert!(state["servers"]["error"].is_string());
    // Its own objects are still shown.
    assert!(object(&state, "shelf", "tools").is_some());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_died_without_a_word_is_shown_for_sixteen_seconds_at_most() {
    let backend = FaultyBackend::embedded();
    let (client, other) = (backend.client(), backend.client());
    let _books = Shelf::registered(&other, "books");
    let here = builder(&client).start().unwrap();
    let there = builder(&other).start().unwrap();
    let app: Router = here.routes();
    let has_books = |state: &serde_json::Value| object(state, "shelf", "books").is_some();
    event(&app, "state", has_books).await;
    // Its task ends, and nobody says so.
    drop(there);
    let begun = tokio::time::Instant::now();
    event(&app, "state", |state| !has_books(state)).await;
    let seconds = begun.elapsed().as_secs();
    assert!((10..=18).contains(&seconds), "after {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn sessions_are_counted_by_store_while_a_page_is_open() {
    let client = FaultyBackend::embedded().client();
    for n in 0..7 {
        let key = format!("session:web:{{{n}}}:session:{n}");
        client.set(&key, &1).await.unwrap();
        client
            .set(format!("session:web:{{{n}}}:index"), &1)
            .await
            .unwrap();
    }
    client.set("session:admin:{a}:record", &1).await.unwrap();
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    let state = event(&app, "state", |_| true).await;
    assert_eq!(
        state["sessions"],
        json!({
            "admin": { "count": 1.0, "isEstimate": false },
            "web": { "count": 7.0, "isEstimate": false },
        })
    );
    // A part of many keys stands for all of them.
    for n in 0..9_000 {
        client
            .set(format!("session:web:{{{n}}}:session:x{n}"), &1)
            .await
            .unwrap();
    }
    let is_estimate = |state: &serde_json::Value| state["sessions"]["web"]["isEstimate"] == true;
    let state = event(&app, "state", is_estimate).await;
    let count = state["sessions"]["web"]["count"].as_f64().unwrap();
    assert!((8_000.0..=10_000.0).contains(&count), "{count}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_collected_while_no_page_is_open() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let dashboard = builder(&client).observer().start().unwrap();
    let app: Router = dashboard.routes();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(client.stats().calls(), 0, "an observer publishes nothing");
    event(&app, "state", |_| true).await;
    sleep(Duration::from_secs(5)).await;
    let calls = client.stats().calls();
    assert!(calls > 0);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(client.stats().calls(), calls);
    // And it goes on for the next page.
    event(&app, "state", |_| true).await;
    assert!(client.stats().calls() > calls);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_five_minutes_so_that_the_viewer_is_resolved_anew() {
    use futures_util::StreamExt;
    let client = FaultyBackend::embedded().client();
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    let request = Request::get("/events")
        .header("x-viewer", "reader")
        .body(Body::empty())
        .unwrap();
    let begun = tokio::time::Instant::now();
    let mut body = app
        .oneshot(request)
        .await
        .unwrap()
        .into_body()
        .into_data_stream();
    while body.next().await.is_some() {}
    let took = begun.elapsed().as_secs();
    assert!((299..=302).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_streams_of_open_pages_and_lets_none_begin() {
    use futures_util::StreamExt;
    let client = FaultyBackend::embedded().client();
    // Also of an operator's tool, which publishes nothing.
    for is_observer in [false, true] {
        let dashboard = match is_observer {
            true => builder(&client).observer(),
            false => builder(&client),
        };
        let dashboard = dashboard.start().unwrap();
        let app: Router = dashboard.routes();
        let events = || {
            let request = Request::get("/events").header("x-viewer", "reader");
            app.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        let mut body = events().await.unwrap().into_body().into_data_stream();
        assert!(body.next().await.is_some());
        let follow = tokio::spawn(async move { while body.next().await.is_some() {} });
        sleep(Duration::from_secs(3)).await;
        assert!(!follow.is_finished());
        dashboard.shutdown().await;
        let ended = tokio::time::timeout(Duration::from_secs(1), follow).await;
        ended.expect("the stream goes on").unwrap();
        let refused = events().await.unwrap().status();
        assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_panics_takes_nobody_off_the_page() {
    let backend = FaultyBackend::embedded();
    let (client, other) = (backend.client(), backend.client());
    let shelves = [
        Shelf::registered(&client, "rotten"),
        Shelf::registered(&client, "nameless"),
        Shelf::registered(&client, "tools"),
        Shelf::registered(&other, "rotten here too"),
        Shelf::registered(&other, "books"),
    ];
    let (here, there) = (builder(&client).start(), builder(&other).start());
    let app: Router = here.as_ref().unwrap().routes();
    let is_measured = |state: &serde_json::Value, name: &str| {
        object(state, "shelf", name).is_some_and(|found| found["measured"]["height"] == 7)
    };
    for _ in 0..3 {
        // Long enough for everything to be measured, and for an instance that is silent to be forgotten.
        sleep(Duration::from_secs(20)).await;
        let state = event(&app, "state", |state| {
            is_measured(state, "tools") && is_measured(state, "books")
        })
        .await;
        for rotten in ["rotten", "rotten here too"] {
            let why = &object(&state, "shelf", rotten).unwrap()["measureError"];
            assert!(why.as_str().unwrap().contains("panicked"), "{why}");
        }
        assert_eq!(state["processes"].as_array().unwrap().len(), 2, "{state}");
    }
    drop((shelves, there));
}

#[tokio::test]
async fn the_key_space_is_analyzed_for_viewers_who_may_and_on_demand() {
    let client = FaultyBackend::embedded().client();
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    client.set("cart:1", &1).await.unwrap();
    let (status, _) = post(&app, "reader", "/api/analysis/begin", json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        get(&app, "reader", "/api/analysis").await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(get(&app, "admin", "/api/analysis").await.1["state"], "none");
    let (status, _) = post(
        &app,
        "admin",
        "/api/analysis/begin",
        json!({ "sample_every": 1 }),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    let mut report = json!(null);
    for _ in 0..200 {
        report = get(&app, "admin", "/api/analysis").await.1;
        if report["state"] == "done" {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(report["state"], "done", "{report}");
    let prefixes = report["prefixes"].as_array().unwrap();
    assert!(
        prefixes
            .iter()
            .any(|row| row["prefix"].as_str().unwrap().starts_with("cart")),
        "{report}"
    );
    assert_eq!(
        post(&app, "admin", "/api/analysis/cancel", json!({}))
            .await
            .0,
        StatusCode::OK
    );
    // All of it is in the audit.
    let (_, entries) = get(&app, "admin", "/api/audit").await;
    let mut rows: Vec<_> = entries.as_array().unwrap().iter().collect();
    rows.sort_by_key(|row| row["id"].as_str());
    let rows = rows.iter().map(|row| {
        (
            row["viewer"].as_str(),
            row["action"].as_str(),
            row["outcome"].as_str(),
        )
    });
    let mut rows: Vec<_> = rows
        .map(|(viewer, action, outcome)| format!("{viewer:?} {action:?} {outcome:?}"))
        .collect();
    rows.sort();
    let row = |viewer: &str, action: &str, outcome: &str| {
        format!("Some({viewer:?}) Some({action:?}) Some({outcome:?})")
    };
    assert_eq!(
        rows,
        [
            row("admin", "begin", "begun"),
            row("admin", "begin", "done"),
            row("admin", "cancel", "begun"),
            row("admin", "cancel", "done"),
            row("reader", "begin", "refused"),
        ]
    );
}

#[tokio::test]
async fn the_slow_log_is_read_without_its_arguments_by_those_who_may_not_see_them() {
    use redkit_core::Value;
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let text = |text: &'static str| Value::Bulk(text.into());
    let arguments = Value::Array(vec![text("SET"), text("shop:k"), text("a secret")]);
    let row = Value::Array(vec![
        Value::Int(7),
        Value::Int(1_764_442_800),
        Value::Int(20_000),
        arguments,
        text("10.0.0.1:5000"),
        text("shop"),
    ]);
    let slow = Injection::answer(move |_| Ok(Value::Array(vec![row.clone()])));
    backend.set(Rule::new(slow).on_name("SLOWLOG"));
    let dashboard = builder(&client).start().unwrap();
    let app: Router = dashboard.routes();
    let (_, logs) = get(&app, "reader", "/api/logs").await;
    assert_eq!(
        (&logs["hidden"], &logs["slow"][0]["command"]),
        (&json!(true), &json!("SET"))
    );
    assert!(!logs.to_string().contains("secret"), "{logs}");
    let (_, logs) = get(&app, "admin", "/api/logs").await;
    assert_eq!(logs["hidden"], false);
    assert_eq!(logs["slow"][0]["arguments"], "shop:k a secret");
    // The program's hook decides here too.
    let hook =
        |field: &str, text: &str| (field == "arguments").then(|| text.replace("secret", "…"));
    let dashboard = builder(&client).redact(hook).start().unwrap();
    let app: Router = dashboard.routes();
    let (_, logs) = get(&app, "admin", "/api/logs").await;
    assert_eq!(logs["slow"][0]["arguments"], "shop:k a …");
}
