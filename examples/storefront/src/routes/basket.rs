//! The basket, an entry of the session: visitors fill it before they sign in.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use redkit::session::tower::CurrentSession;
use serde::Deserialize;

use super::Parts;
use super::input::Fields;
use super::visitor::BASKET;
use crate::context::{self, Pattern};
use crate::model::Id;
use crate::orders::{Basket, Reference};
use crate::pages;
use crate::refusal::Refusal;

/// One product: so many more of it, or so many in all.
#[derive(Deserialize)]
pub(super) struct Change {
    product: String,
    add: Option<u32>,
    units: Option<u32>,
}

pub(super) async fn page(
    State(parts): State<Parts>,
    session: CurrentSession,
) -> Result<Response, Refusal> {
    let basket: Basket = session.get(BASKET).await?.unwrap_or_default();
    let ids: Vec<Id> = basket.lines().map(|(id, _)| id).collect();
    let products = match ids.is_empty() {
        true => Vec::new(),
        false => parts.catalogue.products(&ids).await?.value,
    };
    // A page that is shown again is another order: sent twice, one page is one.
    let reference = Reference::random();
    let is_known = session.user().await?.is_some();
    Ok(pages::basket(&basket, &products, &reference, is_known).into_response())
}

pub(super) async fn change(
    State(parts): State<Parts>,
    session: CurrentSession,
    Fields(change): Fields<Change>,
) -> Result<Response, Refusal> {
    let id: Id = change
        .product
        .parse()
        .map_err(|_| Refusal::bad_request("Name a product by its number, such as 17."))?;
    // No basket holds what the shop does not sell.
    parts.catalogue.product(id).await?;
    let mut basket: Basket = session.get(BASKET).await?.unwrap_or_default();
    match (change.add, change.units) {
        (Some(units), None) => basket.add(id, units),
        (None, Some(units)) => basket.set(id, units),
        _ => {
            let detail = "Say how many units to add, or how many there should be.";
            return Err(Refusal::bad_request(detail));
        }
    }
    session.insert(BASKET, &basket).await?;
    context::note(
        Pattern::Session,
        "the basket, one entry, is sent with the answer",
    );
    Ok(Redirect::to("/basket").into_response())
}
