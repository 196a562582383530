//! The shop's addresses: what is asked for, checked, read through the cache and answered.

mod input;

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRef, Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use maud::Markup;
use redkit::ratelimit::RateLimiter;
use redkit::ratelimit::tower::{ClientAddress, RateLimitLayer};
use serde::Serialize;

use crate::cached::{CacheStatus, CachedCatalogue, ChangeError, Read, ReadError};
use crate::catalogue::CatalogueError;
use crate::format::Format;
use crate::model::{Category, Cents, Id, ListedProduct, PopularProduct};
use crate::pages;
use crate::popular::Popular;
use crate::refusal::{self, Refusal};

use input::Paging;

/// RFC 9211: how a cache dealt with the request.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The longest body that a price may come in.
const BODY_LIMIT: usize = 1024;

/// What the routes are made of.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) catalogue: Arc<CachedCatalogue>,
    pub(crate) popular: Popular,
    /// How many changes an address may make.
    pub(crate) changes: RateLimiter,
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
pub(crate) fn router(parts: Parts) -> Router {
    // The address is the connection's own. Behind a proxy, that one would have to be named here as
    // trusted, or all visitors would share one limit.
    let limit = RateLimitLayer::new(&parts.changes, ClientAddress::new());
    Router::new()
        .route("/", get(front))
        .route("/products/{id}", get(product))
        .route("/products/{id}/price", post(set_price).layer(limit))
        .route("/categories/{id}", get(category))
        .route("/popular", get(popular))
        .fallback(async || Refusal::not_found("There is no page at this address."))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(refusal::render))
        .layer(middleware::from_fn(common_headers))
        .with_state(parts)
        // Whether the process lives, whatever state the cache and the database are in.
        .route("/healthz", get(async || Json(Alive { status: "alive" })))
}

type Shop = State<Arc<CachedCatalogue>>;

async fn front(State(shop): Shop, headers: HeaderMap) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Body<'a> {
        categories: &'a [Category],
        featured: &'a [ListedProduct],
    }
    let front = shop.front().await?;
    let (categories, featured) = (&front.value.categories, &front.value.featured);
    Ok(answer(
        &headers,
        front.cache,
        || pages::front(categories, featured, front.cache),
        &Body {
            categories,
            featured,
        },
    ))
}

async fn product(
    State(shop): Shop,
    State(popular): State<Popular>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = input::id("product", id)?;
    let Read { value, cache } = shop.product(id).await?;
    // Only of what is there: no visitor is to fill the counts with invented ids.
    popular.count(id).await;
    Ok(answer(
        &headers,
        cache,
        || pages::product(&value, cache),
        &*value,
    ))
}

async fn category(
    State(shop): Shop,
    id: Result<Path<String>, PathRejection>,
    paging: Result<Query<Paging>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = input::id("category", id)?;
    let Read { value, cache } = shop.listing(id, input::page(paging)?).await?;
    Ok(answer(
        &headers,
        cache,
        || pages::category(&value, cache),
        &*value,
    ))
}

async fn popular(
    State(shop): Shop,
    State(popular): State<Popular>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Body<'a> {
        products: &'a [PopularProduct],
    }
    let top = popular.top().await.map_err(|error| {
        tracing::error!(error = &error as &dyn Error, "the visits cannot be read");
        let detail = "What was looked at most cannot be told at the moment. Please try again.";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let ids: Vec<Id> = top.iter().map(|(id, _)| *id).collect();
    let Read { value, cache } = shop.products(&ids).await?;
    let visits: HashMap<Id, u64> = top
        .into_iter()
        .map(|(id, visits)| (id, whole(visits)))
        .collect();
    let products: Vec<PopularProduct> = value
        .into_iter()
        .map(|product| PopularProduct {
            visits: visits.get(&product.id).copied().unwrap_or_default(),
            product,
        })
        .collect();
    Ok(answer(
        &headers,
        cache,
        || pages::popular(&products, cache),
        &Body {
            products: &products,
        },
    ))
}

/// A count that the server keeps as a floating-point number: each visit added one to it.
fn whole(count: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and a count is neither negative nor beyond 64 bits"
    )]
    let count = count as u64;
    count
}

/// Changes a price. Anybody may, if not too often: the shop has no accounts. What is kept out is another site's page
/// that posts here through a visitor's browser.
async fn set_price(
    State(shop): Shop,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Changed {
        id: Id,
        price_cents: Cents,
    }
    let request = input::whole(request, BODY_LIMIT).await?;
    let id = input::id("product", id)?;
    input::same_site(request.headers())?;
    let accepts = Format::of(request.headers());
    let (price_cents, sent) = input::price(request).await?;
    shop.set_price(id, price_cents).await?;
    Ok(match (accepts, sent) {
        (Format::Html, Format::Html) => Redirect::to(&format!("/products/{id}")).into_response(),
        _ => Json(Changed { id, price_cents }).into_response(),
    })
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

/// Headers that every answer has.
async fn common_headers(request: Request, next: Next) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                          base-uri 'none'; frame-ancestors 'none'";
    let mut response = next.run(request).await;
    for (name, value) in [
        (VARY, "accept"),
        // A browser asks each time, or it would show the old price after a change.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        if let Some(refusal) = error.catalogue().and_then(absent) {
            return refusal;
        }
        tracing::error!(error = &error as &dyn Error, "a read failed");
        let detail = "The catalogue cannot be read at the moment. Please try again.";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        if let ChangeError::Catalogue(catalogue) = &error
            && let Some(refusal) = absent(catalogue)
        {
            return refusal;
        }
        tracing::error!(error = &error as &dyn Error, "a change failed");
        let detail = match error {
            ChangeError::Catalogue(_) => "The price could not be changed. Please try again.",
            ChangeError::Invalidate(_) => {
                "The price is changed, but pages may show the old one for up to an hour, because \
                 the cache cannot be reached. Send the price again to try once more."
            }
        };
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

/// The refusal for what does not exist; `None` when the error is of another kind.
fn absent(error: &CatalogueError) -> Option<Refusal> {
    match error {
        CatalogueError::NoSuchProduct(_)
        | CatalogueError::NoSuchCategory(_)
        | CatalogueError::NoSuchPage { .. } => Some(Refusal::not_found(sentence(error))),
        CatalogueError::Stored(_) | CatalogueError::Database(_) => None,
    }
}

/// An error's text as a sentence of its own.
fn sentence(error: &CatalogueError) -> String {
    let text = error.to_string();
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(rest).chain(['.']).collect()
}
