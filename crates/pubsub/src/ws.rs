//! Events for browsers, by WebSocket and axum (feature `ws`).
//!
//! Each event is a text, a JSON object with `event` (`message`, `gap` or `undecodable`), `data`, and, where a browser
//! that comes back can go on behind it, `id`. A browser cannot send headers with a WebSocket: it gives the last id in
//! the address, say. What a browser sends is not looked at.
//!
//! A connection is closed with the status 1008 when a future of the program resolves, such as a session's revocation;
//! with 1001 when the subscription ends; and when the browser has not answered a ping of 15 s before, or takes longer
//! than 15 s for one event.
//!
//! ```
//! use axum::extract::ws::WebSocketUpgrade;
//! use axum::response::Response;
//! use redkit_pubsub::{Error, Inbox, ws};
//!
//! async fn notes(
//!     upgrade: WebSocketUpgrade, inbox: Inbox<String>, user: &str, last: Option<&str>,
//! ) -> Result<Response, Error> {
//!     let last = last.and_then(|id| id.parse().ok());
//!     let subscription = inbox.subscribe(user, last).await?;
//!     let revoked = std::future::pending(); // the end of the user's session
//!     Ok(ws::of_inbox(upgrade, subscription, revoked))
//! }
//! ```
//!
//! Browsers let other sites' pages open WebSockets with the user's cookies: check `Origin` before the upgrade.

use std::pin::pin;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::channel::Subscription;
use crate::inbox::InboxSubscription;
use crate::outgoing::{self, Data, Outgoing};
use crate::topic::LogReader;

/// How often a ping is sent, and how long an event may take.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// A channel's messages, until the subscription ends, or `until` resolves. Ids are positions.
pub fn of_channel<T>(
    upgrade: WebSocketUpgrade,
    subscription: Subscription<T>,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response
where
    T: Serialize + DeserializeOwned + 'static,
{
    respond(upgrade, outgoing::of_channel(subscription), until)
}

/// A user's items, until the subscription ends, or `until` resolves.
pub fn of_inbox<T>(
    upgrade: WebSocketUpgrade,
    subscription: InboxSubscription<T>,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response
where
    T: Serialize + DeserializeOwned + 'static,
{
    respond(upgrade, outgoing::of_inbox(subscription), until)
}

/// A topic's messages, until the reader ends, or `until` resolves. Ids are the reader's positions.
pub fn of_topic<T>(
    upgrade: WebSocketUpgrade,
    reader: LogReader<T>,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response
where
    T: Serialize + DeserializeOwned + 'static,
{
    respond(upgrade, outgoing::of_log(reader), until)
}

fn respond(
    upgrade: WebSocketUpgrade,
    events: impl Stream<Item = Outgoing> + Send + 'static,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response {
    // What browsers send is not looked at, so it need not be large.
    let upgrade = upgrade.max_message_size(4096).max_frame_size(4096);
    upgrade.on_upgrade(move |socket| serve(socket, events, until))
}

async fn serve(
    mut socket: WebSocket,
    events: impl Stream<Item = Outgoing> + Send,
    until: impl Future<Output = ()> + Send,
) {
    let (mut events, mut until) = (pin!(events), pin!(until));
    let mut pings = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_answered = true;
    let (code, reason) = loop {
        let message = tokio::select! {
            biased;
            () = &mut until => break (close_code::POLICY, "the program has ended it"),
            incoming = socket.recv() => match incoming {
                // Answered by the library.
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return,
                Some(Ok(_)) => {
                    has_answered = true;
                    continue;
                }
            },
            _ = pings.tick() => {
                if !std::mem::take(&mut has_answered) {
                    return;
                }
                Message::Ping(Bytes::new())
            }
            event = events.next() => match event {
                Some(outgoing) => Message::Text(text(outgoing).into()),
                None => break (close_code::AWAY, "the subscription has ended"),
            },
        };
        tokio::select! {
            biased;
            () = &mut until => break (close_code::POLICY, "the program has ended it"),
            sent = timeout(HEARTBEAT, socket.send(message)) => match sent {
                Ok(Ok(())) => {}
                // Gone, or too slow to be told so.
                Ok(Err(_)) | Err(_) => return,
            },
        }
    };
    let close = Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }));
    // A browser that does not read is not waited for.
    let _ = timeout(FAREWELL, socket.send(close)).await;
}

fn text(outgoing: Outgoing) -> String {
    let data = match outgoing.data {
        Data::Json(json) => json,
        Data::Text(text) => quoted(&text),
    };
    let name = outgoing.name;
    match outgoing.id {
        Some(id) => format!(r#"{{"event":"{name}","id":{},"data":{data}}}"#, quoted(&id)),
        None => format!(r#"{{"event":"{name}","data":{data}}}"#),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_json_object() {
        let of = |id: Option<&str>, data| {
            text(Outgoing {
                name: "gap",
                id: id.map(str::to_owned),
                data,
            })
        };
        assert_eq!(
            of(Some("7-1:2"), Data::Json("[1]".to_owned())),
            r#"{"event":"gap","id":"7-1:2","data":[1]}"#
        );
        assert_eq!(
            of(None, Data::Text("a \"b\"\n".to_owned())),
            r#"{"event":"gap","data":"a \"b\"\n"}"#
        );
    }
}
