//! The layer for HTTP services, below axum.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use redkit_core::Client;
use redkit_core::http_layer::BeforeKept;
use redkit_lock::tower::{IdempotencyLayer, OnOutage};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule, Spans};
use tokio::sync::Notify;
use tokio::time::{advance, sleep, timeout};
use tower::ServiceExt;
use tracing::Instrument;

const MOMENT: Duration = Duration::from_millis(10);

#[derive(Clone, Default)]
struct Shop {
    runs: Arc<AtomicU32>,
    begun: Arc<Notify>,
    ends: Arc<Notify>,
    /// How many handlers are at work.
    working: Arc<AtomicU32>,
    /// How many have taken the step after a pause.
    steps: Arc<AtomicU32>,
}

struct Working(Arc<AtomicU32>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shop {
    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

/// Does what the query asks for.
async fn order(State(shop): State<Shop>, request: Request) -> Response {
    shop.working.fetch_add(1, Ordering::SeqCst);
    let _working = Working(Arc::clone(&shop.working));
    let run = shop.runs.fetch_add(1, Ordering::SeqCst) + 1;
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let status: u16 = query.parse().unwrap_or(201);
    match query.as_str() {
        "wait" => {
            shop.begun.notify_one();
            shop.ends.notified().await;
        }
        "large" => return vec![b'x'; 2000].into_response(),
        "breaks" => {
            let frames = [Ok("begun"), Err(std::io::Error::other("broken"))];
            let body = Body::from_stream(futures_util::stream::iter(frames));
            return (StatusCode::CREATED, body).into_response();
        }
        "slow" => {
            sleep(Duration::from_secs(1)).await;
            shop.steps.fetch_add(1, Ordering::SeqCst);
        }
        "panic" => panic!("the handler"),
        _ => {}
    }
    let headers = [
        ("x-run", run.to_string()),
        ("set-cookie", "s=secret".to_owned()),
    ];
    let body = [format!("run {run}: ").into_bytes(), body.to_vec()].concat();
    (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
}

fn layer(client: &Client) -> IdempotencyLayer {
    let execution = crate::idempotent::builder(client)
        .max_result_bytes(1500)
        .build()
        .unwrap();
    IdempotencyLayer::new(&execution, |request| {
        Some(request.headers.get("x-account")?.to_str().ok()?.to_owned())
    })
}

fn app(layer: IdempotencyLayer) -> (Router, Shop) {
    let shop = Shop::default();
    let router = Router::new()
        .route("/orders", post(order).get(order).patch(order))
        .layer(layer)
        .with_state(shop.clone());
    (router, shop)
}

fn request(query: &str, key: &str, body: &'static str) -> Request {
    Request::builder()
        .method(Method::POST)
        .uri(format!("/orders?{query}"))
        .header("x-account", "alice")
        .header("idempotency-key", key)
        .body(Body::from(body))
        .unwrap()
}

async fn send(app: &Router, request: Request) -> (StatusCode, HeaderMap, Bytes) {
    let response = app.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    (
        head.status,
        head.headers,
        to_bytes(body, 1 << 20).await.unwrap(),
    )
}

fn is_replayed(headers: &HeaderMap) -> bool {
    headers.contains_key("idempotent-replayed")
}

redkit_testkit::suite! {
    async fn an_answer_is_kept_and_replayed(fixture: Fixture) {
        let (app, shop) = app(layer(&fixture.client));
        let (status, headers, body) = send(&app, request("", "\"k-1\"", "teapot")).await;
        assert_eq!((status, &body[..]), (StatusCode::CREATED, &b"run 1: teapot"[..]));
        assert!(!is_replayed(&headers) && headers.contains_key("set-cookie"));
        // The same key, also without quotation marks.
        let (status, headers, body) = send(&app, request("", "k-1", "teapot")).await;
        assert_eq!((status, &body[..]), (StatusCode::CREATED, &b"run 1: teapot"[..]));
        assert!(is_replayed(&headers) && headers["x-run"] == "1");
        assert!(!headers.contains_key("set-cookie"), "a cookie is a secret");
        assert_eq!(shop.runs(), 1);
        // Another caller's key is another.
        let mut other = request("", "k-1", "teapot");
        other.headers_mut().insert("x-account", "bob".parse().unwrap());
        assert_eq!(&send(&app, other).await.2[..], b"run 2: teapot");
    }

    async fn another_request_with_the_key_is_422_and_one_in_flight_409(fixture: Fixture) {
        let (app, shop) = app(layer(&fixture.client));
        send(&app, request("", "k-1", "teapot")).await;
        for other in [request("", "k-1", "cup"), request("a", "k-1", "teapot")] {
            let (status, headers, body) = send(&app, other).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert_eq!(headers["content-type"], "application/problem+json");
            assert!(String::from_utf8_lossy(&body).contains("use a new key"));
        }
        let mut patch = request("", "k-1", "teapot");
        *patch.method_mut() = Method::PATCH;
        assert_eq!(send(&app, patch).await.0, StatusCode::UNPROCESSABLE_ENTITY);
        let running = {
            let app = app.clone();
            tokio::spawn(async move { send(&app, request("wait", "k-2", "")).await })
        };
        shop.begun.notified().await;
        let (status, headers, _) = send(&app, request("wait", "k-2", "")).await;
        assert_eq!((status, &headers["retry-after"]), (StatusCode::CONFLICT, &"1".parse().unwrap()));
        shop.ends.notify_one();
        assert_eq!(running.await.unwrap().0, StatusCode::CREATED);
        assert!(is_replayed(&send(&app, request("wait", "k-2", "")).await.1));
        assert_eq!(shop.runs(), 2);
    }

    async fn the_same_path_in_two_nested_routers_is_two_requests(fixture: Fixture) {
        let layer = layer(&fixture.client);
        let [(first, shop), (second, _)] = [app(layer.clone()), app(layer)];
        let app = Router::new().nest("/a", first).nest("/b", second);
        let mut requests = ["/a/orders", "/b/orders"].map(|path| {
            let mut request = request("", "k", "");
            *request.uri_mut() = path.parse().unwrap();
            request
        }).into_iter();
        assert_eq!(send(&app, requests.next().unwrap()).await.0, StatusCode::CREATED);
        let other = send(&app, requests.next().unwrap()).await.0;
        assert_eq!(other, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(shop.runs(), 1);
    }

    async fn answers_that_say_try_again_are_not_kept(fixture: Fixture) {
        let (app, shop) = app(layer(&fixture.client));
        for (runs, query) in ["500", "503", "429", "408", "425"].into_iter().enumerate() {
            for _ in 0..2 {
                let (status, headers, _) = send(&app, request(query, query, "")).await;
                assert!(status.as_str() == query && !is_replayed(&headers));
            }
            assert_eq!(shop.runs() as usize, 2 * (runs + 1));
        }
        // A refusal of the service's own is its answer.
        for _ in 0..2 {
            assert_eq!(send(&app, request("402", "402", "")).await.0, StatusCode::PAYMENT_REQUIRED);
        }
        assert_eq!(shop.runs(), 11);
    }

    async fn what_cannot_be_once_is_refused_or_passes(fixture: Fixture) {
        let (app, shop) = app(layer(&fixture.client).max_body_bytes(10));
        let mut anonymous = request("", "k", "");
        anonymous.headers_mut().remove("x-account");
        let mut doubled = request("", "k", "");
        doubled.headers_mut().append("idempotency-key", "j".parse().unwrap());
        let mut long = request("", "k", "");
        long.headers_mut().insert("x-account", "a".repeat(256).parse().unwrap());
        for (request, status) in [
            (anonymous, StatusCode::BAD_REQUEST),
            (doubled, StatusCode::BAD_REQUEST),
            (long, StatusCode::BAD_REQUEST),
            (request("", "", ""), StatusCode::BAD_REQUEST),
            (request("", "k", "eleven bytes"), StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            let (answered, headers, _) = send(&app, request).await;
            assert_eq!(answered, status);
            assert_eq!(headers["content-type"], "application/problem+json");
        }
        assert_eq!(shop.runs(), 0);
        let without = || {
            let mut request = request("", "k", "eleven bytes");
            request.headers_mut().remove("idempotency-key");
            request
        };
        let mut read = request("", "k", "");
        *read.method_mut() = Method::GET;
        assert_eq!(send(&app, read).await.0, StatusCode::CREATED);
        assert_eq!(send(&app, without()).await.0, StatusCode::CREATED);
        assert_eq!(shop.runs(), 2);
        let (strict, _) = crate::idempotency_layer::app(layer(&fixture.client).required(true));
        let (status, _, body) = send(&strict, without()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(String::from_utf8_lossy(&body).contains("Idempotency-Key"));
    }

    async fn an_answer_too_large_to_be_kept_is_given_once_and_never_made_twice(fixture: Fixture) {
        let (app, shop) = app(layer(&fixture.client));
        let (status, _, body) = send(&app, request("large", "k", "")).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 2000));
        let (status, headers, _) = send(&app, request("large", "k", "")).await;
        assert!(status == StatusCode::CONFLICT && !headers.contains_key("retry-after"));
        assert_eq!(shop.runs(), 1);
    }

    async fn an_answer_that_breaks_is_told_and_the_request_is_not_carried_out_twice(fixture: Fixture) {
        let (app, shop) = app(layer(&fixture.client));
        assert_eq!(send(&app, request("breaks", "k", "")).await.0, StatusCode::BAD_GATEWAY);
        let (status, headers, body) = send(&app, request("breaks", "k", "")).await;
        assert!(status == StatusCode::CONFLICT && !headers.contains_key("retry-after"));
        assert!(String::from_utf8_lossy(&body).contains("carried out already"));
        assert_eq!(shop.runs(), 1);
    }

    async fn a_client_that_goes_away_finds_the_answer_later(fixture: Fixture) {
        let (app, shop) = app(layer(&fixture.client));
        let gone = timeout(Duration::from_millis(200), send(&app, request("wait", "k", ""))).await;
        assert!(gone.is_err());
        shop.ends.notify_one();
        let answer = loop {
            let (status, headers, body) = send(&app, request("wait", "k", "")).await;
            if status != StatusCode::CONFLICT {
                break (status, is_replayed(&headers), body);
            }
            sleep(MOMENT).await;
        };
        assert_eq!(answer, (StatusCode::CREATED, true, Bytes::from("run 1: ")));
        assert_eq!(shop.runs(), 1);
    }

    async fn a_panic_of_the_handler_is_the_handlers_and_frees_the_key(fixture: Fixture) {
        let (app, shop) = app(layer(&fixture.client));
        let crashed = {
            let app = app.clone();
            tokio::spawn(async move { send(&app, request("panic", "k", "")).await })
        };
        assert!(crashed.await.unwrap_err().is_panic());
        // Freed in the background.
        loop {
            let mut again = request("panic", "k", "");
            *again.uri_mut() = "/orders?ok".parse().unwrap();
            match send(&app, again).await.0 {
                StatusCode::CREATED => break,
                // While the key is still the other request's.
                StatusCode::UNPROCESSABLE_ENTITY => sleep(MOMENT).await,
                other => panic!("{other}"),
            }
        }
        assert_eq!(shop.runs(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn while_redis_is_down_requests_are_refused_or_pass_by_choice() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let (strict, shop) = app(layer(&client));
    backend.set(Rule::new(Injection::NotSent));
    let (status, headers, _) = send(&strict, request("", "k", "")).await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && headers.contains_key("retry-after"));
    assert_eq!(shop.runs(), 0);
    let (open, shop) = app(layer(&client).on_outage(OnOutage::Pass));
    for _ in 0..2 {
        assert_eq!(
            send(&open, request("", "k", "")).await.0,
            StatusCode::CREATED
        );
    }
    assert_eq!(shop.runs(), 2);
}

/// The service is still at work when the lease is lost: the request is answered, and nothing is kept.
#[tokio::test(start_paused = true)]
async fn a_request_whose_lease_is_lost_is_answered_and_not_kept() {
    let backend = FaultyBackend::embedded();
    let (app, shop) = app(layer(&backend.client()));
    let running = {
        let app = app.clone();
        tokio::spawn(async move { send(&app, request("wait", "k", "")).await })
    };
    shop.begun.notified().await;
    backend.set(Rule::new(Injection::LoseRequest));
    let (status, _, _) = running.await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    backend.clear();
    sleep(Duration::from_secs(31)).await;
    shop.ends.notify_one();
    assert_eq!(
        send(&app, request("wait", "k", "")).await.0,
        StatusCode::CREATED
    );
}

/// The process is stopped for longer than the lease: when it goes on, timers and service are ready together.
#[tokio::test(start_paused = true)]
async fn a_service_goes_no_further_once_its_lease_is_lost() {
    let client = FaultyBackend::embedded().client();
    let (app, shop) = app(layer(&client));
    let running = tokio::spawn(async move { send(&app, request("slow", "k", "")).await });
    sleep(MOMENT).await;
    assert_eq!(shop.runs(), 1);
    advance(Duration::from_secs(60)).await;
    assert_eq!(running.await.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(shop.steps.load(Ordering::SeqCst), 0);
}

/// With a key it runs in a task of the layer, and what it notes belongs to its caller's span all the same.
#[tokio::test]
async fn a_service_runs_in_the_span_of_its_caller() {
    let (_spans, _listening) = Spans::listen(&["it::idempotency_layer"]);
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let handler = move || {
        notes.lock().push(tracing::Span::current().id());
        async { "done" }
    };
    let client = FaultyBackend::embedded().client();
    let app = Router::new()
        .route("/orders", post(handler))
        .layer(layer(&client));
    let span = tracing::info_span!("request");
    assert!(span.id().is_some(), "somebody listens");
    for has_key in [true, false] {
        let mut request = request("", "k", "");
        if !has_key {
            request.headers_mut().remove("idempotency-key");
        }
        let sent = send(&app, request).instrument(span.clone());
        assert_eq!(sent.await.0, StatusCode::OK);
    }
    assert_eq!(*seen.lock(), [span.id(), span.id()]);
}

/// The layer's tasks end with it.
#[tokio::test(start_paused = true)]
async fn dropping_the_layer_ends_its_work() {
    let client = FaultyBackend::embedded().client();
    let (app, shop) = app(layer(&client));
    let gone = timeout(MOMENT, send(&app, request("wait", "k", ""))).await;
    assert!(gone.is_err());
    assert_eq!(shop.working.load(Ordering::SeqCst), 1);
    drop(app);
    sleep(MOMENT).await;
    assert_eq!(shop.working.load(Ordering::SeqCst), 0);
}

/// The service has done nothing that an outer layer could not save: a further request finds no answer, whatever the size
/// of the first one.
#[tokio::test]
async fn an_answer_that_an_outer_layer_could_not_save_is_not_kept_however_large_it_is() {
    let client = FaultyBackend::embedded().client();
    let (app, shop) = app(layer(&client));
    for (runs, query) in (1..).zip(["large", "large", "", ""]) {
        let mut request = request(query, if query.is_empty() { "k" } else { "l" }, "");
        BeforeKept::add(request.extensions_mut(), async |_| false);
        let (status, headers, body) = send(&app, request).await;
        assert!(status.is_success() && !is_replayed(&headers), "{status}");
        assert_eq!(body.len() == 2000, query == "large");
        assert_eq!(shop.runs(), runs);
    }
}
