//! Lists of fields and the variants that are found by them: after a change, and over their times.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::join_all;
use http::request::Parts;
use redkit_cache::{Cache, L1};
use redkit_core::{ClientConfig, Command, Pattern};
use redkit_http_cache::{ResponseCacheBuilder, ResponseCacheLayer};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::site::{Answer, Handler, SECOND, Site, always, at_once, pages, response, until};

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
        assert!(left > 5 * 3600 * 1000, "twice as long, for the variants that come later: {left} ms");
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
            let found = site.get(path).await;
            assert!(!found.header("cache-status").contains("miss"), "its variants are found: {found:?}");
            // Its tags stay with it.
            pages(&fixture.client).invalidate_tag("all").await.unwrap();
            assert_eq!(site.get(path).await.header("cache-status"), "pages; fwd=uri-miss");
            // A list that a change has removed does not come back.
            assert_eq!(site.ask("POST", path, &[]).await.status, 200);
            assert!(left().await < 0);
        }
    }

    async fn a_list_is_not_taken_to_stay_longer_than_it_does(fixture: Fixture) {
        let cache = Cache::builder(&fixture.client, "pages").redis_timeout(20 * SECOND).ttl(60 * SECOND).ttl_jitter(0.9);
        let layer = ResponseCacheLayer::builder(&cache.build().unwrap()).build().unwrap();
        let site = Site::behind(layer, at_once(|_, _| {
            response(200, &[("cache-control", "max-age=86400"), ("vary", "accept-language")], "")
        })).await;
        for n in 0..8 {
            site.get(&format!("/{n}")).await;
            let list = key_with(&fixture, &format!("{{p:site.test/{n}")).await;
            let raw: String = fixture.client.call(Command::new("GET").key(&list)).await.unwrap();
            let left: i64 = fixture.client.call(Command::new("PTTL").key(&list)).await.unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
            let (_, until) = raw.split_once("\"kept_until_ms\":").unwrap();
            let until = &until[..until.find(|c: char| !c.is_ascii_digit()).unwrap()];
            let until: u128 = until.parse().unwrap();
            let ends = now + u128::try_from(left).unwrap();
            assert!(until <= ends + 1, "{until} ms, and it ends after {ends} ms");
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
        let backend = FaultyBackend::new(Arc::clone(fixture.client.backend()));
        let site = Site::new(&backend.client_with(&fixture.config().unwrap()), handler).await;
        site.get("/").await;
        let list = key_with(&fixture, "{p:").await;
        let change = async {
            begun.notified().await;
            assert_eq!(site.ask("POST", "/", &[]).await.status, 200);
            backend.forget();
            go_on.notify_one();
        };
        tokio::join!(ask(&site, "de"), change);
        // The load of the list begins and ends with a script.
        until(async || scripts_on(&backend, "{p:") >= 2).await;
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

/// How many scripts were sent for keys with this text in them.
fn scripts_on(backend: &FaultyBackend, part: &str) -> usize {
    let seen = backend.seen();
    let scripts = seen
        .iter()
        .filter(|command| command.name().starts_with("EVAL"));
    scripts.filter(|command| has_part(command, part)).count()
}

fn has_part(command: &Command, part: &str) -> bool {
    let mut args = command.iter();
    args.any(|arg| String::from_utf8_lossy(arg).contains(part))
}

/// Asks until the process has all that it needs for a hit.
async fn warm(site: &Site, backend: &FaultyBackend, language: &str) {
    until(async || {
        backend.forget();
        ask(site, language).await.is_hit() && backend.seen().is_empty()
    })
    .await;
}

/// A process that keeps pages in its memory and is told of no change.
async fn untold(
    near: &Arc<FaultyBackend>,
    set: impl FnOnce(ResponseCacheBuilder) -> ResponseCacheBuilder,
    handler: Handler,
) -> (Arc<FaultyBackend>, Site) {
    let far = FaultyBackend::new(Arc::clone(near) as Arc<dyn redkit_core::Backend>);
    far.take_over(|_| true);
    let cache = Cache::builder(&far.client_with(&ClientConfig::default()), "pages")
        .redis_timeout(20 * SECOND)
        .ttl(60 * SECOND)
        .l1(L1::entries(100).bound(3600 * SECOND));
    let layer = set(ResponseCacheLayer::builder(&cache.build().unwrap()));
    let site = Site::behind(layer.build().unwrap(), handler).await;
    (far, site)
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
        let (far, late) = match with_level {
            true => untold(&near, |layer| layer, shop.handler(Duration::ZERO)).await,
            false => {
                let far = FaultyBackend::new(Arc::clone(&near) as Arc<dyn redkit_core::Backend>);
                let client = far.client_with(&ClientConfig::default());
                let late = Site::new(&client, shop.handler(Duration::ZERO)).await;
                (far, late)
            }
        };
        let client = near.client_with(&ClientConfig::default());
        let site = Site::new(&client, shop.handler(Duration::ZERO)).await;
        ask(&site, "en").await;
        ask(&site, "de").await;
        // The process has the list where it has a level.
        match with_level {
            true => warm(&late, &far, "en").await,
            false => assert!(ask(&late, "en").await.is_hit()),
        }
        let gate = Gate::closed();
        far.add(
            Rule::new(Injection::HoldRequest(gate.clone()))
                .on_part("{v:")
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

#[tokio::test]
async fn a_reload_is_not_answered_by_what_another_process_loaded_before() {
    let near = FaultyBackend::embedded();
    let kept = || always(&[("cache-control", "max-age=600")]);
    let set = |layer: ResponseCacheBuilder| layer.honour_requests(true);
    let site = Site::with(&near.client(), set, kept()).await;
    let (far, late) = untold(&near, set, kept()).await;
    site.get("/").await;
    warm(&late, &far, "").await;
    let no_cache = [("cache-control", "no-cache")];
    let reloaded = site.ask("GET", "/", &no_cache).await;
    assert_eq!(reloaded.text(), "call 2");
    assert_eq!(late.get("/").await.text(), "call 1", "it was not told");
    // The other process loaded its page before this request came.
    let reloaded = late.ask("GET", "/", &no_cache).await;
    let told = (reloaded.header("cache-status"), late.calls());
    assert_eq!(told, ("pages; fwd=request", 1), "{reloaded:?}");
    assert!(late.get("/").await.is_hit());
}

/// The client's own request goes to the handler.
#[tokio::test]
async fn a_reload_while_redis_is_down_leaves_the_page_to_the_other_clients_of_its_process() {
    let near = FaultyBackend::embedded();
    let set = |layer: ResponseCacheBuilder| layer.honour_requests(true);
    let handler = always(&[("cache-control", "max-age=600"), ("vary", "x-kind")]);
    let (far, site) = untold(&near, set, handler).await;
    warm(&site, &far, "").await;
    let kept = site.get("/").await;
    for failure in [Injection::NotSent, Injection::Refuse("LOADING", "wait")] {
        far.set(Rule::new(failure));
        for (method, said) in [
            ("GET", "no-cache"),
            ("HEAD", "no-cache"),
            ("GET", "no-cache, only-if-cached"),
        ] {
            let before = site.calls();
            let reload = site.ask(method, "/", &[("cache-control", said)]).await;
            let is_answered = !said.contains("only-if-cached");
            assert_eq!(reload.status, if is_answered { 200 } else { 504 });
            assert_eq!(site.calls(), before + usize::from(is_answered), "{said}");
            let other = site.get("/").await;
            assert_eq!((other.text(), other.is_hit()), (kept.text(), true));
        }
    }
}

#[tokio::test]
async fn a_list_that_another_process_has_removed_is_not_brought_back() {
    let near = FaultyBackend::embedded();
    let handler = || {
        at_once(|request, _| {
            // It would be there longer than the list.
            let days = if field(&request, "accept-language") == "de" {
                5
            } else {
                1
            };
            let said = format!("max-age={}", days * 86_400);
            response(
                200,
                &[("cache-control", &said), ("vary", "accept-language")],
                "",
            )
        })
    };
    let site = Site::new(&near.client(), handler()).await;
    let (far, late) = untold(&near, |layer| layer, handler()).await;
    ask(&site, "en").await;
    warm(&late, &far, "en").await;
    assert_eq!(site.ask("POST", "/", &[]).await.status, 200);
    far.forget();
    ask(&late, "de").await;
    // The load of the list begins and ends with a script.
    until(async || scripts_on(&far, "{p:") >= 2).await;
    let client = near.client_with(&ClientConfig::default());
    let key = client.keyspace("cache", "pages").unwrap();
    let key = key.key("p:site.test/");
    let there: i64 = client.call(Command::new("EXISTS").key(&key)).await.unwrap();
    assert_eq!(there, 0);
}

#[tokio::test]
async fn a_list_that_stays_long_enough_is_not_kept_anew() {
    for jitter in [0.0, 0.5, 0.9] {
        let backend = FaultyBackend::embedded();
        let headers = [
            ("cache-control", "max-age=86400"),
            ("vary", "accept-language"),
        ];
        let cache = Cache::builder(&backend.client(), "pages")
            .redis_timeout(20 * SECOND)
            .ttl(60 * SECOND)
            .ttl_jitter(jitter);
        let layer = ResponseCacheLayer::builder(&cache.build().unwrap());
        let site = Site::behind(layer.build().unwrap(), always(&headers)).await;
        ask(&site, "en").await;
        backend.forget();
        for language in ["de", "fr", "it", "es"] {
            ask(&site, language).await;
            assert!(ask(&site, language).await.is_hit());
        }
        assert_eq!(scripts_on(&backend, "{p:"), 0, "{jitter}");
    }
}

/// The list is kept longer in the background while a change removes it, and requests come for its target.
#[tokio::test]
async fn a_list_that_is_found_removed_costs_no_other_request_its_turn() {
    let backend = FaultyBackend::embedded();
    let cache = pages(&backend.client());
    let layer = ResponseCacheLayer::builder(&cache).tag_header("cache-tag");
    let site = Site::behind(
        layer.build().unwrap(),
        at_once(|request, call| {
            let days = if field(&request, "accept-language") == "de" {
                5
            } else {
                1
            };
            let said = format!("max-age={}", days * 86_400);
            let headers = [
                ("cache-control", &*said),
                ("vary", "accept-language"),
                ("cache-tag", "all"),
            ];
            response(200, &headers, &format!("call {call}"))
        }),
    )
    .await;
    ask(&site, "en").await;
    let gate = Gate::closed();
    let looks_up =
        |command: &Command| command.name().starts_with("EVAL") && has_part(command, "{p:");
    backend.set(
        Rule::new(Injection::HoldRequest(gate.clone()))
            .on(looks_up)
            .times(1),
    );
    assert_eq!(ask(&site, "de").await.text(), "call 2");
    gate.reached(1).await;
    cache.invalidate_tag("all").await.unwrap();
    let before = cache.stats().shared;
    let all = join_all((0..4).map(|_| ask(&site, "en")));
    let waiting = async {
        until(async || cache.stats().shared >= before + 4).await;
        gate.open();
    };
    let (all, ()) = tokio::join!(all, waiting);
    for answer in &all {
        let told = answer.header("cache-status");
        assert_eq!(
            (answer.text(), told.contains("detail")),
            ("call 3", false),
            "{answer:?}"
        );
    }
    assert_eq!(site.calls(), 3);
}
