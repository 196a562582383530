//! Who waits for whom.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use futures_util::FutureExt;
use http::HeaderValue;
use redkit_core::{Command, Pattern};
use redkit_http_cache::ResponseCacheLayer;
use redkit_testkit::Fixture;
use tokio::sync::watch;

use crate::site::{Answer, Handler, Site, pages, response, until};

fn slow(said: &'static str, vary: &'static str) -> Handler {
    Arc::new(move |_, call| {
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            response(
                200,
                &[("cache-control", said), ("vary", vary)],
                &format!("call {call}"),
            )
        }
        .boxed()
    })
}

redkit_testkit::suite! {
    async fn all_who_ask_at_once_share_one_call(fixture: Fixture) {
        for vary in ["", "accept-language"] {
            let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
            let (one, two) = (
                Site::new(&fixture.client, slow("max-age=60", vary)).await,
                Site::new(&other, slow("max-age=60", vary)).await,
            );
            let path = format!("/{vary}");
            let (mut all, more) = tokio::join!(one.all(40, &path), two.all(40, &path));
            all.extend(more);
            assert!(all.iter().all(|answer| answer.text() == "call 1"), "{all:?}");
            assert_eq!(one.calls() + two.calls(), 1, "{vary}");
            let collapsed = all.iter().filter(|a| a.header("cache-status").contains("collapsed")).count();
            assert!(collapsed > 0 || !vary.is_empty());
        }
    }

    async fn nobody_waits_for_what_is_not_kept(fixture: Fixture) {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (one, two) = (
            Site::new(&fixture.client, slow("no-store", "")).await,
            Site::new(&other, slow("no-store", "")).await,
        );
        for round in 0..2 {
            let begun = Instant::now();
            let (mut all, more) = tokio::join!(one.all(20, "/"), two.all(20, "/"));
            all.extend(more);
            let bodies: std::collections::HashSet<_> = all.iter().map(|a| (&a.body, a.status)).collect();
            assert_eq!(bodies.len(), 20, "each site answered each of its requests");
            assert_eq!(one.calls(), 20 * (round + 1));
            // One behind the other they would take 6 s and more.
            assert!(begun.elapsed() < Duration::from_secs(3), "{round}: {:?}", begun.elapsed());
        }
    }

    async fn nobody_waits_for_a_page_that_is_over_when_it_arrives(fixture: Fixture) {
        let handler: Handler = Arc::new(|_, call| {
            async move {
                tokio::time::sleep(Duration::from_millis(1200)).await;
                // It has come through another cache, where it may have been as long as it was asked for.
                response(200, &[("cache-control", "max-age=1"), ("age", "0")], &format!("call {call}"))
            }
            .boxed()
        });
        let mut sites = Vec::new();
        for _ in 0..4 {
            let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
            let set = |layer: redkit_http_cache::ResponseCacheBuilder| layer.hit_for_miss(Duration::from_secs(3600));
            sites.push(Site::with(&client, set, Arc::clone(&handler)).await);
        }
        // It is given to its client, and that it was over is remembered for 2 s at most: here until the others have asked.
        let stays = async || {
            let own = sites[0].get("/").await;
            let mut keys = fixture.client.scan(Pattern::all()).keys();
            let mut stays = false;
            while let Some(key) = keys.next().await {
                let key = fixture.client.key(key.unwrap());
                let left: i64 = fixture.client.call(Command::new("PTTL").key(&key)).await.unwrap();
                if key.to_string().ends_with("{p:site.test/}") && left > 0 {
                    assert!(left <= 2000, "{left} ms");
                    let longer = Command::new("PEXPIRE").key(&key).arg(3_600_000);
                    stays = fixture.client.call::<i64>(longer).await.unwrap() == 1;
                }
            }
            stays.then_some(own)
        };
        let mut own = None;
        until(async || {
            own = stays().await;
            own.is_some()
        }).await;
        let own = own.unwrap();
        let before = sites[0].calls();
        assert_eq!(own.text(), format!("call {before}"));
        assert_eq!(own.header("cache-status"), "pages; fwd=uri-miss; detail=too-slow");
        let all = futures_util::future::join_all(sites.iter().map(|site| site.get("/"))).await;
        for answer in all {
            assert_eq!((answer.status, answer.header("cache-status")), (200, "pages; fwd=uri-miss; detail=hit-for-miss"));
        }
        let calls: Vec<_> = sites.iter().map(Site::calls).collect();
        assert_eq!(calls, [before + 1, 1, 1, 1], "each has asked by itself");
    }

    async fn clients_that_waited_for_a_slow_handler_are_given_its_page(fixture: Fixture) {
        let handler: Handler = Arc::new(|_, call| {
            async move {
                tokio::time::sleep(Duration::from_millis(2500)).await;
                response(200, &[("cache-control", "max-age=2")], &format!("call {call}"))
            }
            .boxed()
        });
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let (one, two) = (
            Site::new(&fixture.client, Arc::clone(&handler)).await,
            Site::new(&other, handler).await,
        );
        let (mut all, more) = tokio::join!(one.all(10, "/"), two.all(10, "/"));
        all.extend(more);
        assert!(all.iter().all(|answer| answer.text() == "call 1"), "{all:?}");
        assert_eq!(one.calls() + two.calls(), 1, "the handler takes longer than its page is fresh");
    }

    async fn clients_are_told_how_old_a_page_is_that_came_slowly(fixture: Fixture) {
        let begun = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&begun);
        let handler: Handler = Arc::new(move |request, _| {
            let begun = Arc::clone(&kept);
            let body = futures_util::stream::once(async move {
                begun.lock().unwrap().get_or_insert_with(SystemTime::now);
                tokio::time::sleep(Duration::from_millis(1100)).await;
                Ok::<_, Infallible>("slow")
            });
            let mut answer = response(200, &[("cache-control", "max-age=60")], "");
            *answer.body_mut() = Body::from_stream(body);
            if request.uri.path() == "/from-another-cache" {
                answer.headers_mut().insert("age", HeaderValue::from_static("7"));
            }
            async { answer }.boxed()
        });
        let site = Site::new(&fixture.client, handler).await;
        let (own, from_another_cache) = tokio::join!(site.all(2, "/"), site.all(2, "/from-another-cache"));
        assert_eq!(site.calls(), 2);
        let is_own = |answer: &&Answer| answer.header("cache-status") == "pages; fwd=uri-miss";
        let age = |answer: &Answer| answer.header("age").parse::<u64>().ok();
        for answer in &own {
            let made = httpdate::parse_http_date(answer.header("date")).unwrap();
            assert!(made <= begun.lock().unwrap().unwrap(), "when its head came: {answer:?}");
            match is_own(&answer) {
                true => assert_eq!(age(answer), None, "the handler was asked for this client: {answer:?}"),
                false => assert!(matches!(age(answer), Some(1..30)), "it was asked for another: {answer:?}"),
            }
        }
        assert_eq!(own.iter().filter(is_own).count(), 1);
        let is_older = |answer: &Answer| matches!(age(answer), Some(8..30));
        assert!(from_another_cache.iter().all(is_older), "{from_another_cache:?}");
    }

    async fn reloads_during_an_outage_share_one_call_in_all_processes(fixture: Fixture) {
        for vary in ["", "accept-language"] {
            let (go_on, goes_on) = watch::channel(false);
            let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let handler: Handler = {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                Arc::new(move |request, _| {
                    let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                    let mut goes_on = goes_on.clone();
                    async move {
                        if !request.headers.contains_key("cache-control") {
                            return response(200, &[("cache-control", "max-age=600"), ("vary", vary)], "good");
                        }
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        goes_on.wait_for(|go_on| *go_on).await.unwrap();
                        running.fetch_sub(1, Ordering::SeqCst);
                        response(503, &[], "down")
                    }
                    .boxed()
                })
            };
            let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
            let mut sites = Vec::new();
            for client in [&fixture.client, &other] {
                let cache = pages(client);
                let layer = ResponseCacheLayer::builder(&cache).honour_requests(true).authority(format!("v{}", vary.len()));
                sites.push((Site::behind(layer.build().unwrap(), Arc::clone(&handler)).await, cache));
            }
            assert_eq!(sites[0].0.get("/").await.text(), "good");
            let no_cache = [("cache-control", "no-cache")];
            let reloads = sites.iter().flat_map(|(site, _)| (0..10).map(|_| site.ask("GET", "/", &no_cache)));
            let reloads = futures_util::future::join_all(reloads);
            let all_wait = async {
                until(async || {
                    let stats: Vec<_> = sites.iter().map(|(_, cache)| cache.stats()).collect();
                    stats.iter().all(|stats| stats.shared >= 9) && stats.iter().any(|stats| stats.waits > 0)
                }).await;
                go_on.send_replace(true);
            };
            let (answers, ()) = tokio::join!(reloads, all_wait);
            assert!(answers.iter().all(|answer| (answer.status, answer.text()) == (200, "good")), "{answers:?}");
            let calls: usize = sites.iter().map(|(site, _)| site.calls()).sum();
            assert_eq!((most.load(Ordering::SeqCst), calls), (1, 2), "one for the page and one for all reloads");
            let plain = sites[1].0.get("/").await;
            assert_eq!((plain.text(), plain.is_hit()), ("good", true));
        }
    }

    async fn a_load_goes_on_when_the_client_goes_away(fixture: Fixture) {
        let site = Site::new(&fixture.client, slow("max-age=60", "")).await;
        let left = tokio::time::timeout(Duration::from_millis(100), site.get("/")).await;
        assert!(left.is_err());
        assert_eq!(site.get("/").await.text(), "call 1");
        assert_eq!(site.calls(), 1);
    }
}
