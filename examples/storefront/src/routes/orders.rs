//! Placing, seeing and cancelling orders.

use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use redkit::lock::Error as LockError;
use serde::Deserialize;

use super::Parts;
use super::catalogue::sentence;
use super::input::Fields;
use super::visitor::{Address, BASKET, Customer};
use crate::limits::Endpoint;
use crate::orders::{Basket, BookError, Event, Happening, OrderError, Reference};
use crate::pages;
use crate::refusal::Refusal;

#[derive(Deserialize)]
pub(super) struct Checkout {
    reference: String,
}

pub(super) async fn place(
    State(parts): State<Parts>,
    customer: Customer,
    Extension(Address(address)): Extension<Address>,
    Fields(checkout): Fields<Checkout>,
) -> Result<Response, Refusal> {
    let reference = reference(&checkout.reference)?;
    let user = customer.account.to_string();
    parts
        .limits
        .check(Endpoint::Orders, Some(&user), &address)
        .await?;
    let (session, account) = (&customer.session, customer.account);
    let basket: Basket = session.get(BASKET).await?.unwrap_or_default();
    if basket.is_empty() {
        // The second of two windows, or a page from before the first one was sent.
        return match parts.orders.order(account, &reference).await {
            Ok(_) => Ok(Redirect::to(&format!("/orders/{reference}")).into_response()),
            Err(_) => Ok(Redirect::to("/basket").into_response()),
        };
    }
    let placed = parts
        .orders
        .place(account, &reference, &basket, &parts.catalogue)
        .await?;
    if !placed.is_replayed {
        let happening = Happening::Placed;
        let reference = reference.clone();
        parts
            .events
            .publish(&Event {
                reference,
                happening,
            })
            .await;
    }
    // Also of an order that was placed before: its page's first answer, and with it this change of the session, may have
    // been lost. It is the basket of this order, or the key would have been refused.
    session.remove(BASKET).await?;
    Ok(Redirect::to(&format!("/orders/{reference}")).into_response())
}

pub(super) async fn list(
    State(parts): State<Parts>,
    customer: Customer,
) -> Result<Response, Refusal> {
    let orders = parts.orders.book().orders_of(customer.account).await;
    let orders = orders.map_err(OrderError::from)?;
    Ok(pages::orders(&orders).into_response())
}

pub(super) async fn page(
    State(parts): State<Parts>,
    customer: Customer,
    Path(text): Path<String>,
) -> Result<Response, Refusal> {
    let reference = reference(&text)?;
    let order = parts.orders.order(customer.account, &reference).await?;
    Ok(pages::order(&order.value).into_response())
}

pub(super) async fn cancel(
    State(parts): State<Parts>,
    customer: Customer,
    Path(text): Path<String>,
) -> Result<Response, Refusal> {
    let reference = reference(&text)?;
    parts
        .orders
        .cancel(customer.account, &reference, &parts.catalogue)
        .await?;
    let happening = Happening::Cancelled;
    let event = Event {
        reference,
        happening,
    };
    parts.events.publish(&event).await;
    Ok(Redirect::to(&format!("/orders/{}", event.reference)).into_response())
}

fn reference(text: &str) -> Result<Reference, Refusal> {
    text.parse()
        .map_err(|error| Refusal::bad_request(sentence(&error)))
}

impl From<OrderError> for Refusal {
    fn from(error: OrderError) -> Self {
        let book = match &error {
            OrderError::Book(book) => Some(book),
            // The cache shares the loader's own error.
            OrderError::Read(error) => error.load_error::<BookError>(),
            _ => None,
        };
        match (book, &error) {
            (Some(BookError::NoSuchOrder), _) => {
                Refusal::not_found("You have no order of this reference.")
            }
            (Some(BookError::Empty), _) => Refusal::bad_request("The basket is empty."),
            (
                Some(
                    error @ (BookError::OutOfStock { .. }
                    | BookError::NoSuchProduct(_)
                    | BookError::OnItsWay
                    | BookError::Cancelled
                    | BookError::ReferenceTaken),
                ),
                _,
            ) => Refusal::new(StatusCode::CONFLICT, sentence(error)),
            (_, OrderError::NotPlaced(LockError::InFlight { retry_after })) => Refusal::new(
                StatusCode::CONFLICT,
                "This order is being placed by another window. Look at your orders in a moment.",
            )
            .retry_after(*retry_after),
            (_, OrderError::NotPlaced(LockError::OtherFingerprint)) => Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The basket was changed after this page was made. Look at it again, and order then.",
            ),
            (_, OrderError::Lock(LockError::Taken { .. })) => Refusal::new(
                StatusCode::CONFLICT,
                "Somebody is working on this order. Please try again.",
            ),
            _ => {
                let detail =
                    "Orders cannot be taken at the moment. Send it again: it will be one order.";
                Refusal::unavailable(&error, detail)
            }
        }
    }
}
