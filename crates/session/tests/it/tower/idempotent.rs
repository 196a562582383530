//! Requests with an `Idempotency-Key`, below the layer of sessions.

use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use redkit_core::Client;
use redkit_lock::IdempotentExecution;
use redkit_lock::tower::IdempotencyLayer;
use redkit_session::Error;
use redkit_session::tower::{CurrentSession, OnOutage, SessionLayer};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::{sleep, timeout};

use super::{Answer, Visitor, routes};
use crate::builder;

/// Stands in the arguments of commits alone.
const MAX_BYTES: u64 = 54_321;
/// Stands in the arguments of loads alone.
const GRANULARITY: Duration = Duration::from_micros(61_234_567);
/// Stands in the arguments of the last step of rotations alone.
const GRACE: Duration = Duration::from_micros(12_345_678);

fn app(client: &Client) -> Router {
    app_with(client, OnOutage::Closed, |layer| layer)
}

fn app_with(
    client: &Client,
    on_outage: OnOutage,
    set: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer,
) -> Router {
    let store = builder(client)
        .max_bytes(MAX_BYTES)
        .touch_granularity(GRANULARITY)
        .rotation_grace(GRACE)
        .build()
        .unwrap();
    let once = IdempotentExecution::builder(client, "orders")
        .build()
        .unwrap();
    let layer = IdempotencyLayer::new(&once, |_| Some("alice".to_owned()));
    routes()
        .route(
            "/greet",
            post(async |session: CurrentSession| match session.user().await {
                Ok(Some(user)) => format!("hello {user}"),
                Ok(None) | Err(_) => "hello stranger".to_owned(),
            }),
        )
        .route(
            "/rotate-or-sorry",
            post(
                async |session: CurrentSession| match session.rotate().await {
                    Ok(()) => (StatusCode::OK, "done"),
                    Err(_) => (StatusCode::CONFLICT, "sorry"),
                },
            ),
        )
        .route("/slow", post(slow))
        .route("/committed", post(committed))
        .route(
            "/slow-sign-in",
            post(async |session: CurrentSession| {
                sleep(Duration::from_secs(1)).await;
                let sign_in = redkit_session::SignIn::new("user-7");
                session.sign_in(sign_in).await
            }),
        )
        .layer(set(layer))
        .layer(
            SessionLayer::builder(&store)
                .on_outage(on_outage)
                .build()
                .unwrap(),
        )
}

async fn slow(session: CurrentSession) -> Result<String, Error> {
    let n = session.get::<u32>("n").await?.unwrap_or(0) + 1;
    session.insert("n", &n).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(n.to_string())
}

async fn committed(session: CurrentSession) -> Result<String, Error> {
    let n = session.get::<u32>("n").await?.unwrap_or(0) + 1;
    session.insert("n", &n).await?;
    session.commit().await?;
    Ok(n.to_string())
}

async fn keyed(visitor: &mut Visitor, app: &Router, path: &str) -> Answer {
    let request = Request::post(path).header("idempotency-key", "k");
    visitor.send(app, request).await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.contains_key("idempotent-replayed")
}

/// A visitor whose session has been saved twice, so that the server knows all scripts.
async fn known(app: &Router) -> Visitor {
    let mut visitor = Visitor::default();
    visitor.post(app, "/count").await;
    assert_eq!(visitor.post(app, "/count").await.text, "2");
    visitor
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_changes_could_not_be_saved_is_not_kept() {
    let backend = FaultyBackend::embedded();
    let app = app(&backend.client());
    let mut visitor = known(&app).await;
    backend.set(Rule::new(Injection::LoseRequest).on_part("54321").times(1));
    let lost = keyed(&mut visitor, &app, "/count").await;
    assert_eq!(lost.status, StatusCode::SERVICE_UNAVAILABLE);
    backend.clear();
    let again = keyed(&mut visitor, &app, "/count").await;
    assert_eq!((again.status, again.text.as_str()), (StatusCode::OK, "3"));
    assert!(!is_replayed(&again));
    assert_eq!(visitor.get(&app, "/shown").await.text, "None Some(3)");
    let replayed = keyed(&mut visitor, &app, "/count").await;
    assert!(is_replayed(&replayed) && replayed.text == "3");
    assert_eq!(visitor.get(&app, "/shown").await.text, "None Some(3)");
}

#[tokio::test(start_paused = true)]
async fn the_changes_of_a_client_that_goes_away_are_saved_before_its_answer_is_kept() {
    let backend = FaultyBackend::embedded();
    let app = app(&backend.client());
    let mut visitor = known(&app).await;
    let gone = timeout(
        Duration::from_millis(500),
        keyed(&mut visitor, &app, "/slow"),
    );
    assert!(gone.await.is_err());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(visitor.get(&app, "/shown").await.text, "None Some(3)");
    let replayed = keyed(&mut visitor, &app, "/slow").await;
    assert!(is_replayed(&replayed) && replayed.text == "3");
}

#[tokio::test(start_paused = true)]
async fn no_id_is_made_for_a_client_that_has_gone_away() {
    let backend = FaultyBackend::embedded();
    let app = app(&backend.client());
    let mut known = known(&app).await;
    for path in ["/slow", "/slow-sign-in"] {
        let mut visitor = Visitor::default();
        let key = |path: &str| Request::post(path).header("idempotency-key", path);
        let gone = visitor.send(&app, key(path));
        assert!(timeout(Duration::from_millis(500), gone).await.is_err());
        sleep(Duration::from_secs(5)).await;
        // Its next attempt has a session.
        let again = visitor.send(&app, key(path)).await;
        assert!(
            again.status == StatusCode::OK && !is_replayed(&again),
            "{path}"
        );
        assert!(visitor.cookie.is_some(), "{path}");
    }
    known.post(&app, "/sign-in?user=user-7").await;
    assert_eq!(known.get(&app, "/devices").await.text, "2");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_a_session_with_another_id_is_not_kept() {
    let backend = FaultyBackend::embedded();
    let app = app(&backend.client());
    let mut old = known(&app).await;
    let mut new = old.clone();
    assert_eq!(new.post(&app, "/rotate").await.status, StatusCode::OK);
    let refused = keyed(&mut old, &app, "/committed").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let again = keyed(&mut new, &app, "/committed").await;
    assert_eq!((again.status, again.text.as_str()), (StatusCode::OK, "3"));
    assert_eq!(new.get(&app, "/shown").await.text, "None Some(3)");
}

/// Its new id would go to nobody, and the one that it has would end with its grace.
#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_while_its_session_gets_another_id_keeps_the_one_it_has() {
    for (path, shown) in [
        ("/rotate", "Some(\"user-7\") Some(2)"),
        ("/sign-in?user=user-7", "None Some(2)"),
        // The handler makes an answer of its own of the error.
        ("/rotate-or-sorry", "Some(\"user-7\") Some(2)"),
    ] {
        let backend = FaultyBackend::embedded();
        let app = app(&backend.client());
        let mut visitor = known(&app).await;
        let mut other = visitor.clone();
        other.cookie = None;
        other.post(&app, "/sign-in?user=warm").await;
        other.post(&app, "/rotate").await;
        if path.starts_with("/rotate") {
            visitor.post(&app, "/sign-in?user=user-7").await;
        }
        let late = Injection::DelayReply(Duration::from_secs(1));
        backend.set(Rule::new(late).on_part("12345678").times(1));
        let gone = keyed(&mut visitor, &app, path);
        assert!(timeout(Duration::from_millis(500), gone).await.is_err());
        sleep(2 * GRACE).await;
        assert_eq!(visitor.get(&app, "/shown").await.text, shown);
        // The next attempt is carried out.
        let again = keyed(&mut visitor, &app, path).await;
        assert!(again.status == StatusCode::OK && !is_replayed(&again));
        assert_eq!(
            visitor.get(&app, "/shown").await.text,
            "Some(\"user-7\") Some(2)"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_the_session_that_could_not_be_loaded_is_not_kept() {
    for (on_outage, status) in [
        (OnOutage::Closed, StatusCode::SERVICE_UNAVAILABLE),
        (OnOutage::Anonymous, StatusCode::OK),
    ] {
        let backend = FaultyBackend::embedded();
        let app = app_with(&backend.client(), on_outage, |layer| layer);
        let mut visitor = known(&app).await;
        visitor.post(&app, "/sign-in?user=user-7").await;
        backend.set(Rule::new(Injection::NotSent).on_part("61234567"));
        assert_eq!(keyed(&mut visitor, &app, "/greet").await.status, status);
        backend.clear();
        let again = keyed(&mut visitor, &app, "/greet").await;
        assert!(!is_replayed(&again) && again.text == "hello user-7");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_500_discards_changes_where_it_is_kept_too() {
    let backend = FaultyBackend::embedded();
    let keep_all = |layer: IdempotencyLayer| layer.keep_if(|_| true);
    let app = app_with(&backend.client(), OnOutage::Closed, keep_all);
    let mut visitor = known(&app).await;
    for is_repeated in [false, true] {
        let failed = keyed(&mut visitor, &app, "/fails").await;
        assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(is_replayed(&failed), is_repeated);
        assert_eq!(visitor.get(&app, "/shown").await.text, "None Some(2)");
    }
}
