//! Cookies and other carriers of ids.

use axum::http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY};
use axum::http::{Request, StatusCode};
use redkit_session::tower::{SameSite, SessionLayer};
use redkit_session::{Lifetime, SignIn};
use redkit_testkit::Fixture;

use super::{Visitor, answer, app, app_with};
use crate::{signed_in, store, text};

fn set_cookies(answer: &super::Answer) -> Vec<String> {
    let cookies = answer.headers.get_all(SET_COOKIE).iter();
    cookies
        .map(|cookie| cookie.to_str().unwrap().to_owned())
        .collect()
}

redkit_testkit::suite! {
    async fn a_cookie_is_for_this_host_over_tls_and_not_for_scripts(fixture: Fixture) {
        let app = app(&store(&fixture));
        let mut visitor = Visitor::default();
        let first = visitor.post(&app, "/count").await;
        let [cookie] = &set_cookies(&first)[..] else { panic!() };
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        assert!(pair.starts_with("__Host-id=") && pair.len() == "__Host-id=".len() + 48, "{pair}");
        assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax");
        // What carries an id is kept by no cache.
        assert_eq!(first.headers[CACHE_CONTROL], "no-store");
        assert_eq!(first.headers[VARY], "cookie");
        // An id that the client has is not given again.
        let second = visitor.post(&app, "/count").await;
        assert_eq!((second.text.as_str(), set_cookies(&second).len()), ("2", 0));
        assert!(!second.headers.contains_key(CACHE_CONTROL));
        // A removal repeats every attribute.
        let last = visitor.post(&app, "/sign-out").await;
        assert_eq!(last.text, "true");
        let [cookie] = &set_cookies(&last)[..] else { panic!() };
        assert_eq!(
            cookie,
            "__Host-id=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        );
        assert_eq!(last.headers[CACHE_CONTROL], "no-store");
    }

    async fn a_visitor_that_writes_nothing_has_no_session(fixture: Fixture) {
        let app = app(&store(&fixture));
        for path in ["/", "/taken", "/shown", "/swallows", "/devices"] {
            let answer = Visitor::default().get(&app, path).await;
            assert_eq!((answer.status, set_cookies(&answer).len()), (StatusCode::OK, 0), "{path}");
        }
        assert!(crate::round_trips::keys_of(&fixture).await.is_empty());
    }

    async fn an_id_that_was_not_issued_never_becomes_a_session(fixture: Fixture) {
        let store = store(&fixture);
        let app = app(&store);
        let known = text(&signed_in(&store, "user-7").await);
        let unissued = text(&store.start().unwrap());
        let other_tag = format!("{}{}", if known.starts_with("AgA") { "AgB" } else { "AgA" }, &known[3..]);
        let malformed = [String::new(), "x".into(), "A".repeat(10_240), "ü".repeat(24), format!("{}*", &known[..47])];
        for forged in [unissued, other_tag, known[1..].to_owned()].into_iter().chain(malformed) {
            let cookie = Some(format!("__Host-id={forged}"));
            let mut visitor = Visitor { cookie: cookie.clone() };
            let read = visitor.get(&app, "/shown").await;
            assert_eq!((read.status, read.text.as_str()), (StatusCode::OK, "None None"), "{forged}");
            // The browser is to forget what can be no id; another request may just have set the cookie anew.
            let is_id = forged.len() == 48 && forged.is_ascii() && !forged.ends_with('*');
            assert_eq!(visitor.cookie.is_some(), is_id, "{forged}");
            let mut visitor = Visitor { cookie: cookie.clone() };
            let written = visitor.post(&app, "/count").await;
            assert_eq!((written.status, written.text.as_str()), (StatusCode::OK, "1"));
            assert!(visitor.cookie.is_some() && visitor.cookie != cookie, "{forged}");
            assert!(store.load(&forged).await.unwrap().is_none());
        }
    }

    async fn two_different_cookies_of_the_name_are_none(fixture: Fixture) {
        let store = store(&fixture);
        let app = app(&store);
        let (one, two) = (text(&signed_in(&store, "user-7").await), text(&signed_in(&store, "user-8").await));
        let shown = async |cookies: &[String]| {
            let request = cookies.iter().fold(Request::get("/shown"), |request, cookie| request.header(COOKIE, cookie));
            answer(&app, request.body(axum::body::Body::empty()).unwrap()).await
        };
        let (one, two) = (format!("__Host-id={one}"), format!("__Host-id={two}"));
        assert_eq!(shown(&[format!("a=b; {one}; c")]).await.text, "Some(\"user-7\") None");
        assert_eq!(shown(&[format!("{one}; {one}")]).await.text, "Some(\"user-7\") None");
        assert_eq!(shown(&[format!("{one}; {two}")]).await.text, "None None");
        let answer = shown(&[one.clone(), two.clone()]).await;
        assert_eq!((answer.text.as_str(), set_cookies(&answer).len()), ("None None", 1));
        // Without the prefix a subdomain could have set it.
        assert_eq!(shown(&[one.replace("__Host-", "")]).await.text, "None None");
    }

    async fn a_remembered_device_has_a_cookie_that_outlives_the_browser(fixture: Fixture) {
        let store = store(&fixture);
        let hour = std::time::Duration::from_secs(3600);
        let routes = super::routes().route("/remember", axum::routing::post(async move |session: redkit_session::tower::CurrentSession| {
            session.sign_in(SignIn::new("user-7").lifetime(Lifetime::new(24 * hour, 240 * hour))).await
        }));
        let layer = SessionLayer::builder(&store).cookie_name("session").same_site(SameSite::Strict);
        let app = routes.layer(layer.build().unwrap());
        let mut visitor = Visitor::default();
        for path in ["/remember", "/rotate"] {
            let [cookie] = &set_cookies(&visitor.post(&app, path).await)[..] else { panic!() };
            assert!(cookie.starts_with("__Host-session="));
            let (attributes, age) = cookie.split_once("; ").unwrap().1.split_once("; Max-Age=").unwrap();
            assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict");
            let age: u64 = age.parse().unwrap();
            assert!((863_000..=864_000).contains(&age), "{age}");
        }
    }

    async fn ids_travel_in_headers_where_the_layer_says_so(fixture: Fixture) {
        let store = store(&fixture);
        let send = async |app: &axum::Router, header: Option<(&str, String)>, path: &str| {
            let request = Request::post(path).header("sec-fetch-site", "cross-site");
            let request = match header {
                Some((name, value)) => request.header(name, value),
                None => request,
            };
            answer(app, request.body(axum::body::Body::empty()).unwrap()).await
        };
        let by_header = app_with(SessionLayer::builder(&store).header("x-session"));
        let by_bearer = app_with(SessionLayer::builder(&store).bearer("x-session"));
        let first = send(&by_header, None, "/count").await;
        assert!(set_cookies(&first).is_empty());
        assert_eq!(first.headers[CACHE_CONTROL], "no-store");
        let id = first.headers["x-session"].to_str().unwrap().to_owned();
        let second = send(&by_header, Some(("x-session", id.clone())), "/count").await;
        assert_eq!((second.text.as_str(), second.headers.get("x-session")), ("2", None));
        let third = send(&by_bearer, Some(("authorization", format!("bearer {id}"))), "/count").await;
        assert_eq!((third.text.as_str(), &third.headers[VARY]), ("3", &"authorization".parse().unwrap()));
        // A cookie is none to them.
        let ignored = send(&by_header, Some(("cookie", format!("__Host-id={id}"))), "/count").await;
        assert_eq!(ignored.text, "1");
        let last = send(&by_bearer, Some(("authorization", format!("Bearer {id}"))), "/sign-out").await;
        assert_eq!((last.text.as_str(), &last.headers["x-session"]), ("true", &"".parse().unwrap()));
        assert!(store.load(&id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn settings_of_a_layer_that_cannot_work_are_refused() {
    let backend = redkit_testkit::FaultyBackend::embedded();
    let store = crate::builder(&backend.client()).build().unwrap();
    let builder = || SessionLayer::builder(&store);
    for (wrong, field) in [
        (builder().cookie_name(""), "cookie_name"),
        (builder().cookie_name("__Secure-id"), "cookie_name"),
        (builder().cookie_name("a;b"), "cookie_name"),
        (builder().header("a b"), "header"),
        (builder().trust_origin("example.com"), "trust_origin"),
        (
            builder().trust_origin("https://example.com/"),
            "trust_origin",
        ),
    ] {
        let error = wrong.build().unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}
