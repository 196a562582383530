//! Requests that pages of other origins make.

use axum::http::{Request, StatusCode};
use redkit_session::tower::{CurrentSession, SessionLayer};
use redkit_testkit::Fixture;
use secrecy::ExposeSecret;

use super::{Visitor, app, app_with};
use crate::store;

redkit_testkit::suite! {
    async fn an_unsafe_request_of_another_site_is_refused_and_changes_nothing(fixture: Fixture) {
        let app = app(&store(&fixture));
        let mut visitor = Visitor::default();
        visitor.post(&app, "/count").await;
        for (header, value) in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.org"), ("origin", "null")] {
            let request = Request::post("/count").header("host", "shop.example.com").header(header, value);
            let refused = visitor.send(&app, request).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{header} {value}");
            assert_eq!(refused.headers["content-type"], "application/problem+json");
        }
        let request = Request::get("/shown").header("sec-fetch-site", "cross-site");
        assert_eq!(visitor.send(&app, request).await.text, "None Some(1)");
        let request = Request::post("/count").header("sec-fetch-site", "same-origin");
        assert_eq!(visitor.send(&app, request).await.text, "2");
    }

    async fn trusted_origins_and_exempt_requests_pass(fixture: Fixture) {
        let layer = SessionLayer::builder(&store(&fixture))
            .trust_origin("https://app.example.com")
            .exempt(|request| request.uri.path() == "/sign-out")
            .require_origin();
        let app = app_with(layer);
        let mut visitor = Visitor::default();
        let cross = |path: &str| Request::post(path).header("sec-fetch-site", "cross-site");
        let trusted = cross("/count").header("origin", "https://app.example.com");
        assert_eq!(visitor.send(&app, trusted).await.status, StatusCode::OK);
        assert_eq!(visitor.send(&app, cross("/count")).await.status, StatusCode::FORBIDDEN);
        assert_eq!(visitor.post(&app, "/count").await.status, StatusCode::FORBIDDEN);
        assert_eq!(visitor.send(&app, cross("/sign-out")).await.status, StatusCode::OK);
    }

    async fn a_token_is_asked_for_where_the_layer_says_so(fixture: Fixture) {
        let routes = super::routes().route("/form", axum::routing::get(async |session: CurrentSession| {
            session.csrf_token().await.map(|token| token.expose_secret().to_owned())
        }));
        let routes = routes.route("/socket", axum::routing::any(async || "hello"));
        let layer = SessionLayer::builder(&store(&fixture)).require_token();
        let app = routes.layer(layer.build().unwrap());
        let mut visitor = Visitor::default();
        assert_eq!(visitor.post(&app, "/count").await.status, StatusCode::FORBIDDEN);
        let token = visitor.get(&app, "/form").await.text;
        assert_eq!(visitor.get(&app, "/form").await.text, token);
        let mut send = async |token: Option<&str>, path: &str| {
            let request = Request::post(path);
            let request = match token {
                Some(token) => request.header("x-csrf-token", token),
                None => request,
            };
            visitor.send(&app, request).await.status
        };
        let other = if token.starts_with('A') { "B" } else { "A" };
        let forged = format!("{other}{}", &token[1..]);
        for wrong in [None, Some(""), Some("x"), Some(forged.as_str()), Some(&token[1..])] {
            assert_eq!(send(wrong, "/count").await, StatusCode::FORBIDDEN, "{wrong:?}");
        }
        assert_eq!(send(Some(&token), "/count").await, StatusCode::OK);
        // Another id has another token.
        assert_eq!(send(Some(&token), "/sign-in?user=user-7").await, StatusCode::OK);
        assert_eq!(send(Some(&token), "/count").await, StatusCode::FORBIDDEN);
        let token = visitor.get(&app, "/form").await.text;
        let request = Request::post("/count").header("x-csrf-token", &token);
        assert_eq!(visitor.send(&app, request).await.text, "2");
        // A WebSocket can send none; its origin is checked all the same.
        let upgrade = || Request::get("/shown").header("upgrade", "websocket");
        assert_eq!(visitor.send(&app, upgrade()).await.status, StatusCode::OK);
        let request = upgrade().header("sec-fetch-site", "cross-site");
        assert_eq!(visitor.send(&app, request).await.status, StatusCode::FORBIDDEN);
        // Nor over HTTP/2, where its handshake is a `CONNECT`.
        let connect = || Request::builder().method("CONNECT").uri("/socket");
        assert_eq!(visitor.send(&app, connect()).await.status, StatusCode::OK);
        let request = connect().header("sec-fetch-site", "cross-site");
        assert_eq!(visitor.send(&app, request).await.status, StatusCode::FORBIDDEN);
        // A stranger's token is none.
        let request = Request::post("/count").header("x-csrf-token", &token);
        assert_eq!(Visitor::default().send(&app, request).await.status, StatusCode::FORBIDDEN);
    }
}
