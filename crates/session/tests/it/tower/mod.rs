//! The layer, through axum.

mod answers;
mod browser;
mod cookies;
mod cross_site;
mod idempotent;

use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use futures_util::stream::{self, StreamExt};
use http_body_util::BodyExt;
use redkit_session::tower::{CurrentSession, SessionLayer, SessionLayerBuilder};
use redkit_session::{Error, SessionStore, SignIn};
use tower::ServiceExt;

#[derive(serde::Deserialize)]
struct User {
    user: String,
}

async fn count(session: CurrentSession) -> Result<String, Error> {
    let n = session.get::<u32>("n").await?.unwrap_or(0) + 1;
    session.insert("n", &n).await?;
    Ok(n.to_string())
}

async fn shown(session: CurrentSession) -> Result<String, Error> {
    let n = session.get::<u32>("n").await?;
    Ok(format!("{:?} {n:?}", session.user().await?))
}

async fn sign_in(session: CurrentSession, user: Query<User>) -> Result<(), Error> {
    session
        .sign_in(SignIn::new(&user.user).device("test"))
        .await
}

async fn sign_out(session: CurrentSession) -> Result<String, Error> {
    Ok(session.sign_out().await?.to_string())
}

/// One event at once, and then none until the session has ended.
async fn events(session: CurrentSession) -> Result<impl IntoResponse, Error> {
    let revoked = session.revoked().await?;
    let first = stream::once(async { Event::default().data("hello") });
    let last = stream::once(async move {
        Event::default()
            .event("end")
            .data(format!("{:?}", revoked.await))
    });
    Ok(Sse::new(
        first.chain(last).map(Ok::<_, std::convert::Infallible>),
    ))
}

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/taken", get(async |_: CurrentSession| "hello"))
        .route("/count", post(count).get(count))
        .route("/shown", get(shown))
        .route("/sign-in", post(sign_in))
        .route(
            "/rotate",
            post(async |session: CurrentSession| session.rotate().await),
        )
        .route("/sign-out", post(sign_out))
        .route(
            "/devices",
            get(async |session: CurrentSession| {
                session
                    .devices()
                    .await
                    .map(|devices| devices.len().to_string())
            }),
        )
        .route(
            "/revoke-others",
            post(async |session: CurrentSession| session.revoke_others().await),
        )
        .route("/events", get(events))
        .route(
            "/fails",
            post(async |session: CurrentSession| {
                count(session).await?;
                Ok::<_, Error>(StatusCode::INTERNAL_SERVER_ERROR)
            }),
        )
        .route(
            "/swallows",
            get(async |session: CurrentSession| {
                session
                    .get::<u32>("n")
                    .await
                    .ok()
                    .flatten()
                    .unwrap_or(0)
                    .to_string()
            }),
        )
}

pub(crate) fn app(store: &SessionStore) -> Router {
    app_with(SessionLayer::builder(store))
}

pub(crate) fn app_with(builder: SessionLayerBuilder) -> Router {
    routes().layer(builder.build().unwrap())
}

/// A client with a cookie, without a network.
#[derive(Default, Clone)]
pub(crate) struct Visitor {
    pub(crate) cookie: Option<String>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Visitor {
    pub(crate) async fn get(&mut self, app: &Router, path: &str) -> Answer {
        self.send(app, Request::get(path)).await
    }

    pub(crate) async fn post(&mut self, app: &Router, path: &str) -> Answer {
        self.send(app, Request::post(path)).await
    }

    pub(crate) async fn send(
        &mut self,
        app: &Router,
        request: axum::http::request::Builder,
    ) -> Answer {
        let request = match &self.cookie {
            Some(cookie) => request.header(COOKIE, cookie),
            None => request,
        };
        let answer = answer(app, request.body(Body::empty()).unwrap()).await;
        for cookie in answer.headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let pair = cookie.split(';').next().unwrap();
            self.cookie = (!cookie.contains("Max-Age=0")).then(|| pair.to_owned());
        }
        answer
    }
}

pub(crate) async fn answer(app: &Router, request: Request<Body>) -> Answer {
    let response: Response<Body> = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(text.to_vec()).unwrap(),
    }
}
