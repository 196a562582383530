//! What the layer tells of limits, and which requests its routes are for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::routing::get;
use redkit_ratelimit::tower::{ForAll, RateLimitLayer};
use redkit_ratelimit::{Policy, Quota, RateLimiter};

use crate::http::{ask, engine, hello, limiter, serve};
use crate::said::{Said, listen};

/// A client that keeps to what `RateLimit` says neither comes before `Retry-After` nor waits for longer
/// than until the next unit.
#[tokio::test]
async fn the_reset_is_when_there_are_more_units_and_not_behind_retry_after() {
    let client = engine();
    let tiers = RateLimiter::builder(&client, "api")
        .policy(Policy::gcra(Quota::per_hour(100).burst(20)).named("burst"))
        .policy(Policy::fixed_window(Quota::per_day(1000)).named("day"))
        .build()
        .unwrap();
    let layer = RateLimitLayer::new(&tiers, ForAll).cost(|_| 10);
    let address = serve(Router::new().route("/", get(hello)).layer(layer)).await;
    for left in [10, 0] {
        let answer = ask(address, "/", &[]).await;
        // A unit every 36 s; all of them would be back in 6 minutes.
        let said = format!("\"burst\";r={left};t=36, \"day\";r=");
        assert!(answer.header("ratelimit").starts_with(&said), "{answer:?}");
    }
    let denied = ask(address, "/", &[]).await;
    assert_eq!(denied.status, 429);
    let said = format!(
        "\"burst\";r=0;t={}, \"day\";r=980",
        denied.header("retry-after")
    );
    assert_eq!(denied.header("ratelimit"), said);
}

#[tokio::test]
async fn a_route_fits_with_and_without_its_slash_and_as_the_layer_sees_the_path() {
    let client = engine();
    let limiter =
        |name, limit| limiter(&client, name, Policy::fixed_window(Quota::per_hour(limit)));
    let general = limiter("general", 100);
    let (strict, nested) = (limiter("strict", 1), limiter("nested", 1));
    let layer = RateLimitLayer::new(&general, ForAll);
    let inner = Router::new()
        .route("/login", get(hello))
        .layer(layer.clone().route("login", &nested));
    let routes = Router::new()
        .route("/login", get(hello))
        .route("/loginless", get(hello))
        .layer(layer.route("login", &strict))
        .nest("/api", inner);
    let address = serve(routes).await;
    for (path, expected) in [
        ("/login", 200),
        ("/login", 429),
        ("/loginless", 200),
        ("/api/login", 200),
        ("/api/login", 429),
    ] {
        assert_eq!(ask(address, path, &[]).await.status, expected, "{path}");
    }
}

#[test]
fn a_route_that_looks_like_a_pattern_is_told() {
    let said = Arc::new(Said::default());
    let _listening = listen(&said);
    let limiter = limiter(&engine(), "api", Policy::fixed_window(Quota::per_hour(1)));
    let layer = RateLimitLayer::new(&limiter, ForAll).route("/users", &limiter);
    assert_eq!(said.pattern_routes.load(Ordering::Relaxed), 0);
    for (told, path) in ["/users/{id}", "/files/*", "/a?b"].into_iter().enumerate() {
        let _ = layer.clone().route(path, &limiter);
        assert_eq!(
            said.pattern_routes.load(Ordering::Relaxed),
            told + 1,
            "{path}"
        );
    }
}
