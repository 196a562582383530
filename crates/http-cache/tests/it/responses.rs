//! The layer in front of axum over real HTTP: what is kept, for how long, and what is given.

use std::time::Duration;

use axum::body::Body;
use axum::routing::get;
use axum::{Extension, Router};
use http::HeaderValue;
use redkit_cache::Cache;
use redkit_http_cache::{CacheTags, ResponseCacheLayer};
use redkit_testkit::Fixture;
use tokio::time::sleep;

use crate::site::{SECOND, Site, always, ask, at_once, pages, response, serve, until};

redkit_testkit::suite! {
    async fn a_fresh_response_is_given_again(fixture: Fixture) {
        let headers = [("cache-control", "max-age=60"), ("content-type", "text/x"), ("age", "7")];
        let site = Site::new(&fixture.client, always(&headers)).await;
        let first = site.get("/a?b=c").await;
        assert_eq!((first.status, first.text()), (200, "call 1"));
        assert_eq!(first.header("cache-status"), "pages; fwd=uri-miss");
        let again = site.get("/a?b=c").await;
        assert_eq!((again.status, again.text()), (200, "call 1"));
        assert_eq!((again.header("content-type"), again.header("content-length")), ("text/x", "6"));
        let age: u64 = again.header("age").parse().unwrap();
        assert!((7..30).contains(&age), "{age}");
        let status = again.header("cache-status");
        let left = status.strip_prefix("pages; hit; ttl=").unwrap();
        assert!((20..=53).contains(&left.parse::<i64>().unwrap()), "{status}");

        let head = site.ask("HEAD", "/a?b=c", &[]).await;
        assert_eq!((head.status, head.text(), head.header("content-length")), (200, "", "6"));
        assert!(head.is_hit());
        assert_eq!(site.calls(), 1);

        assert_eq!(site.get("/a?b=d").await.text(), "call 2", "another query");
        assert_eq!(site.get("/a").await.text(), "call 3");
        let head = site.ask("HEAD", "/new", &[]).await;
        assert_eq!(head.header("cache-status"), "pages; fwd=uri-miss; detail=method");
        assert_eq!(site.get("/new").await.text(), "call 5", "a HEAD is not kept");
    }

    async fn what_must_not_be_kept_is_not(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| {
            let path = request.uri.path().trim_start_matches('/');
            let query = request.uri.query().unwrap_or_default().replace('+', " ").replace("%22", "\"");
            let (name, value) = query.split_once(':').unwrap();
            let mut answer = response(path.parse().unwrap(), &[(name, value)], &format!("call {call}"));
            if name != "cache-control" {
                answer.headers_mut().insert("cache-control", HeaderValue::from_static("max-age=60"));
            }
            answer
        })).await;
        for (path, why) in [
            ("/200?cache-control:max-age=60,no-store", "no-store"),
            ("/200?cache-control:max-age=60,NO-STORE", "no-store"),
            ("/200?cache-control:max-age=60,x=%22open", "no-store"),
            ("/200?cache-control:Private,max-age=60", "private"),
            ("/200?cache-control:max-age=60,no-cache", "no-cache"),
            ("/200?cache-control:x", "no-freshness"),
            ("/200?cache-control:max-age=0", "not-fresh"),
            ("/200?set-cookie:id=1", "set-cookie"),
            ("/200?vary:*", "vary"),
            ("/200?vary:a,b,c,d,e,f,g,h,i", "vary-too-long"),
            ("/200?content-type:text/event-stream", "event-stream"),
            ("/206?x:y", "status"),
            ("/302?x:y", "status"),
            ("/401?x:y", "status"),
            ("/404?cache-control:public", "status"),
            ("/500?x:y", "status"),
        ] {
            let before = site.calls();
            let first = site.get(path).await;
            assert_eq!(first.header("cache-status"), format!("pages; fwd=uri-miss; detail={why}"), "{path}");
            let second = site.get(path).await;
            assert!(second.header("cache-status").ends_with("detail=hit-for-miss"), "{second:?}");
            assert_eq!((first.status, second.status), (path[1..4].parse().unwrap(), first.status));
            assert_ne!(first.body, second.body);
            assert_eq!(site.calls(), before + 2, "{path}");
        }
        for path in ["/404?x:y", "/301?x:y", "/204?x:y", "/200?expires:Sun,+06+Nov+2094+08:49:37+GMT"] {
            let before = site.calls();
            let first = site.get(path).await;
            let second = site.get(path).await;
            assert!(second.is_hit(), "{path} {second:?}");
            assert_eq!((second.status, &second.body), (first.status, &first.body));
            assert_eq!(site.calls(), before + 1, "{path}");
        }
    }

    async fn requests_that_ask_for_more_than_a_whole_page_pass(fixture: Fixture) {
        let site = Site::with(&fixture.client, |layer| layer.skip(|request| request.uri.path() == "/admin"),
            always(&[("cache-control", "max-age=60"), ("etag", "\"1\"")])).await;
        site.get("/").await;
        for (method, headers, why) in [
            ("GET", ("range", "bytes=0-1"), "bypass; detail=range"),
            ("GET", ("if-match", "\"1\""), "bypass; detail=precondition"),
            ("GET", ("upgrade", "x"), "bypass; detail=upgrade"),
            ("GET", ("content-length", "1"), "bypass; detail=request-body"),
            ("OPTIONS", ("x", "y"), "method; detail=method"),
        ] {
            let answer = match headers.0 {
                "content-length" => ask(site.address, "GET", "/", &[("content-length", b"1\r\n\r\nx")]).await,
                _ => site.ask(method, "/", &[headers]).await,
            };
            assert_eq!(answer.header("cache-status"), format!("pages; fwd={why}"));
        }
        assert!(site.get("/").await.is_hit());
        for _ in 0..2 {
            assert_eq!(site.get("/admin").await.header("cache-status"), "pages; fwd=bypass; detail=skipped");
        }
        assert_eq!(site.calls(), 8);
    }

    async fn a_default_time_is_for_those_without_credentials(fixture: Fixture) {
        let site = Site::with(&fixture.client, |layer| layer.default_ttl(60 * SECOND),
            at_once(|request, call| {
                let headers: &[_] = match request.uri.path() {
                    "/said" => &[("cache-control", "max-age=60")],
                    _ => &[],
                };
                response(200, headers, &format!("call {call}"))
            })).await;
        let cookie = [("cookie", "id=1")];
        for _ in 0..2 {
            assert!(!site.ask("GET", "/", &cookie).await.is_hit(), "the handler did not say so");
        }
        site.get("/").await;
        assert!(site.get("/").await.is_hit());
        assert!(!site.ask("GET", "/", &cookie).await.is_hit());
        site.ask("GET", "/said", &cookie).await;
        assert!(site.ask("GET", "/said", &cookie).await.is_hit());
    }

    async fn what_belongs_to_a_connection_is_not_kept_and_odd_bytes_are(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|_, _| {
            let mut answer = response(200, &[
                ("cache-control", "max-age=60"), ("connection", "x-hop"), ("x-hop", "1"),
                ("keep-alive", "timeout=5"), ("proxy-authenticate", "Basic"),
            ], "");
            answer.headers_mut().insert("x-odd", HeaderValue::from_bytes(b"\xff\xe4\x80").unwrap());
            *answer.body_mut() = Body::from(&b"\x00\xff\xfe"[..]);
            answer
        })).await;
        site.get("/").await;
        let hit = site.get("/").await;
        assert!(hit.is_hit());
        assert_eq!(hit.headers["x-odd"].as_bytes(), b"\xff\xe4\x80");
        assert_eq!(hit.body, b"\x00\xff\xfe");
        for name in ["x-hop", "keep-alive", "proxy-authenticate"] {
            assert_eq!(hit.header(name), "", "{name}");
        }
        assert_ne!(hit.header("date"), "");
    }

    async fn conditions_are_answered_from_what_is_kept(fixture: Fixture) {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let handler = at_once(move |request, _| {
            assert!(!request.headers.contains_key("if-none-match"), "a load is for everybody");
            assert!(!request.headers.contains_key("if-modified-since"));
            response(200, &[("cache-control", "max-age=60"), ("etag", "W/\"v,1\""),
                ("last-modified", date), ("content-type", "text/x")], "body")
        });
        let site = Site::new(&fixture.client, handler).await;
        let with = async |name, value| site.ask("GET", "/", &[(name, value)]).await;
        assert_eq!(with("if-none-match", "\"v,1\"").await.status, 304, "the one who loads, too");
        for (name, value, status) in [
            ("if-none-match", "\"x\", \"v,1\"", 304),
            ("if-none-match", "*", 304),
            ("if-none-match", "\"x\"", 200),
            ("if-modified-since", date, 304),
            ("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT", 200),
        ] {
            let answer = with(name, value).await;
            assert_eq!(answer.status, status, "{name}: {value}");
            assert!(answer.is_hit());
            if status == 304 {
                assert_eq!((answer.text(), answer.header("content-type")), ("", ""));
                assert_eq!(answer.header("etag"), "W/\"v,1\"");
                assert!(!answer.headers.contains_key("content-length"));
            }
        }
        let both = [("if-none-match", "\"x\""), ("if-modified-since", date)];
        assert_eq!(site.ask("GET", "/", &both).await.status, 200);
        assert_eq!(site.calls(), 1);

        let made = Site::with(&fixture.client, |layer| layer.make_etags(true).authority("made"),
            always(&[("cache-control", "max-age=60")])).await;
        let tag = made.get("/").await.header("etag").to_owned();
        assert!(tag.starts_with("W/\""));
        assert_eq!(made.ask("GET", "/", &[("if-none-match", &tag)]).await.status, 304);
    }

    async fn variants_are_told_apart_by_what_vary_names(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| {
            let language = request.headers.get("accept-language").map_or("-", |l| l.to_str().unwrap());
            let coding = request.headers.get("accept-encoding").map_or("-", |l| l.to_str().unwrap());
            response(200, &[("cache-control", "max-age=60"), ("vary", "Accept-Language, Accept-Encoding")],
                &format!("{language} {coding} {call}"))
        })).await;
        let get = async |language, coding| {
            site.ask("GET", "/", &[("accept-language", language), ("accept-encoding", coding)]).await
        };
        assert_eq!(get("de", "gzip, br").await.text(), "de gzip, br 1");
        assert_eq!(get("en", "gzip, br").await.text(), "en gzip, br 2");
        assert_eq!(get("de", "identity").await.text(), "de identity 3");
        let again = get("de", "gzip, br").await;
        assert_eq!((again.text(), again.is_hit()), ("de gzip, br 1", true));
        assert_eq!(get("EN", "BR,gzip").await.text(), "en gzip, br 2", "the same in other words");
        let bare = site.get("/").await;
        assert_eq!((bare.text(), bare.header("cache-status")), ("- - 4", "pages; fwd=vary-miss"));
        assert!(site.get("/").await.is_hit());
        assert!(site.ask("HEAD", "/", &[("accept-language", "de"), ("accept-encoding", "identity")]).await.is_hit());
        assert_eq!(site.calls(), 4);
    }

    async fn a_list_of_fields_that_grows_is_followed(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| {
            let of = |name| request.headers.get(name).map_or("-", |value| value.to_str().unwrap());
            let vary = if of("x-a") == "1" { "x-a" } else { "x-b" };
            response(200, &[("cache-control", "max-age=60"), ("vary", vary)],
                &format!("{} {} {call}", of("x-a"), of("x-b")))
        })).await;
        let get = async |a, b| site.ask("GET", "/", &[("x-a", a), ("x-b", b)]).await;
        for round in 0..4 {
            for (a, b) in [("1", "1"), ("2", "1"), ("2", "2")] {
                let answer = get(a, b).await;
                assert!(answer.text().starts_with(&format!("{a} {b} ")), "{answer:?}");
                assert!(answer.is_hit() || round < 2, "round {round}: {answer:?}");
            }
        }
    }

    async fn clients_do_not_decide_unless_they_may(fixture: Fixture) {
        let headers = [("cache-control", "max-age=60")];
        let site = Site::new(&fixture.client, always(&headers)).await;
        let absent = site.ask("GET", "/", &[("cache-control", "only-if-cached")]).await;
        assert_eq!((absent.status, site.calls()), (504, 0));
        let none = Site::with(&fixture.client, |layer| layer.authority("none"), always(&[])).await;
        none.get("/").await;
        let absent = none.ask("GET", "/", &[("cache-control", "only-if-cached")]).await;
        assert_eq!((absent.status, none.calls()), (504, 1), "also when it is known that it is not kept");
        site.get("/").await;
        for said in ["no-cache", "no-store", "max-age=0", "min-fresh=999", "only-if-cached"] {
            assert!(site.ask("GET", "/", &[("cache-control", said)]).await.is_hit(), "{said}");
        }
        assert!(site.ask("GET", "/", &[("pragma", "no-cache")]).await.is_hit());
        assert_eq!(site.calls(), 1);

        let site = Site::with(&fixture.client, |layer| layer.honour_requests(true).authority("x"), always(&headers)).await;
        let get = async |said| site.ask("GET", "/", &[("cache-control", said)]).await;
        assert_eq!(get("no-store").await.text(), "call 1");
        assert_eq!(site.get("/").await.text(), "call 2", "nothing was kept");
        assert_eq!(get("no-store").await.text(), "call 2", "it may be given what is there");
        assert_eq!(get("no-cache").await.text(), "call 3");
        assert_eq!(site.get("/").await.text(), "call 3", "and all get what it got");
        assert_eq!(get("max-age=0").await.text(), "call 4");
        assert_eq!(get("max-age=50, min-fresh=5").await.text(), "call 4");
        assert_eq!(get("min-fresh=61").await.text(), "call 5");
        assert_eq!(site.ask("GET", "/", &[("pragma", "no-cache")]).await.text(), "call 6");
    }

    async fn a_clients_reload_during_an_outage_takes_the_page_from_nobody(fixture: Fixture) {
        for vary in ["", "accept-language"] {
            let site = Site::with(&fixture.client, |layer| layer.honour_requests(true).authority(format!("v{}", vary.len())), at_once(move |_, call| match call {
                1 | 3 => response(200, &[("cache-control", "max-age=60, stale-if-error=60"), ("vary", vary)], &format!("call {call}")),
                _ => response(503, &[], "down"),
            })).await;
            assert_eq!(site.get("/").await.text(), "call 1");
            let reload = site.ask("GET", "/", &[("cache-control", "no-cache")]).await;
            assert_eq!((reload.status, reload.text()), (200, "call 1"));
            assert!(reload.header("cache-status").ends_with("detail=handler-failed"), "{reload:?}");
            let others = site.get("/").await;
            assert_eq!((others.status, others.text(), others.is_hit(), site.calls()), (200, "call 1", true, 2));
            // The handler is back, and asked at once.
            let reload = site.ask("GET", "/", &[("cache-control", "no-cache")]).await;
            assert_eq!((reload.text(), reload.header("cache-status")), ("call 3", "pages; fwd=request"));
            let others = site.get("/").await;
            assert_eq!((others.text(), others.is_hit()), ("call 3", true));
        }
    }

    async fn stale_responses_are_given_where_they_may(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| {
            let (path, is_first) = (request.uri.path(), call <= 3);
            let said = match path {
                "/behind" => "s-maxage=1, stale-while-revalidate=60",
                "/error" => "max-age=1, stale-if-error=60",
                _ => "max-age=1, stale-if-error=60, must-revalidate",
            };
            let status = if is_first || path == "/behind" { 200 } else { 503 };
            response(status, &[("cache-control", said)], &format!("call {call}"))
        })).await;
        for path in ["/behind", "/error", "/strict"] {
            assert_eq!(site.get(path).await.status, 200);
        }
        sleep(Duration::from_millis(2100)).await;
        let behind = site.get("/behind").await;
        assert_eq!(behind.text(), "call 1", "nobody waits");
        assert!(behind.header("cache-status").starts_with("pages; hit; ttl=-"), "{behind:?}");
        until(async || site.get("/behind").await.text() != "call 1").await;

        let error = site.get("/error").await;
        assert_eq!((error.status, error.text()), (200, "call 2"));
        assert!(error.header("cache-status").ends_with("detail=handler-failed"), "{error:?}");
        assert!(error.header("age").parse::<u64>().unwrap() >= 2);
        assert_eq!(site.get("/strict").await.status, 503);
    }

    async fn tags_remove_responses(fixture: Fixture) {
        let cache = pages(&fixture.client);
        let layer = ResponseCacheLayer::builder(&cache).tag_header("surrogate-key").build().unwrap();
        let fresh = [("cache-control", "max-age=60"), ("surrogate-key", "x all"), ("vary", "accept-language")];
        let tagged = async move || (Extension(CacheTags::new(["teapots"])), fresh, "teapot");
        let plain = async || ([("cache-control", "max-age=60"), ("surrogate-key", "all")], "cup");
        let routes = Router::new().route("/tagged", get(tagged)).route("/plain", get(plain)).layer(layer.clone());
        let address = serve(routes).await;
        let is_hit = async |path| {
            let answer = ask(address, "GET", path, &[]).await;
            assert_eq!(answer.status, 200);
            answer.is_hit()
        };
        for tag in ["teapots", "x"] {
            is_hit("/tagged").await;
            is_hit("/plain").await;
            assert!(is_hit("/tagged").await && is_hit("/plain").await);
            cache.invalidate_tag(tag).await.unwrap();
            assert!(!is_hit("/tagged").await, "{tag}");
            assert!(is_hit("/plain").await);
        }
        cache.invalidate_tag("all").await.unwrap();
        assert!(!is_hit("/plain").await && !is_hit("/tagged").await);
        layer.invalidate("site.test/plain").await.unwrap();
        assert!(!is_hit("/plain").await && is_hit("/tagged").await);
        cache.clear().await.unwrap();
        assert!(!is_hit("/plain").await && !is_hit("/tagged").await);
    }
}

/// A router of axum cuts off what it is nested at: two that share a layer are two all the same.
#[cfg(feature = "axum")]
#[tokio::test]
async fn nested_routers_have_pages_of_their_own() {
    let client = redkit_core::Client::from_backend(
        std::sync::Arc::new(redkit_embedded::Embedded::new()),
        &redkit_core::ClientConfig::default(),
    )
    .unwrap();
    let layer = ResponseCacheLayer::builder(&pages(&client))
        .build()
        .unwrap();
    let of = |text: &'static str| {
        let page = get(async move || ([("cache-control", "max-age=60")], text));
        Router::new().route("/x", page).layer(layer.clone())
    };
    let routes = Router::new().nest("/a", of("a")).nest("/b", of("b"));
    let address = serve(routes).await;
    for _ in 0..2 {
        for path in ["a", "b"] {
            let answer = ask(address, "GET", &format!("/{path}/x"), &[]).await;
            assert_eq!(answer.text(), path);
        }
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let client = redkit_core::Client::from_backend(
        std::sync::Arc::new(redkit_embedded::Embedded::new()),
        &redkit_core::ClientConfig::default(),
    )
    .unwrap();
    let cache = pages(&client);
    let builder = || ResponseCacheLayer::builder(&cache);
    for (field, builder) in [
        ("default_ttl", builder().default_ttl(Duration::ZERO)),
        ("max_body", builder().max_body(0)),
        ("max_body", builder().max_body(usize::MAX)),
        ("max_variants", builder().max_variants(0)),
        ("hit_for_miss", builder().hit_for_miss(Duration::ZERO)),
        ("authority", builder().authority("a/b")),
        ("authority", builder().authority("me@a")),
        ("authority", builder().authority("a").key(|_| None)),
        ("tag_header", builder().tag_header("a b")),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
    for (jitter, is_refused) in [(0.9, false), (0.91, true), (1.0, true)] {
        let cache = Cache::builder(&client, "pages").ttl(Duration::from_secs(60));
        let cache = cache.ttl_jitter(jitter).build().unwrap();
        let layer = ResponseCacheLayer::builder(&cache).build();
        let error = layer.err().map(|error| error.to_string());
        assert_eq!(error.is_some(), is_refused, "{jitter}: {error:?}");
        assert!(error.is_none_or(|error| error.contains("ttl_jitter")));
    }
}

#[tokio::test]
async fn responses_are_counted_by_how_they_came_about() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let client = redkit_core::Client::from_backend(
        std::sync::Arc::new(redkit_embedded::Embedded::new()),
        &redkit_core::ClientConfig::default(),
    )
    .unwrap();
    let recorder = DebuggingRecorder::new();
    let layer = metrics::with_local_recorder(&recorder, || {
        ResponseCacheLayer::builder(&pages(&client))
            .build()
            .unwrap()
    });
    let site = Site::behind(
        layer,
        always(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]),
    )
    .await;
    for (method, headers) in [
        ("GET", ("cache-control", "only-if-cached")),
        ("GET", ("x", "y")),
        ("GET", ("x", "y")),
        ("GET", ("if-none-match", "\"1\"")),
        ("POST", ("x", "y")),
    ] {
        site.ask(method, "/", &[headers]).await;
    }
    let mut counted = std::collections::BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        if let DebugValue::Counter(value) = value
            && key.key().name().starts_with("redkit_http_cache_")
            && value > 0
        {
            let label = key.key().labels().last().map_or("", |label| label.value());
            counted.insert(format!("{} {label}", key.key().name()), value);
        }
    }
    let expected = [
        ("redkit_http_cache_invalidations_total removed", 1),
        ("redkit_http_cache_not_modified_total pages", 1),
        ("redkit_http_cache_responses_total filled", 1),
        ("redkit_http_cache_responses_total hit", 2),
        ("redkit_http_cache_responses_total passed", 1),
        ("redkit_http_cache_responses_total refused", 1),
    ];
    assert_eq!(
        counted,
        expected
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    );
}
