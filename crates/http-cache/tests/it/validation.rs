//! Stale pages are asked for with their validators, and kept anew when they have not changed.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::request::Parts;
use redkit_cache::Cache;
use redkit_http_cache::{CacheTags, ResponseCacheLayer};
use redkit_testkit::Fixture;
use tokio::time::sleep;

use crate::site::{SECOND, Site, always, at_once, pages, response, until};

/// What the handler was asked with.
fn validator(request: &Parts) -> &str {
    let by_tag = request.headers.get("if-none-match");
    let by_date = request.headers.get("if-modified-since");
    by_tag
        .or(by_date)
        .map_or("", |value| value.to_str().unwrap())
}

const SHORT: (&str, &str) = ("cache-control", "max-age=1, must-revalidate");
const LONG: (&str, &str) = ("cache-control", "max-age=60, must-revalidate");
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

async fn wait_until_stale() {
    sleep(Duration::from_millis(1300)).await;
}

redkit_testkit::suite! {
    async fn a_stale_page_is_asked_for_with_its_validators(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| {
            let vary = ("vary", if request.uri.path() == "/vary" { "accept" } else { "" });
            let by_date = request.uri.path() == "/date";
            match validator(&request) {
                "\"one\"" if !by_date => response(304, &[LONG, ("etag", "\"one\""), ("x-call", &call.to_string()), vary], ""),
                DATE if by_date => response(304, &[LONG, vary], ""),
                "" if by_date => response(200, &[SHORT, ("last-modified", DATE), ("age", "0"), vary], &format!("call {call}")),
                "" => response(200, &[SHORT, ("etag", "\"one\""), ("x-call", "0"), ("content-type", "text/x"), vary], &format!("call {call}")),
                other => response(500, &[], other),
            }
        })).await;
        for path in ["/tag", "/vary", "/date"] {
            let calls = site.calls();
            let first = site.get(path).await;
            assert_eq!((first.status, first.text()), (200, &*format!("call {}", calls + 1)));
            wait_until_stale().await;
            let validated = site.get(path).await;
            assert_eq!((validated.status, &validated.body), (200, &first.body), "{path}: {validated:?}");
            assert_eq!(validated.header("cache-status"), "pages; fwd=stale");
            assert_eq!(site.calls(), calls + 2, "{path}");
            let kept = site.get(path).await;
            assert_eq!((kept.status, &kept.body, kept.is_hit()), (200, &first.body, true), "{path}: {kept:?}");
            assert_eq!(kept.header("content-type"), first.header("content-type"));
            assert_eq!(kept.header("cache-control"), LONG.1, "the newer headers count");
            if path != "/date" {
                assert_eq!(kept.header("x-call"), (calls + 2).to_string());
            }
            assert_eq!(site.calls(), calls + 2, "{path}: it is fresh again");
        }
    }

    async fn a_page_that_has_changed_is_replaced(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| {
            let body = format!("{} {call}", validator(&request));
            response(200, &[SHORT, ("etag", &format!("\"{call}\""))], &body)
        })).await;
        assert_eq!(site.get("/").await.text(), " 1");
        wait_until_stale().await;
        assert_eq!(site.get("/").await.text(), "\"1\" 2");
        wait_until_stale().await;
        assert_eq!(site.get("/").await.text(), "\"2\" 3");
    }

    async fn a_page_that_must_be_revalidated_is_not_given_stale(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|_, call| match call {
            1 => response(200, &[SHORT, ("etag", "\"one\"")], "page"),
            _ => response(503, &[], "down"),
        })).await;
        assert_eq!(site.get("/").await.text(), "page");
        wait_until_stale().await;
        for _ in 0..3 {
            let answer = site.get("/").await;
            assert_eq!((answer.status, answer.text()), (503, "down"));
        }
        let all = site.all(10, "/").await;
        assert!(all.iter().all(|answer| answer.status == 503), "{all:?}");
    }

    async fn the_conditions_of_a_client_do_not_reach_the_handler(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| match validator(&request) {
            "\"one\"" => response(304, &[LONG], ""),
            other => response(200, &[SHORT, ("etag", "\"one\"")], &format!("{other} {call}")),
        })).await;
        assert_eq!(site.get("/").await.text(), " 1");
        wait_until_stale().await;
        let not_modified = site.ask("GET", "/", &[("if-none-match", "\"one\"")]).await;
        assert_eq!(not_modified.status, 304);
        let other = site.ask("GET", "/", &[("if-none-match", "\"two\"")]).await;
        assert_eq!((other.status, other.text(), other.is_hit()), (200, " 1", true));
        assert_eq!(site.calls(), 2);
    }

    async fn a_page_that_may_no_longer_be_kept_is_given_and_not_kept(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| match validator(&request) {
            "" => response(200, &[SHORT, ("etag", "\"one\"")], &format!("call {call}")),
            _ => response(304, &[("cache-control", "no-store")], ""),
        })).await;
        site.get("/").await;
        wait_until_stale().await;
        let validated = site.get("/").await;
        assert_eq!((validated.status, validated.text()), (200, "call 1"));
        assert!(validated.header("cache-status").ends_with("detail=no-store"), "{validated:?}");
        assert_eq!(site.get("/").await.text(), "call 3", "nothing is left of it");
    }

    async fn tags_outlive_a_validation_that_does_not_name_them(fixture: Fixture) {
        let cache = pages(&fixture.client);
        let layer = ResponseCacheLayer::builder(&cache).build().unwrap();
        let site = Site::behind(layer, at_once(|request, call| -> Response {
            match validator(&request) {
                "" => (Extension(CacheTags::new(["teapots"])), response(200, &[SHORT, ("etag", "\"one\"")], &format!("call {call}"))).into_response(),
                _ => response(304, &[LONG], ""),
            }
        })).await;
        site.get("/").await;
        wait_until_stale().await;
        assert_eq!(site.get("/").await.text(), "call 1");
        assert!(site.get("/").await.is_hit());
        cache.invalidate_tag("teapots").await.unwrap();
        assert_eq!(site.get("/").await.text(), "call 3");
    }

    async fn a_tag_that_the_layer_made_is_not_shown_to_the_handler(fixture: Fixture) {
        let site = Site::with(&fixture.client, |layer| layer.make_etags(true), at_once(|request, call| {
            response(200, &[SHORT], &format!("{} {call}", validator(&request)))
        })).await;
        site.get("/").await;
        wait_until_stale().await;
        assert_eq!(site.get("/").await.text(), " 2");
    }

    async fn a_client_that_waits_for_a_slow_validation_gets_the_page(fixture: Fixture) {
        let cache = Cache::builder(&fixture.client, "pages").redis_timeout(20 * SECOND).ttl(SECOND).stale_for(60 * SECOND).load_timeout(SECOND);
        let layer = ResponseCacheLayer::builder(&cache.build().unwrap()).build().unwrap();
        let site = Site::behind(layer, Arc::new(|request, call| async move {
            if validator(&request).is_empty() {
                return response(200, &[SHORT, ("etag", "\"one\"")], &format!("call {call}"));
            }
            sleep(2 * SECOND).await;
            response(304, &[LONG, ("x-new", "1")], "")
        }.boxed())).await;
        site.get("/").await;
        wait_until_stale().await;
        let answer = site.get("/").await;
        assert_eq!((answer.status, answer.text(), answer.header("x-new")), (200, "call 1", "1"), "{answer:?}");
    }

    async fn a_page_is_validated_behind_its_readers(fixture: Fixture) {
        let short = ("cache-control", "max-age=1, stale-while-revalidate=60");
        let site = Site::new(&fixture.client, at_once(move |request, call| match validator(&request) {
            "" => response(200, &[short, ("etag", "\"one\"")], &format!("call {call}")),
            _ => response(304, &[("cache-control", "max-age=60")], ""),
        })).await;
        site.get("/").await;
        wait_until_stale().await;
        assert_eq!(site.get("/").await.text(), "call 1");
        until(async || site.get("/").await.header("cache-control") == "max-age=60").await;
        assert_eq!((site.get("/").await.text(), site.calls()), ("call 1", 2));
    }

    async fn an_age_that_is_none_is_ignored_and_of_several_the_first_counts(fixture: Fixture) {
        for age in ["0, 0", "-1", "old", "1.5", "", "5, 4000", "9, x"] {
            let headers = [("cache-control", "max-age=60"), ("age", age)];
            let set = |layer: redkit_http_cache::ResponseCacheBuilder| layer.authority(format!("h{}", age.len()));
            let site = Site::with(&fixture.client, set, always(&headers)).await;
            site.get(&format!("/{}", age.replace([' ', ','], "_"))).await;
            let again = site.get(&format!("/{}", age.replace([' ', ','], "_"))).await;
            assert!(again.is_hit(), "{age}: {again:?}");
            let given: u64 = again.header("age").parse().unwrap();
            let said = age.split(',').next().unwrap().parse().unwrap_or(0);
            assert!((said..said + 40).contains(&given), "{age}: {given}");
        }
    }

    async fn cdn_cache_control_goes_before_cache_control(fixture: Fixture) {
        let said = [
            ("/forbidden", "max-age=60", "no-store", false),
            ("/private", "max-age=60", "private=\"x-a\"", false),
            ("/allowed", "no-store", "max-age=60", true),
            ("/zero", "max-age=60", "max-age=0", false),
            ("/silent", "max-age=60", "public", false),
            ("/empty", "max-age=60", "", true),
            ("/text", "max-age=60", "max-age=\"60\"", false),
            ("/case", "max-age=60", "No-Store", false),
            ("/odd", "max-age=60", "no-store;", false),
        ];
        let site = Site::new(&fixture.client, at_once(move |request, call| {
            let (_, own, cdn, _) = said.iter().find(|(path, ..)| *path == request.uri.path()).unwrap();
            let expires = ("expires", "Fri, 31 Dec 2100 23:59:59 GMT");
            response(200, &[("cache-control", own), ("cdn-cache-control", cdn), expires], &format!("call {call}"))
        })).await;
        for (path, own, cdn, is_kept) in said {
            site.get(path).await;
            let again = site.get(path).await;
            assert_eq!(again.is_hit(), is_kept, "{own} | {cdn}: {again:?}");
            assert_eq!(again.header("cdn-cache-control"), cdn, "it goes on to the client");
        }
    }
}
