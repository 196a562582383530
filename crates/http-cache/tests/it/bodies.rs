//! Bodies that are too long, have trailers, fail, or never come.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Request};
use http_body::{Body as _, Frame};
use redkit_cache::Cache;
use redkit_http_cache::ResponseCacheLayer;
use redkit_testkit::Fixture;
use tower::{Layer, ServiceExt, service_fn};

use crate::site::{SECOND, Site, always, at_once, pages, response};

#[derive(Debug, thiserror::Error)]
#[error("the disk is on fire")]
struct OnFire;

/// Frames, one after the other; `None` never comes.
struct Frames(VecDeque<Option<Result<Frame<Bytes>, OnFire>>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = OnFire;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OnFire>>> {
        match self.0.pop_front() {
            Some(None) => Poll::Pending,
            Some(frame) => Poll::Ready(frame),
            None => Poll::Ready(None),
        }
    }
}

fn data(text: &'static str) -> Option<Result<Frame<Bytes>, OnFire>> {
    Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
}

fn fresh(frames: impl IntoIterator<Item = Option<Result<Frame<Bytes>, OnFire>>>) -> Response {
    let body = Body::new(Frames(frames.into_iter().collect()));
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("cache-control", HeaderValue::from_static("max-age=60"));
    response
}

redkit_testkit::suite! {
    async fn a_body_over_the_bound_goes_through(fixture: Fixture) {
        let site = Site::with(&fixture.client, |layer| layer.max_body(10), at_once(|request, _| {
            match request.uri.path() {
                "/stated" => response(200, &[("cache-control", "max-age=60")], "12345678901"),
                "/streamed" => fresh([data("12345"), data("67890"), data("1")]),
                _ => response(200, &[("cache-control", "max-age=60")], "1234567890"),
            }
        })).await;
        for path in ["/stated", "/streamed"] {
            for _ in 0..3 {
                let answer = site.get(path).await;
                assert_eq!((answer.text(), answer.is_whole), ("12345678901", true), "{path}");
                assert!(!answer.is_hit());
            }
            assert_eq!(site.get(path).await.header("cache-status"), "pages; fwd=uri-miss; detail=hit-for-miss");
        }
        site.get("/fits").await;
        assert!(site.get("/fits").await.is_hit());
    }

    async fn a_body_that_fails_half_way_is_not_kept(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| match (request.uri.path(), call) {
            ("/short", _) => {
                let mut short = fresh([data("12345")]);
                short.headers_mut().insert("content-length", HeaderValue::from_static("6"));
                short
            }
            _ => fresh([data("12345"), Some(Err(OnFire))]),
        })).await;
        for path in ["/fails", "/short"] {
            for _ in 0..2 {
                let answer = site.get(path).await;
                assert!(!answer.is_whole && !answer.is_hit(), "{path}: {answer:?}");
            }
        }
        assert_eq!(site.calls(), 4);
    }

    async fn a_handler_that_panics_harms_its_own_request_only(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| {
            assert!(call > 1 || request.uri.path() == "/", "a panic on purpose");
            response(200, &[("cache-control", "max-age=60")], &format!("call {call}"))
        })).await;
        assert_eq!(site.get("/panics").await.status, 0, "as without the layer: the connection ends");
        let next = tokio::time::timeout(5 * SECOND, site.get("/panics")).await.expect("nothing is stuck");
        assert_eq!((next.status, next.text()), (200, "call 2"));
        site.get("/panics").await;
        assert!(site.get("/panics").await.is_hit());
    }

    async fn a_handler_that_takes_longer_than_the_cache_waits_is_waited_for(fixture: Fixture) {
        let cache = Cache::builder(&fixture.client, "pages").redis_timeout(20 * SECOND).ttl(SECOND).load_timeout(Duration::from_millis(200));
        let layer = ResponseCacheLayer::builder(&cache.build().unwrap()).build().unwrap();
        let slow = std::sync::Arc::new(|request: http::request::Parts, _: usize| {
            let answer = async move {
                if request.uri.path() == "/head" {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    return fresh([data("slow")]);
                }
                let (sender, receiver) = tokio::sync::oneshot::channel();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    let _ = sender.send(());
                });
                let rest = futures_util::stream::once(async move {
                    receiver.await.unwrap();
                    Ok::<_, OnFire>(Bytes::from_static(b"slow"))
                });
                let mut answer = Response::new(Body::from_stream(rest));
                answer.headers_mut().insert("cache-control", HeaderValue::from_static("max-age=60"));
                answer
            };
            Box::pin(answer) as futures_util::future::BoxFuture<'static, Response>
        });
        let site = Site::behind(layer, slow).await;
        for path in ["/head", "/body"] {
            let answer = site.get(path).await;
            assert_eq!((answer.status, answer.text(), answer.is_whole), (200, "slow", true), "{path}");
            assert!(answer.header("cache-status").ends_with("too-slow"), "{answer:?}");
        }
        assert_eq!(site.calls(), 2, "it was asked once each");
    }

    async fn trailers_go_through_and_are_not_kept(fixture: Fixture) {
        let layer = ResponseCacheLayer::builder(&pages(&fixture.client)).build().unwrap();
        let service = layer.layer(service_fn(async |_: Request<Body>| {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("1"));
            Ok::<_, OnFire>(fresh([data("body"), Some(Ok(Frame::trailers(trailers)))]))
        }));
        for _ in 0..2 {
            let request = Request::builder().uri("http://site.test/").body(Body::empty()).unwrap();
            let mut body = Box::pin(service.clone().oneshot(request).await.unwrap().into_body());
            let mut frames = Vec::new();
            while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                frames.push(frame.unwrap());
            }
            assert_eq!(frames[0].data_ref().unwrap(), "body");
            assert_eq!(frames[1].trailers_ref().unwrap()["x-sum"], "1");
        }
    }

    async fn a_service_that_fails_gives_its_own_error(fixture: Fixture) {
        let layer = ResponseCacheLayer::builder(&pages(&fixture.client)).build().unwrap();
        let service = layer.layer(service_fn(async |_: Request<Body>| Err::<Response, _>(OnFire)));
        for _ in 0..3 {
            let request = Request::builder().uri("http://site.test/").body(Body::empty()).unwrap();
            assert!(matches!(service.clone().oneshot(request).await, Err(OnFire)));
        }
    }
}

/// Nothing of the cache fails a request.
#[tokio::test]
async fn while_redis_is_down_handlers_answer() {
    use redkit_core::{Client, ClientConfig};
    use redkit_testkit::{Server, ServerOptions};

    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config.command_timeout(Duration::from_millis(200)))
        .await
        .unwrap();
    let site = Site::new(&client, always(&[("cache-control", "max-age=60")])).await;
    site.get("/").await;
    assert!(site.get("/").await.is_hit());
    server.stop().unwrap();
    for (method, path) in [("GET", "/"), ("GET", "/new"), ("HEAD", "/"), ("POST", "/")] {
        let answer = site.ask(method, path, &[]).await;
        assert_eq!(answer.status, 200, "{method} {path}");
        assert!(!answer.is_hit());
    }
    for answer in site.all(20, "/many").await {
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("cache-status"),
            "pages; fwd=bypass; detail=unreachable"
        );
    }
    assert_eq!(site.calls(), 25);
    server.cont().unwrap();
    let back = async || {
        site.get("/back").await;
        site.get("/back").await.is_hit()
    };
    crate::site::until(back).await;
    client.shutdown().await;
}

#[tokio::test]
async fn settings_that_load_for_nobody_are_refused() {
    use redkit_core::{Client, ClientConfig};
    use redkit_embedded::Embedded;

    let backend = std::sync::Arc::new(Embedded::new());
    let client = Client::from_backend(backend, &ClientConfig::default()).unwrap();
    let pages = || {
        Cache::builder(&client, "pages")
            .redis_timeout(20 * SECOND)
            .ttl(SECOND)
            .stale_for(SECOND)
    };
    for (name, builder) in [
        ("soft_timeout", pages().soft_timeout(SECOND)),
        ("refresh_ahead", pages().refresh_ahead(0.8)),
        ("refresh_early", pages().refresh_early(1.0)),
    ] {
        let cache = builder.build().unwrap();
        let refused = ResponseCacheLayer::builder(&cache).build().unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
        assert!(refused.to_string().contains("leave it out"), "{refused}");
    }
}

#[tokio::test]
async fn a_response_that_took_its_whole_time_to_come_is_not_kept() {
    use futures_util::FutureExt;
    use redkit_core::{Client, ClientConfig};
    use redkit_embedded::Embedded;

    let backend = std::sync::Arc::new(Embedded::new());
    let client = Client::from_backend(backend, &ClientConfig::default()).unwrap();
    let long = Duration::from_millis(1200);
    for path in ["/body", "/other-cache", "/date"] {
        let handler: crate::site::Handler = std::sync::Arc::new(move |request, call| {
            async move {
                let text = format!("{call}");
                let fresh = ("cache-control", "max-age=1");
                match request.uri.path() {
                    "/body" => {
                        let body = futures_util::stream::once(async move {
                            tokio::time::sleep(long).await;
                            Ok::<_, std::io::Error>(text)
                        });
                        response(200, &[fresh], "").map(|_| Body::from_stream(body))
                    }
                    "/date" => {
                        let before = std::time::SystemTime::now() - long;
                        let date = httpdate::fmt_http_date(before);
                        response(200, &[fresh, ("date", &date)], &text)
                    }
                    _ => {
                        tokio::time::sleep(long).await;
                        response(200, &[fresh, ("age", "0")], &text)
                    }
                }
            }
            .boxed()
        });
        let site = Site::new(&client, handler).await;
        assert_eq!(site.get(path).await.text(), "1", "{path}");
        assert_eq!(site.get(path).await.text(), "2", "{path}");
    }
}

#[tokio::test]
async fn a_body_of_many_small_and_empty_frames_is_kept_in_one_piece_or_goes_on() {
    use redkit_core::{Client, ClientConfig};
    use redkit_embedded::Embedded;

    let backend = std::sync::Arc::new(Embedded::new());
    let client = Client::from_backend(backend, &ClientConfig::default()).unwrap();
    let layer = ResponseCacheLayer::builder(&pages(&client)).max_body(1000);
    let layer = layer.build().unwrap();
    for (length, keeps) in [(1000, true), (1001, false)] {
        let service = layer.layer(service_fn(move |_: Request<Body>| async move {
            let piece = |n: usize| Bytes::from_static(if n.is_multiple_of(2) { b"x" } else { b"" });
            let frames = (0..2 * length).map(|n| Some(Ok(Frame::data(piece(n)))));
            let mut response = http::Response::new(Frames(frames.collect()));
            let fresh = HeaderValue::from_static("max-age=60");
            response.headers_mut().insert("cache-control", fresh);
            Ok::<_, std::convert::Infallible>(response)
        }));
        for _ in 0..2 {
            let uri = format!("http://a.test/{length}");
            let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            let answer = service.clone().oneshot(request).await.unwrap();
            let told = answer.headers()["cache-status"].to_str().unwrap();
            assert!(keeps || told.contains("too-long") || told.contains("hit-for-miss"));
            let body = axum::body::to_bytes(Body::new(answer.into_body()), 9000);
            assert_eq!(body.await.unwrap().len(), length);
        }
    }
}
