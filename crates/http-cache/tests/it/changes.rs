//! Requests that change something, and what they make out of date.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::join_all;
use redkit_cache::Cache;
use redkit_core::Client;
use redkit_http_cache::ResponseCacheLayer;
use redkit_testkit::Fixture;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::site::{Handler, SECOND, Site, at_once, pages, response};

/// Answers reads by a number, and writes by what the query says.
fn shop() -> Handler {
    at_once(|request, call| {
        if request.method == "GET" {
            let vary = match request.uri.path() {
                "/varies" => "accept-language",
                _ => "",
            };
            return response(
                200,
                &[("cache-control", "public, max-age=60"), ("vary", vary)],
                &format!("call {call}"),
            );
        }
        let query = request.uri.query().unwrap_or("200");
        let (status, location) = query.split_once(':').unwrap_or((query, ""));
        let (name, location) = location.split_once('=').unwrap_or(("x", "y"));
        response(status.parse().unwrap(), &[(name, location)], "")
    })
}

redkit_testkit::suite! {
    async fn a_change_removes_what_it_is_about(fixture: Fixture) {
        let site = Site::new(&fixture.client, shop()).await;
        let is_hit = async |path| site.get(path).await.is_hit();
        for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            site.get("/a").await;
            site.get("/b").await;
            site.ask("GET", "/a", &[("authorization", "x")]).await;
            assert!(is_hit("/a").await);
            let changed = site.ask(method, "/a", &[]).await;
            assert_eq!(changed.header("cache-status"), "pages; fwd=method; detail=method");
            assert!(!is_hit("/a").await, "{method}");
            assert!(!site.ask("GET", "/a", &[("authorization", "x")]).await.is_hit(), "{method}");
            assert!(is_hit("/b").await);
        }
        for language in ["de", "en"] {
            site.ask("GET", "/varies", &[("accept-language", language)]).await;
            assert!(site.ask("GET", "/varies", &[("accept-language", language)]).await.is_hit());
        }
        site.ask("POST", "/varies", &[]).await;
        for language in ["de", "en"] {
            assert!(!site.ask("GET", "/varies", &[("accept-language", language)]).await.is_hit(), "all variants");
        }
    }

    async fn a_change_that_failed_removes_nothing_and_others_pages_stay(fixture: Fixture) {
        let site = Site::new(&fixture.client, shop()).await;
        let is_hit = async |path| site.get(path).await.is_hit();
        for path in ["/a?400", "/a?404", "/a?500"] {
            site.get(path).await;
            site.ask("POST", path, &[]).await;
            assert!(is_hit(path).await, "{path}");
        }
        site.get("/orders/7").await;
        site.ask("POST", "/orders?303:location=/orders/7", &[]).await;
        assert!(!is_hit("/orders/7").await);
        site.ask("POST", "/orders?201:content-location=http://SITE.test/orders/7", &[]).await;
        assert!(!is_hit("/orders/7").await);
        let others = [("host", "other.test")];
        site.ask("GET", "/orders/7", &others).await;
        site.ask("POST", "/orders?303:location=http://other.test/orders/7", &[]).await;
        let other = site.ask("GET", "/orders/7", &others).await;
        assert!(other.is_hit(), "another origin's page is not ours to remove");
        assert!(is_hit("/orders/7").await);
        site.ask("HEAD", "/orders/7", &[]).await;
        site.ask("OPTIONS", "/orders/7", &[]).await;
        assert!(is_hit("/orders/7").await);
    }

    /// What a handler read before a change is not kept after it, by whichever way.
    async fn what_was_read_before_a_change_is_not_kept(fixture: Fixture) {
        for (vary, by_tag) in [("", false), ("accept-language", false), ("accept-language", true), ("", true)] {
            let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let handler: Handler = {
                let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
                Arc::new(move |request, call| {
                    let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
                    async move {
                        if request.method == "GET" && call == 1 {
                            begun.notify_one();
                            go_on.notified().await;
                        }
                        let headers = [("cache-control", "max-age=60"), ("vary", vary), ("cache-tag", "all")];
                        response(200, &headers, &format!("call {call}")) as Response
                    }
                    .boxed()
                })
            };
            let cache = pages(&fixture.client);
            let authority = format!("{by_tag}.{}", vary.len());
            let layer = ResponseCacheLayer::builder(&cache).authority(authority).tag_header("cache-tag");
            let site = Site::behind(layer.build().unwrap(), handler).await;
            let early = site.get("/");
            let change = async {
                begun.notified().await;
                match by_tag {
                    true => cache.invalidate_tag("all").await.unwrap(),
                    false => assert_eq!(site.ask("POST", "/", &[]).await.status, 200),
                }
                go_on.notify_one();
            };
            let (early, ()) = tokio::join!(early, change);
            assert_eq!(early.text(), "call 1");
            let late = site.get("/").await;
            assert!(late.text() != "call 1", "{vary} {by_tag}: {late:?}");
            assert!(site.get("/").await.is_hit());
        }
    }

    /// The handler takes longer than its page is fresh. Clients that waited for it are given the page all the same, but for
    /// clients that came after a change.
    async fn a_request_that_comes_after_a_change_is_not_given_what_a_slow_handler_read_before_it(fixture: Fixture) {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let mut rounds = Vec::new();
        for vary in ["", "accept-language"] {
            for change in ["key", "tag", "clear"] {
                rounds.push(change_during_a_slow_load([&fixture.client, &other], vary, change));
            }
        }
        join_all(rounds).await;
    }
}

async fn change_during_a_slow_load(clients: [&Client; 2], vary: &'static str, change: &str) {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let version = Arc::new(AtomicUsize::new(1));
    let is_first = Arc::new(AtomicBool::new(true));
    let handler: Handler = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        let version = Arc::clone(&version);
        Arc::new(move |request, _| {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            let (version, is_first) = (Arc::clone(&version), Arc::clone(&is_first));
            async move {
                if request.method == "POST" {
                    return response(200, &[], "");
                }
                let read = version.load(Ordering::SeqCst);
                if is_first.swap(false, Ordering::SeqCst) {
                    begun.notify_one();
                    go_on.notified().await;
                }
                let headers = [
                    ("cache-control", "max-age=1"),
                    ("vary", vary),
                    ("cache-tag", "all"),
                ];
                response(200, &headers, &format!("version {read}")) as Response
            }
            .boxed()
        })
    };
    let name = format!("{change}{}", vary.len());
    let mut sites = Vec::new();
    for client in clients {
        let cache = Cache::builder(client, &name)
            .redis_timeout(20 * SECOND)
            .ttl(60 * SECOND)
            .build()
            .unwrap();
        let layer = ResponseCacheLayer::builder(&cache).tag_header("cache-tag");
        let site = Site::behind(layer.build().unwrap(), Arc::clone(&handler)).await;
        sites.push((site, cache));
    }
    let [(site, cache), (other, _)] = &sites[..] else {
        panic!("there are two processes");
    };
    let early = site.get("/");
    let later = async {
        begun.notified().await;
        version.store(2, Ordering::SeqCst);
        match change {
            "key" => assert_eq!(site.ask("POST", "/", &[]).await.status, 200),
            "tag" => cache.invalidate_tag("all").await.unwrap(),
            _ => cache.clear().await.unwrap(),
        }
        let go_on = async {
            sleep(Duration::from_millis(1200)).await;
            go_on.notify_one();
        };
        let late = join_all([site, other, site, other].map(|site| site.get("/")));
        let (late, ()) = tokio::join!(late, go_on);
        for answer in late {
            assert_eq!(answer.text(), "version 2", "{name}: {answer:?}");
        }
    };
    let (early, ()) = tokio::join!(early, later);
    assert_eq!(early.text(), "version 1", "{name}");
    for site in [site, other] {
        assert_eq!(site.get("/").await.text(), "version 2", "{name}");
    }
}

/// It is loaded while a change comes, and another request waits for that load after the change.
#[tokio::test]
async fn a_variant_that_was_asked_for_before_a_change_is_nobodys_after_it() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler: Handler = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        let (version, is_slow) = (
            Arc::new(AtomicUsize::new(1)),
            Arc::new(AtomicBool::new(true)),
        );
        Arc::new(move |request, _| {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            let (version, is_slow) = (Arc::clone(&version), Arc::clone(&is_slow));
            async move {
                if request.method == "POST" {
                    version.fetch_add(1, Ordering::SeqCst);
                    return response(200, &[], "");
                }
                let read = version.load(Ordering::SeqCst);
                let is_german = request
                    .headers
                    .get("accept-language")
                    .is_some_and(|it| it == "de");
                if is_german && is_slow.swap(false, Ordering::SeqCst) {
                    begun.notify_one();
                    go_on.notified().await;
                }
                let headers = [("cache-control", "max-age=60"), ("vary", "accept-language")];
                response(200, &headers, &format!("version {read}")) as Response
            }
            .boxed()
        })
    };
    let backend = redkit_testkit::FaultyBackend::embedded();
    let site = Site::new(&backend.client(), handler).await;
    let ask = async |language| site.ask("GET", "/", &[("accept-language", language)]).await;
    assert_eq!(ask("en").await.text(), "version 1");
    let early = ask("de");
    let later = async {
        begun.notified().await;
        assert_eq!(site.ask("POST", "/", &[]).await.status, 200);
        assert_eq!(ask("en").await.text(), "version 2");
        let go_on = async {
            sleep(Duration::from_millis(100)).await;
            go_on.notify_one();
        };
        let (late, ()) = tokio::join!(ask("de"), go_on);
        assert_eq!(late.text(), "version 2");
    };
    let (early, ()) = tokio::join!(early, later);
    assert_eq!(early.text(), "version 1");
    let kept = ask("de").await;
    assert_eq!((kept.text(), kept.is_hit()), ("version 2", true));
}

/// Redis only: it is held up while the client goes away.
#[tokio::test]
async fn a_change_counts_though_its_client_goes_away() {
    use axum::body::Body;
    use http::Request;
    use redkit_core::ClientConfig;
    use redkit_testkit::{Server, ServerOptions};
    use tower::{Layer, ServiceExt, service_fn};

    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap())
        .await
        .unwrap();
    let layer = ResponseCacheLayer::builder(&pages(&client))
        .build()
        .unwrap();
    let service = layer.layer(service_fn(async |_: Request<Body>| {
        Ok::<_, std::convert::Infallible>(response(200, &[("cache-control", "max-age=60")], ""))
    }));
    let ask = |method| {
        let request = Request::builder().method(method).uri("http://a.test/");
        service
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
    };
    let is_hit = async || {
        let answer = ask("GET").await.unwrap();
        let told = answer.headers()["cache-status"].to_str().unwrap();
        told.starts_with("pages; hit")
    };
    is_hit().await;
    assert!(is_hit().await);
    server.stop().unwrap();
    // The handler answers at once, and the client is gone before Redis is told.
    assert!(ask("POST").now_or_never().is_none());
    server.cont().unwrap();
    sleep(Duration::from_millis(300)).await;
    assert!(!is_hit().await, "what the change made out of date is gone");
}
