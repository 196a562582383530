//! Events for browsers, by Server-Sent Events and axum (feature `axum`).
//!
//! A browser that comes back says in `Last-Event-ID` what it has seen last: give it to
//! [`Channel::subscribe_after`](crate::Channel::subscribe_after),
//! [`Inbox::subscribe`](crate::Inbox::subscribe) or [`Topic::read`](crate::Topic::read). An id that the server does not hold any more gives one event
//! `gap`. The response ends with a future of the program, such as a session's revocation.
//!
//! ```
//! use axum::http::HeaderMap;
//! use axum::response::Response;
//! use redkit_pubsub::{Error, Inbox, sse};
//!
//! async fn notes(inbox: Inbox<String>, user: &str, headers: &HeaderMap) -> Result<Response, Error> {
//!     let subscription = inbox.subscribe(user, sse::last_event_id(headers)).await?;
//!     let revoked = std::future::pending(); // the end of the user's session
//!     Ok(sse::of_inbox(subscription, revoked))
//! }
//! ```

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::channel::Subscription;
use crate::inbox::InboxSubscription;
use crate::outgoing::{self, Data, Outgoing};
use crate::topic::LogReader;

/// How often a comment is sent while nothing else is, so that no proxy on the way takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a browser has seen last: the header `Last-Event-ID`. `None` without one, and for one that is no id of
/// this kind.
pub fn last_event_id<I: FromStr>(headers: &HeaderMap) -> Option<I> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// A channel's messages as a response: `message` with the value as JSON and its position as the id, `gap` with the
/// reason, `undecodable` with the error. It ends when the subscription does, or with `until`.
pub fn of_channel<T>(
    subscription: Subscription<T>,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response
where
    T: Serialize + DeserializeOwned + 'static,
{
    respond(outgoing::of_channel(subscription), until)
}

/// A user's items as a response: `message` with the value as JSON and the item's id, `gap`, `undecodable` with the
/// error. It ends when the subscription does, or with `until`.
pub fn of_inbox<T>(
    subscription: InboxSubscription<T>,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response
where
    T: Serialize + DeserializeOwned + 'static,
{
    respond(outgoing::of_inbox(subscription), until)
}

/// A topic's messages as a response: `message` with the value as JSON and the reader's position as the id, `gap`,
/// `undecodable` with the error. It ends when the reader does, or with `until`.
pub fn of_topic<T>(
    reader: LogReader<T>,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response
where
    T: Serialize + DeserializeOwned + 'static,
{
    respond(outgoing::of_log(reader), until)
}

fn event(outgoing: Outgoing) -> SseEvent {
    // A text may have lines, which an event's data may not hold bare; `data` splits them.
    let (Data::Json(data) | Data::Text(data)) = outgoing.data;
    let event = SseEvent::default().event(outgoing.name).data(data);
    match outgoing.id {
        Some(id) => event.id(id),
        None => event,
    }
}

fn respond(
    events: impl Stream<Item = Outgoing> + Send + 'static,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let events = events.map(|outgoing| Ok::<_, Infallible>(event(outgoing)));
    let sse = Sse::new(events.take_until(until));
    let sse = sse.keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let mut response = sse.into_response();
    // Proxies such as nginx would keep events until they have enough of them.
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}
