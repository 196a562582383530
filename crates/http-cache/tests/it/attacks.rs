//! What somebody could try to get another's page, or to have another get theirs.

use std::time::Duration;

use redkit_core::Pattern;
use redkit_testkit::Fixture;

use crate::site::{Handler, Site, always, ask, at_once, response};

/// Answers well, unless the request says how not.
fn refusable() -> Handler {
    at_once(|request, call| {
        let kept = "max-age=60";
        let many = "a, b, c, d, e, f, g, h, i, j";
        match request.headers.get("x-bad").map(|bad| bad.as_bytes()) {
            Some(b"vary") => response(200, &[("cache-control", kept), ("vary", many)], "bad"),
            Some(b"over") => response(200, &[("cache-control", "max-age=5"), ("age", "5")], "bad"),
            Some(_) => response(400, &[], "bad"),
            None => response(200, &[("cache-control", kept)], &format!("call {call}")),
        }
    })
}

redkit_testkit::suite! {
    async fn what_one_user_gets_no_other_does(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| {
            let user = request.headers.get("authorization").map_or("nobody", |user| user.to_str().unwrap());
            let said = match request.uri.path() {
                "/mine" => "max-age=60",
                "/shared" => "max-age=60, public",
                "/edge" => "s-maxage=60",
                _ => "private, max-age=60",
            };
            response(200, &[("cache-control", said)], &format!("{user} {call}"))
        })).await;
        let asked = &site;
        let get = async move |path: &str, user: &str| asked.ask("GET", path, &[("authorization", user)]).await;
        for path in ["/mine", "/private"] {
            for _ in 0..2 {
                for user in ["alice", "bob"] {
                    let answer = get(path, user).await;
                    assert!(answer.text().starts_with(user), "{path}: {answer:?}");
                    assert!(!answer.is_hit());
                }
                let nobody = site.get(path).await;
                assert!(nobody.text().starts_with("nobody"), "{path}: {nobody:?}");
            }
        }
        assert!(site.get("/mine").await.is_hit(), "those who sent none share");
        assert!(get("/mine", "alice").await.text().starts_with("alice"), "and are not shared with");
        // All at once: what they wait for is not another's.
        let users: Vec<_> = (0..20).map(|user| format!("user-{user}")).collect();
        let all = users.iter().map(|user| get("/mine?at=once", user));
        for (user, answer) in users.iter().zip(futures_util::future::join_all(all).await) {
            assert_eq!(answer.text().split(' ').next(), Some(&user[..]));
        }
        for path in ["/shared", "/edge"] {
            let first = get(path, "alice").await;
            let second = get(path, "bob").await;
            assert_eq!((second.is_hit(), second.text()), (true, first.text()), "the handler said so");
            assert!(site.get(path).await.text().starts_with("nobody"));
        }
    }

    async fn credentials_that_select_are_neither_shared_nor_kept(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, call| {
            let user = request.headers.get("cookie").map_or("nobody", |user| user.to_str().unwrap());
            response(200, &[("cache-control", "max-age=60"), ("vary", "cookie")], &format!("{user} {call}"))
        })).await;
        site.get("/").await;
        assert!(site.get("/").await.is_hit());
        for _ in 0..2 {
            for user in ["id=alice", "id=bob"] {
                let answer = site.ask("GET", "/", &[("cookie", user)]).await;
                assert!(answer.text().starts_with(user), "{answer:?}");
                assert_eq!(answer.header("cache-status"), "pages; fwd=vary-miss; detail=vary-secret");
            }
        }
    }

    async fn a_host_does_not_read_like_anothers_path(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, _| {
            let host = request.headers["host"].to_str().unwrap();
            response(200, &[("cache-control", "max-age=60")], &format!("{host} {}", request.uri))
        })).await;
        let get = async |host: &'static str, path| {
            let answer = ask(site.address, "GET", path, &[("host", host.as_bytes())]).await;
            if answer.status == 200 {
                assert_eq!(answer.text(), format!("{host} {path}"), "{answer:?}");
            }
            answer
        };
        for _ in 0..2 {
            get("shop.test", "/a/b").await;
            get("shop.test/a", "/b").await;
            get("evil.test", "/a/b").await;
            get("shop.test?x=", "/a/b").await;
            get("me@shop.test", "/a/b").await;
        }
        assert!(get("shop.test", "/a/b").await.is_hit());
        assert!(!get("shop.test/a", "/b").await.is_hit());
        let long = format!("/{}", "x".repeat(9000));
        for _ in 0..2 {
            let answer = site.get(&long).await;
            assert_eq!(answer.header("cache-status"), "pages; fwd=bypass; detail=no-key");
        }
    }

    /// A handler may look at `Host` where the key would have the URI's authority, and the reverse.
    async fn a_uri_does_not_stand_for_another_host(fixture: Fixture) {
        let site = Site::new(&fixture.client, at_once(|request, _| {
            let host = request.headers["host"].to_str().unwrap();
            response(200, &[("cache-control", "max-age=60")], host)
        })).await;
        let get = async |uri, host: &'static str| ask(site.address, "GET", uri, &[("host", host.as_bytes())]).await;
        for _ in 0..2 {
            let evil = get("http://shop.test/a", "evil.test").await;
            assert_eq!(evil.header("cache-status"), "pages; fwd=bypass; detail=no-key");
        }
        assert_eq!(get("/a", "shop.test").await.text(), "shop.test");
        assert!(get("http://Shop.test/a", "shop.test").await.is_hit());
    }

    async fn variants_are_bounded_over_changes_of_their_target(fixture: Fixture) {
        let headers = [("cache-control", "public, max-age=60"), ("vary", "accept-language")];
        let site = Site::with(&fixture.client, |layer| layer.max_variants(4), always(&headers)).await;
        for n in 0..60 {
            assert_eq!(site.ask("POST", "/", &[]).await.status, 200);
            let language = format!("made-up-{n}");
            let asked = [("accept-language", &*language)];
            assert!(!site.ask("GET", "/", &asked).await.is_hit());
            assert!(site.ask("GET", "/", &asked).await.is_hit(), "the newest has its place");
        }
        let mut keys = fixture.client.scan(Pattern::all()).keys();
        let mut variants = Vec::new();
        while let Some(key) = keys.next().await {
            let key = fixture.client.key(key.unwrap()).to_string();
            variants.extend(key.contains(":cache:pages:{v:").then_some(key));
        }
        assert!((1..=4).contains(&variants.len()), "{variants:?}");
    }

    async fn variants_are_bounded_whoever_makes_them_up(fixture: Fixture) {
        let site = Site::with(&fixture.client, |layer| layer.max_variants(4), at_once(|request, call| {
            let language = request.headers["accept-language"].to_str().unwrap();
            response(200, &[("cache-control", "max-age=60"), ("vary", "accept-language")], &format!("{language} {call}"))
        })).await;
        let get = async |n: usize| {
            let language = format!("made-up-{n}");
            let answer = site.ask("GET", "/", &[("accept-language", &language)]).await;
            assert!(answer.text().starts_with(&format!("{language} ")), "{answer:?}");
            answer
        };
        for n in 0..60 {
            get(n).await;
        }
        let mut hits = 0;
        for n in 0..60 {
            let answer = get(n).await;
            hits += usize::from(answer.is_hit());
            if !answer.is_hit() {
                assert_eq!(answer.header("cache-status"), "pages; fwd=vary-miss; detail=vary-full");
            }
        }
        assert_eq!(hits, 4);
        let long = "x".repeat(2000);
        for _ in 0..2 {
            let answer = site.ask("GET", "/", &[("accept-language", &long)]).await;
            assert_eq!(answer.header("cache-status"), "pages; fwd=vary-miss; detail=vary-too-long");
        }
    }

    async fn a_stale_variant_in_ones_place_is_not_ones_own(fixture: Fixture) {
        let site = Site::with(&fixture.client, |layer| layer.max_variants(1), at_once(|request, call| {
            let language = request.headers["accept-language"].to_str().unwrap();
            let said = "max-age=1, stale-while-revalidate=60";
            response(200, &[("cache-control", said), ("vary", "accept-language")], &format!("{language} {call}"))
        })).await;
        let get = async |language| site.ask("GET", "/", &[("accept-language", language)]).await;
        assert_eq!(get("de").await.text(), "de 1");
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let other = get("en").await;
        assert_eq!((other.status, other.text()), (200, "en 2"));
        assert_eq!(get("en").await.text(), "en 2", "it has taken the place");
    }

    async fn odd_bytes_in_requests_do_no_harm(fixture: Fixture) {
        let site = Site::new(&fixture.client, always(&[("cache-control", "max-age=60"), ("vary", "x-odd, accept-language")])).await;
        let get = async |name, value: &[u8]| ask(site.address, "GET", "/", &[(name, value)]).await;
        let mut bodies = std::collections::HashSet::new();
        for value in [&b"\xff"[..], b"\xfe", b"\xff\xff", b"\"", b"a\xe4"] {
            let first = get("x-odd", value).await;
            assert_eq!(first.status, 200);
            assert!(bodies.insert(first.body.clone()), "{value:?} is a variant of its own");
            let again = get("x-odd", value).await;
            assert_eq!((again.is_hit(), again.body), (true, first.body));
        }
        for (name, value) in [
            ("cache-control", &b"\xff,\"="[..]), ("if-none-match", b"\"\xff"), ("if-modified-since", b"\xff"),
            ("accept-language", b"\",\\"), ("cookie", b"\xff"), ("pragma", b"\xff"),
        ] {
            assert_eq!(get(name, value).await.status, 200, "{name}");
        }
    }

    /// A client that can have a page refused cannot keep it from being cached for the others.
    async fn a_response_that_is_not_kept_is_forgotten_when_a_better_one_comes(fixture: Fixture) {
        let site = Site::with(&fixture.client, |layer| layer.hit_for_miss(Duration::from_secs(3600)), refusable()).await;
        for (path, bad) in [("/bad", "1"), ("/long", "vary")] {
            let refused = site.ask("GET", path, &[("x-bad", bad)]).await;
            assert_eq!(refused.text(), "bad");
            assert_eq!(site.get(path).await.status, 200);
            assert_eq!(site.get(path).await.status, 200);
            assert!(site.get(path).await.is_hit(), "{path}");
            assert!(site.ask("GET", path, &[("x-bad", bad)]).await.is_hit(), "and stays");
        }
    }

    /// Nor does a client that wants a newer page take the one that there is from the others.
    async fn a_reload_that_is_refused_takes_the_page_from_nobody(fixture: Fixture) {
        let site = Site::with(&fixture.client, |layer| layer.hit_for_miss(Duration::from_secs(3600)).honour_requests(true), refusable()).await;
        assert_eq!(site.get("/").await.text(), "call 1");
        for bad in ["1", "vary", "over"] {
            let refused = site.ask("GET", "/", &[("x-bad", bad), ("cache-control", "no-cache")]).await;
            assert_eq!((refused.text(), refused.is_hit()), ("bad", false));
            let other = site.get("/").await;
            assert_eq!((other.text(), other.is_hit()), ("call 1", true), "{bad}");
        }
    }
}
