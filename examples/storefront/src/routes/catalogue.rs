//! What everybody may look at: products, categories, searches, and what others look at.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use redkit::session::tower::CurrentSession;
use serde::{Deserialize, Serialize};

use super::input::{self, Paging};
use super::visitor::Address;
use super::{Parts, answer};
use crate::cached::{CachedCatalogue, ChangeError, Read, ReadError};
use crate::catalogue::CatalogueError;
use crate::format::Format;
use crate::limits::Endpoint;
use crate::model::{Category, Cents, Found, Id, ListedProduct, PopularProduct, Search};
use crate::pages;
use crate::popular::Popular;
use crate::refusal::Refusal;

/// The longest body that a price may come in.
const PRICE_LIMIT: usize = 1024;

type Shop = State<Arc<CachedCatalogue>>;

pub(super) async fn front(State(shop): Shop, headers: HeaderMap) -> Result<Response, Refusal> {
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
        || pages::front(categories, featured),
        &Body {
            categories,
            featured,
        },
    ))
}

pub(super) async fn product(
    State(parts): State<Parts>,
    session: CurrentSession,
    Extension(Address(address)): Extension<Address>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = input::id("product", id)?;
    let user = session.user().await?;
    let limits = &parts.limits;
    limits
        .check(Endpoint::Products, user.as_deref(), &address)
        .await?;
    let Read { value, cache } = parts.catalogue.product(id).await?;
    // Only of what is there: no visitor is to fill the counts with invented ids.
    parts.popular.count(id).await;
    Ok(answer(&headers, cache, || pages::product(&value), &*value))
}

pub(super) async fn category(
    State(shop): Shop,
    id: Result<Path<String>, PathRejection>,
    paging: Result<Query<Paging>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = input::id("category", id)?;
    let Read { value, cache } = shop.listing(id, input::page(paging)?).await?;
    Ok(answer(&headers, cache, || pages::category(&value), &*value))
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    q: String,
}

pub(super) async fn search(
    State(parts): State<Parts>,
    session: CurrentSession,
    Extension(Address(address)): Extension<Address>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Query(Wanted { q }) =
        wanted.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    let search = Search::of(&q);
    if search.is_empty() {
        return Ok(Redirect::to("/").into_response());
    }
    let user = session.user().await?;
    let limits = &parts.limits;
    limits
        .check(Endpoint::Products, user.as_deref(), &address)
        .await?;
    let Read { value, cache } = parts.catalogue.search(&search).await?;
    let found: &Found = &value;
    Ok(answer(&headers, cache, || pages::search(&q, found), found))
}

pub(super) async fn popular(
    State(shop): Shop,
    State(popular): State<Popular>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Body<'a> {
        products: &'a [PopularProduct],
    }
    let top = popular.top().await.map_err(|error| {
        let detail = "What was looked at most cannot be told at the moment. Please try again.";
        Refusal::unavailable(&error, detail)
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
        || pages::popular(&products),
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

/// Changes a price. Anybody may, if not too often, so that an invalidation can be seen without an account. What is
/// kept out, by the session's layer, is another site's page that posts here through a visitor's browser.
pub(super) async fn set_price(
    State(shop): Shop,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Changed {
        id: Id,
        price_cents: Cents,
    }
    let request = input::whole(request, PRICE_LIMIT).await?;
    let id = input::id("product", id)?;
    let accepts = Format::of(request.headers());
    let (price_cents, sent) = input::price(request).await?;
    shop.set_price(id, price_cents).await?;
    Ok(match (accepts, sent) {
        (Format::Html, Format::Html) => Redirect::to(&format!("/products/{id}")).into_response(),
        _ => Json(Changed { id, price_cents }).into_response(),
    })
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        if let Some(refusal) = error.catalogue().and_then(absent) {
            return refusal;
        }
        let detail = "The catalogue cannot be read at the moment. Please try again.";
        Refusal::unavailable(&error, detail)
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
        CatalogueError::Key(_) | CatalogueError::Stored(_) | CatalogueError::Database(_) => None,
    }
}

/// An error's text as a sentence of its own.
pub(super) fn sentence(error: &dyn Error) -> String {
    let text = error.to_string();
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(rest).chain(['.']).collect()
}
