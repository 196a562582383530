//! Who a visitor is: the address that limits count by, and the customer whose session it is.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{ACCEPT, COOKIE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use redkit::ratelimit::tower::{ClientAddress, KeyExtractor};
use redkit::session::tower::CurrentSession;

use crate::context::{self, Pattern, Viewer};
use crate::format::Format;
use crate::orders::Basket;
use crate::refusal::Refusal;

/// The entries of a session.
pub(super) const NAME: &str = "name";
pub(super) const STAFF: &str = "staff";
pub(super) const BASKET: &str = "basket";

/// What limits by address count by.
#[derive(Debug, Clone)]
pub(super) struct Address(pub(super) Vec<u8>);

/// A customer who is signed in. A handler that takes one is not reached without: a person is sent to the sign-in page,
/// a program gets 401.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) account: i64,
    pub(super) session: CurrentSession,
}

/// A customer who works here; anybody else gets 403.
#[derive(Debug, Clone)]
pub(super) struct Staff;

/// Middleware: finds the visitor's address.
pub(super) async fn find_address(
    State(addresses): State<ClientAddress>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    // Without one, which the limits would refuse, all count together.
    let address = addresses.key(&parts).unwrap_or_else(|| b"unknown".to_vec());
    parts.extensions.insert(Address(address));
    next.run(Request::from_parts(parts, body)).await
}

/// Middleware: tells the page who looks at it. A visitor without a cookie costs no round trip.
pub(super) async fn view(session: CurrentSession, request: Request, next: Next) -> Response {
    if request.headers().contains_key(COOKIE) {
        match find_viewer(&session).await {
            Ok(()) => {}
            // The layer answers for it.
            Err(error) => return Refusal::from(error).into_response(),
        }
    }
    next.run(request).await
}

async fn find_viewer(session: &CurrentSession) -> Result<(), redkit::session::Error> {
    let user = session.user().await?;
    context::note(
        Pattern::Session,
        match user {
            Some(_) => "loaded, checked and touched in one round trip",
            None => "no user",
        },
    );
    let basket: Option<Basket> = session.get(BASKET).await?;
    context::set_basket(basket.map_or(0, |basket| basket.units()));
    if user.is_some() {
        context::set_viewer(Viewer {
            name: session.get(NAME).await?.unwrap_or_default(),
            is_staff: session.get(STAFF).await?.unwrap_or_default(),
        });
    }
    Ok(())
}

impl<S: Sync> FromRequestParts<S> for Customer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let session = CurrentSession::from_request_parts(parts, state)
            .await
            .map_err(IntoResponse::into_response)?;
        let user = session.user().await;
        match user.map_err(|error| Refusal::from(error).into_response())? {
            Some(user) => {
                let account = user.parse().map_err(|_| {
                    Refusal::bad_request("The session is not one of this shop's.").into_response()
                })?;
                Ok(Self { account, session })
            }
            None => Err(stranger(parts)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Staff {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let customer = Customer::from_request_parts(parts, state).await?;
        let is_staff = customer.session.get(STAFF).await;
        match is_staff.map_err(|error| Refusal::from(error).into_response())? {
            Some(true) => Ok(Self),
            _ => {
                let detail = "This is for those who work here.";
                Err(Refusal::new(StatusCode::FORBIDDEN, detail).into_response())
            }
        }
    }
}

/// The answer to somebody who is not signed in.
fn stranger(parts: &Parts) -> Response {
    let is_stream = parts
        .headers
        .get(ACCEPT)
        .is_some_and(|accept| accept == "text/event-stream");
    if Format::of(&parts.headers) == Format::Html && !is_stream {
        let back = match parts.method {
            Method::GET => parts.uri.path(),
            _ => "/",
        };
        return Redirect::to(&format!("/sign-in?next={back}")).into_response();
    }
    let detail = "Sign in first.";
    let mut response = Refusal::new(StatusCode::UNAUTHORIZED, detail).into_response();
    let scheme = HeaderValue::from_static("Cookie form-action=\"/sign-in\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}
