//! Routes for axum.

use axum::Router;
use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use axum::routing::get;

use super::{Detail, Health, Report};

impl Health {
    /// The routes `/live`, `/ready` and `/startup`, to be nested where the orchestrator asks:
    /// `app.nest("/health", health.routes())`. Their answers are health+json in the short form, and name no
    /// server.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let (live, ready, startup) = (self.clone(), self.clone(), self.clone());
        Router::new()
            .route(
                "/live",
                get(async move || answer(&live.live(), Detail::Short)),
            )
            .route(
                "/ready",
                get(async move || answer(&*ready.ready().await, Detail::Short)),
            )
            .route(
                "/startup",
                get(async move || answer(&startup.startup().await, Detail::Short)),
            )
    }

    /// The route `/deep`, which names servers and what they said: only for people who may know.
    pub fn deep_route<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let health = self.clone();
        Router::new().route(
            "/deep",
            get(async move || answer(&*health.deep().await, Detail::Full)),
        )
    }
}

fn answer(report: &Report, detail: Detail) -> Response<Body> {
    let mut response = Response::new(Body::from(report.to_json(detail).to_string()));
    let status = StatusCode::from_u16(report.status.http_status());
    *response.status_mut() = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    let json = header::HeaderValue::from_static("application/health+json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}
