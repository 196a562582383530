//! The shop's addresses: what is asked for, checked, done and answered.

mod account;
mod admin;
mod assets;
mod basket;
mod catalogue;
mod input;
mod notifications;
mod orders;
mod staff;
mod visitor;

use std::error::Error;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRef, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use maud::Markup;
use redkit::monitor::Health;
use redkit::monitor::dashboard::Dashboard;
use redkit::ratelimit::RateLimiter;
use redkit::ratelimit::tower::{ClientAddress, RateLimitLayer};
use redkit::session::SessionStore;
use redkit::session::tower::{OnOutage, SessionLayer};
use serde::Serialize;

use crate::accounts::Accounts;
use crate::background::Background;
use crate::cached::{CacheStatus, CachedCatalogue};
use crate::context;
use crate::format::Format;
use crate::jobs::Jobs;
use crate::limits::Limits;
use crate::notifications::Notifications;
use crate::orders::{Events, Orders};
use crate::popular::Popular;
use crate::refusal::{self, Refusal};

pub(crate) use self::admin::StaffOnly;

/// RFC 9211: how a cache dealt with the request.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The longest body that a form may come in.
const BODY_LIMIT: usize = 8 * 1024;

/// What the routes are made of.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) catalogue: Arc<CachedCatalogue>,
    pub(crate) popular: Popular,
    /// How many changes an address may make.
    pub(crate) changes: RateLimiter,
    pub(crate) accounts: Accounts,
    pub(crate) addresses: ClientAddress,
    pub(crate) limits: Limits,
    pub(crate) sessions: SessionStore,
    pub(crate) orders: Orders,
    pub(crate) events: Events,
    pub(crate) notifications: Notifications,
    pub(crate) jobs: Jobs,
    pub(crate) health: Health,
    pub(crate) background: Arc<Background>,
    pub(crate) dashboard: Dashboard,
}

impl FromRef<Parts> for Arc<CachedCatalogue> {
    fn from_ref(parts: &Parts) -> Self {
        Self::clone(&parts.catalogue)
    }
}

impl FromRef<Parts> for Popular {
    fn from_ref(parts: &Parts) -> Self {
        parts.popular.clone()
    }
}

/// The shop's routes.
///
/// # Errors
/// When the settings of a layer are refused.
pub(crate) fn router(parts: Parts) -> Result<Router, redkit::session::Error> {
    // Addresses are the connections' own, unless proxies are named: behind one that is not, all visitors would share
    // one limit.
    let limit = RateLimitLayer::new(&parts.changes, parts.addresses.clone());
    let session = SessionLayer::builder(&parts.sessions).cookie_name("shop");
    // The dashboard answers for itself, in its own form and with its own headers.
    let admin = parts.dashboard.routes().layer(session.clone().build()?);
    let viewed = || middleware::from_fn(visitor::view);
    // What may be looked at without a session is looked at without one while sessions cannot be loaded.
    let open = Router::new()
        .route("/", get(catalogue::front))
        .route("/products/{id}", get(catalogue::product))
        .route(
            "/products/{id}/price",
            post(catalogue::set_price).layer(limit),
        )
        .route("/categories/{id}", get(catalogue::category))
        .route("/search", get(catalogue::search))
        .route("/popular", get(catalogue::popular))
        .route("/guides/{name}", get(assets::guide))
        .layer(viewed())
        .layer(session.clone().on_outage(OnOutage::Anonymous).build()?);
    let own = Router::new()
        .route(
            "/sign-in",
            get(account::sign_in_page).post(account::sign_in),
        )
        .route(
            "/register",
            get(account::register_page).post(account::register),
        )
        .route("/sign-out", post(account::sign_out))
        .route("/account", get(account::page).post(account::set_profile))
        .route("/account/devices/revoke", post(account::revoke))
        .route(
            "/account/devices/revoke-others",
            post(account::revoke_others),
        )
        .route("/basket", get(basket::page).post(basket::change))
        .route("/orders", get(orders::list).post(orders::place))
        .route("/orders/{reference}", get(orders::page))
        .route("/orders/{reference}/cancel", post(orders::cancel))
        .route(
            "/notifications",
            get(notifications::page).post(notifications::seen),
        )
        .route("/notifications/stream", get(notifications::stream))
        .route("/staff", get(staff::page))
        .route("/staff/broadcast", post(staff::broadcast))
        .route("/staff/warm", post(staff::warm))
        .layer(viewed())
        .layer(session.build()?);
    Ok(open
        .merge(own)
        .route("/assets/shop.js", get(assets::script))
        .fallback(async || Refusal::not_found("There is no page at this address."))
        .layer(middleware::from_fn_with_state(
            parts.addresses.clone(),
            visitor::find_address,
        ))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(refusal::render))
        .layer(middleware::from_fn(common_headers))
        .layer(middleware::from_fn(context::layer))
        .with_state(parts)
        .nest("/admin", admin)
        // Whether the process lives, whatever state the cache and the database are in.
        .route("/healthz", get(async || Json(Alive { status: "alive" }))))
}

#[derive(Serialize)]
struct Alive {
    status: &'static str,
}

/// The answer in the format that the client reads, with the cache's part in it.
fn answer(
    headers: &HeaderMap,
    cache: CacheStatus,
    page: impl FnOnce() -> Markup,
    json: &impl Serialize,
) -> Response {
    let mut response = match Format::of(headers) {
        Format::Html => page().into_response(),
        Format::Json => Json(json).into_response(),
    };
    let status = HeaderValue::from_static(cache.header());
    response.headers_mut().insert(CACHE_STATUS, status);
    response
}

/// Headers that every answer has, unless it has its own.
async fn common_headers(request: Request, next: Next) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; \
                          connect-src 'self'; form-action 'self'; base-uri 'none'; \
                          frame-ancestors 'none'";
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("accept"));
    for (name, value) in [
        // A browser asks each time, or it would show the old price after a change.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

impl From<redkit::session::Error> for Refusal {
    fn from(error: redkit::session::Error) -> Self {
        let detail = "Your session cannot be reached just now. Please try again in a moment.";
        match &error {
            redkit::session::Error::Core(_) => Refusal::unavailable(&error, detail),
            _ => {
                tracing::debug!(error = &error as &dyn Error, "a session takes no change");
                let detail =
                    "Your session has ended, or went on under another id. Please try again.";
                Refusal::new(StatusCode::CONFLICT, detail)
            }
        }
    }
}
