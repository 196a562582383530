//! A customer's notifications: a page, and a stream for browsers that lasts as long as the session.

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use redkit::pubsub::{ItemId, sse};
use serde::Deserialize;

use super::Parts;
use super::input::Fields;
use super::visitor::Customer;
use crate::pages;
use crate::refusal::Refusal;

#[derive(Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: String,
}

#[derive(Deserialize)]
pub(super) struct Seen {
    last: String,
}

pub(super) async fn page(
    State(parts): State<Parts>,
    customer: Customer,
) -> Result<Response, Refusal> {
    let waiting = parts.notifications.waiting(customer.account).await?;
    Ok(pages::notifications(&waiting).into_response())
}

pub(super) async fn seen(
    State(parts): State<Parts>,
    customer: Customer,
    Fields(seen): Fields<Seen>,
) -> Result<Redirect, Refusal> {
    let last: ItemId = seen
        .last
        .parse()
        .map_err(|_| Refusal::bad_request("Name the last notification by its id."))?;
    parts.notifications.seen(customer.account, last).await?;
    Ok(Redirect::to("/notifications"))
}

/// Server-sent events, from the inbox. A browser that comes back says what it has seen last; a page that is new says
/// it in the address. The stream ends with the session, wherever that is ended, and with the shop.
pub(super) async fn stream(
    State(parts): State<Parts>,
    customer: Customer,
    Query(After { after }): Query<After>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let after = sse::last_event_id(&headers).or_else(|| after.parse().ok());
    let revoked = customer.session.revoked().await?;
    let mut stopping = parts.background.stopping();
    let following = parts.notifications.follow(customer.account, after).await?;
    let until = async move {
        tokio::select! {
            end = revoked => tracing::debug!(?end, "a stream ends with its session"),
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    };
    Ok(sse::of_inbox(following, until))
}

impl From<redkit::pubsub::Error> for Refusal {
    fn from(error: redkit::pubsub::Error) -> Self {
        let detail = "Messages cannot be read or sent at the moment. Please try again.";
        Refusal::unavailable(&error, detail)
    }
}
