//! Lists of fields and the variants that are found by them: after a change, and over their times.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::join_all;
use http::request::Parts;
use redkit_cache::{Cache, L1};
use redkit_core::{ClientConfig, Command, Pattern};
use redkit_http_cache::ResponseCacheLayer;
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::site::{Answer, Handler, SECOND, Site, at_once, response};

fn field<'r>(request: &'r Parts, name: &str) -> &'r str {
    let value = request.headers.get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

/// The number of changes, and how often each language was asked for; German takes its time.
#[derive(Clone, Default)]
struct Shop {
    version: Arc<AtomicUsize>,
    german: Arc<AtomicUsize>,
}

impl Shop {
    fn handler(&self, slow: Duration) -> Handler {
        let shop = self.clone();
        Arc::new(move |request, _| {
            let shop = shop.clone();
            async move {
                if request.method == "POST" {
                    shop.version.fetch_add(1, Ordering::SeqCst);
                    return response(200, &[], "");
                }
                let version = shop.version.load(Ordering::SeqCst);
                if field(&request, "accept-language") == "de" {
                    shop.german.fetch_add(1, Ordering::SeqCst);
                    sleep(slow).await;
                }
                let headers = [
                    ("cache-control", "max-age=600"),
                    ("vary", "accept-language"),
                ];
                response(200, &headers, &format!("version {version}")) as Response
            }
            .boxed()
        })
    }
}

async fn ask(site: &Site, language: &str) -> Answer {
    site.ask("GET", "/", &[("accept-language", language)]).await
}

redkit_testkit::suite! {
    async fn requests_that_found_the_page_of_before_share_one_call(fixture: Fixture) {
        let shop = Shop::default();
        let mut sites = Vec::new();
        for _ in 0..6 {
            let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
            sites.push(Site::new(&client, shop.handler(Duration::from_millis(300))).await);
        }
        for round in 1..=3 {
            for language in ["de", "en"] {
                ask(&sites[0], language).await;
            }
            assert!(ask(&sites[0], "de").await.is_hit());
            assert_eq!(sites[0].ask("POST", "/", &[]).await.status, 200);
            // The new list is there, and the German page is that of before.
            assert_eq!(ask(&sites[0], "en").await.text(), format!("version {round}"));
            let before = shop.german.load(Ordering::SeqCst);
            let all = join_all(sites.iter().map(|site| ask(site, "de"))).await;
            assert!(all.iter().all(|answer| answer.text() == format!("version {round}")), "{all:?}");
            assert_eq!(shop.german.load(Ordering::SeqCst), before + 1, "round {round}");
            assert!(ask(&sites[1], "de").await.is_hit());
        }
    }

    async fn a_variant_that_was_not_kept_before_a_change_is_loaded_after_it(fixture: Fixture) {
        for (path, heals) in [("/heals", true), ("/stays", false)] {
            let is_changed = Arc::new(AtomicUsize::new(0));
            let changed = Arc::clone(&is_changed);
            let site = Site::with(&fixture.client, |layer| layer.hit_for_miss(3600 * SECOND).max_body(100), at_once(move |request, call| {
                if request.method == "POST" {
                    changed.store(1, Ordering::SeqCst);
                    return response(200, &[], "");
                }
                let is_good = field(&request, "accept-language") != "de" || changed.load(Ordering::SeqCst) == 1;
                let said = if is_good || !heals { "max-age=600" } else { "no-store" };
                let more = if is_good || heals { 0 } else { 200 };
                let body = format!("{call}{}", "x".repeat(more));
                response(200, &[("cache-control", said), ("vary", "accept-language")], &body)
            })).await;
            let ask = async |language| site.ask("GET", path, &[("accept-language", language)]).await;
            ask("en").await;
            for _ in 0..2 {
                assert!(!ask("de").await.is_hit());
            }
            assert!(ask("de").await.header("cache-status").ends_with("detail=hit-for-miss"));
            assert_eq!(site.ask("POST", path, &[]).await.status, 200);
            ask("en").await;
            let first = ask("de").await;
            assert_eq!(first.header("cache-status"), "pages; fwd=vary-miss", "{path}");
            assert!(ask("de").await.is_hit(), "{path}");
        }
    }

    async fn forgetting_that_a_page_is_not_kept_does_not_remove_the_page(fixture: Fixture) {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        let handler: Handler = Arc::new(move |request, call| {
            let (begun, go_on) = (Arc::clone(&begins), Arc::clone(&goes_on));
            async move {
                if request.headers.contains_key("x-bad") {
                    return response(400, &[], "");
                }
                if request.headers.contains_key("x-slow") {
                    begun.notify_one();
                    go_on.notified().await;
                }
                response(200, &[("cache-control", "max-age=600")], &format!("call {call}")) as Response
            }
            .boxed()
        });
        let site = Site::with(&fixture.client, |layer| layer.hit_for_miss(3600 * SECOND), handler).await;
        site.ask("GET", "/", &[("x-bad", "1")]).await;
        let headers = [("x-slow", "1")];
        let slow = site.ask("GET", "/", &headers);
        let others = async {
            begun.notified().await;
            // One passes and forgets, one loads, one hits.
            for is_hit in [false, false, true] {
                assert_eq!(site.get("/").await.is_hit(), is_hit);
            }
            go_on.notify_one();
        };
        let (slow, ()) = tokio::join!(slow, others);
        assert!(slow.header("cache-status").ends_with("detail=hit-for-miss"), "{slow:?}");
        assert!(site.get("/").await.is_hit());
    }

    async fn a_list_stays_as_long_as_its_first_variant(fixture: Fixture) {
        let cache = Cache::builder(&fixture.client, "pages").redis_timeout(20 * SECOND).ttl(60 * SECOND).stale_for(3 * 3600 * SECOND);
        let layer = ResponseCacheLayer::builder(&cache.build().unwrap()).build().unwrap();
        let site = Site::behind(layer, at_once(|_, _| {
            response(200, &[("cache-control", "max-age=60"), ("etag", "\"1\""), ("vary", "accept-language")], "")
        })).await;
        site.get("/").await;
        let list = key_with(&fixture, "{p:").await;
        let left: i64 = fixture.client.call(Command::new("PTTL").key(&list)).await.unwrap();
        assert!(left > 3 * 3600 * 1000, "{left} ms");
    }

    async fn a_variant_that_is_loaded_keeps_its_list(fixture: Fixture) {
        for behind in [false, true] {
            let said = if behind { "max-age=1, stale-while-revalidate=86400" } else { "max-age=1, stale-if-error=86400" };
            let path = if behind { "/behind" } else { "/error" };
            let site = Site::with(&fixture.client, |layer| layer.tag_header("cache-tag"), at_once(move |_, call| {
                response(200, &[("cache-control", said), ("vary", "accept-language"), ("cache-tag", "all")], &format!("call {call}"))
            })).await;
            site.get(path).await;
            let list = key_with(&fixture, &format!("{{p:site.test{path}")).await;
            let left = async || fixture.client.call::<i64>(Command::new("PTTL").key(&list)).await.unwrap();
            let long = 24 * 3600 * 1000;
            assert!(left().await > long);
            // Nearly its whole time passes.
            let raw: String = fixture.client.call(Command::new("GET").key(&list)).await.unwrap();
            let (head, until) = raw.split_once("\"kept_until_ms\":").unwrap();
            let digits = until.find(|c: char| !c.is_ascii_digit()).unwrap();
            let raw = format!("{head}\"kept_until_ms\":{}{}", 10_u64.pow(12), &until[digits..]);
            let set = Command::new("SET").key(&list).arg(raw).arg("PX").arg(3600 * 1000);
            fixture.client.call::<()>(set).await.unwrap();
            sleep(Duration::from_millis(1300)).await;
            site.get(path).await;
            while left().await < long {
                site.get(path).await;
                sleep(Duration::from_millis(20)).await;
            }
            assert!(site.get(path).await.is_hit(), "its variants are found");
            // A list that a change has removed does not come back.
            assert_eq!(site.ask("POST", path, &[]).await.status, 200);
            assert!(left().await < 0);
        }
    }

    async fn a_list_that_a_change_has_removed_is_not_brought_back(fixture: Fixture) {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        let handler: Handler = Arc::new(move |request, _| {
            let (begun, go_on) = (Arc::clone(&begins), Arc::clone(&goes_on));
            async move {
                if field(&request, "accept-language") == "de" {
                    begun.notify_one();
                    go_on.notified().await;
                }
                // It would be there longer than the list.
                let days = if request.headers.contains_key("accept-language") { 5 } else { 1 };
                let said = format!("max-age={}", days * 86_400);
                response(200, &[("cache-control", &said), ("vary", "accept-language")], "") as Response
            }
            .boxed()
        });
        let site = Site::new(&fixture.client, handler).await;
        site.get("/").await;
        let list = key_with(&fixture, "{p:").await;
        let change = async {
            begun.notified().await;
            assert_eq!(site.ask("POST", "/", &[]).await.status, 200);
            go_on.notify_one();
        };
        tokio::join!(ask(&site, "de"), change);
        sleep(Duration::from_millis(300)).await;
        let left: i64 = fixture.client.call(Command::new("PTTL").key(&list)).await.unwrap();
        assert_eq!(left, -2, "the variant that was loaded does not bring it back");
    }

    async fn a_variant_whose_fields_are_too_many_is_passed_for_a_while(fixture: Fixture) {
        let site = Site::with(&fixture.client, |layer| layer.hit_for_miss(3600 * SECOND), at_once(|request, _| {
            let vary = match field(&request, "x-kind") {
                "a" => "x-kind, a, b, c, d, e",
                _ => "x-kind, f, g, h, i",
            };
            let seen = field(&request, "if-none-match");
            response(200, &[("cache-control", "max-age=600"), ("vary", vary)], seen)
        })).await;
        let ask = async |kind| site.ask("GET", "/", &[("x-kind", kind), ("if-none-match", "\"1\"")]).await;
        ask("a").await;
        assert_eq!(ask("b").await.text(), "", "it is asked for the cache, without a client's conditions");
        for _ in 0..3 {
            assert_eq!(ask("b").await.text(), "\"1\"", "it is passed");
        }
        assert!(ask("a").await.is_hit());
    }
}

/// The one key with this text in it, as a client names it.
async fn key_with(fixture: &Fixture, part: &str) -> String {
    let mut keys = fixture.client.scan(Pattern::all()).keys();
    let mut found = Vec::new();
    while let Some(key) = keys.next().await {
        let key = fixture.client.key(key.unwrap()).to_string();
        if key.contains(part) && key.ends_with('}') {
            found.push(key);
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.pop().unwrap()
}

#[tokio::test]
async fn a_request_with_the_list_of_before_does_not_remove_the_page_of_after() {
    for with_level in [false, true] {
        let shop = Shop::default();
        let near = FaultyBackend::embedded();
        let far = FaultyBackend::new(Arc::clone(&near) as Arc<dyn redkit_core::Backend>);
        // No message reaches this process.
        far.take_over(|_| true);
        let client = far.client_with(&ClientConfig::default());
        let cache = Cache::builder(&client, "pages")
            .redis_timeout(20 * SECOND)
            .ttl(60 * SECOND);
        let cache = match with_level {
            true => cache.l1(L1::entries(100).bound(60 * SECOND)),
            false => cache,
        };
        let layer = ResponseCacheLayer::builder(&cache.build().unwrap());
        let late = Site::behind(layer.build().unwrap(), shop.handler(Duration::ZERO)).await;
        let client = near.client_with(&ClientConfig::default());
        let site = Site::new(&client, shop.handler(Duration::ZERO)).await;
        ask(&site, "en").await;
        ask(&site, "de").await;
        // The process knows the list, and has it where it has a level.
        for _ in 0..20 {
            assert!(ask(&late, "en").await.is_hit());
            sleep(Duration::from_millis(5)).await;
        }
        let gate = Gate::closed();
        let of_variants = |command: &Command| {
            let mut args = command.iter();
            args.any(|arg| String::from_utf8_lossy(arg).contains("{v:"))
        };
        far.add(
            Rule::new(Injection::HoldRequest(gate.clone()))
                .on(of_variants)
                .times(1),
        );
        let after = async {
            gate.reached(1).await;
            assert_eq!(site.ask("POST", "/", &[]).await.status, 200);
            assert_eq!(ask(&site, "de").await.text(), "version 1");
            assert!(ask(&site, "de").await.is_hit());
            gate.open();
        };
        let (answer, ()) = tokio::join!(ask(&late, "de"), after);
        assert_eq!((answer.text(), answer.is_hit()), ("version 1", true));
        let kept = ask(&site, "de").await;
        assert_eq!((kept.text(), kept.is_hit()), ("version 1", true));
        assert_eq!(shop.german.load(Ordering::SeqCst), 2, "level: {with_level}");
    }
}
