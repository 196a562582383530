//! The routes for axum.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use redkit_monitor::{Dependency, Health};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tower::ServiceExt;

async fn get(app: &Router, path: &str) -> (StatusCode, serde_json::Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/health+json"
    );
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let status = response.status();
    let body = to_bytes(response.into_body(), 100_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn each_question_has_its_route_and_status() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let health = Health::builder()
        .dependency(Dependency::hard("orders", &client))
        .fresh_for(std::time::Duration::ZERO)
        .build()
        .unwrap();
    let app: Router = Router::new().nest("/health", health.routes().merge(health.deep_route()));
    for path in [
        "/health/live",
        "/health/ready",
        "/health/startup",
        "/health/deep",
    ] {
        let (status, body) = get(&app, path).await;
        assert_eq!(
            (status, body["status"].as_str()),
            (StatusCode::OK, Some("pass")),
            "{path} {body}"
        );
    }
    backend.set(Rule::new(Injection::NotSent));
    let (status, body) = get(&app, "/health/ready").await;
    assert_eq!(
        (status, body["status"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("fail"))
    );
    let (status, _) = get(&app, "/health/live").await;
    assert_eq!(status, StatusCode::OK);
}
