//! What browsers are sent, by Server-Sent Events and by WebSocket alike.

use futures_util::stream::{Stream, unfold};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::channel::{Event, Subscription};
use crate::inbox::{InboxEvent, InboxSubscription};
use crate::topic::{LogEvent, LogReader};

/// An event on its way to a browser.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) name: &'static str,
    /// Behind which a browser goes on that comes back.
    pub(crate) id: Option<String>,
    pub(crate) data: Data,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// A value, as JSON.
    Json(String),
    /// A text for people.
    Text(String),
}

impl Outgoing {
    fn message<T: Serialize>(value: &T) -> Self {
        match serde_json::to_string(value) {
            Ok(json) => Self {
                name: "message",
                id: None,
                data: Data::Json(json),
            },
            Err(error) => Self::undecodable(&error),
        }
    }

    fn undecodable(error: &impl ToString) -> Self {
        Self {
            name: "undecodable",
            id: None,
            data: Data::Text(error.to_string()),
        }
    }

    fn gap(reason: impl ToString) -> Self {
        Self {
            name: "gap",
            id: None,
            data: Data::Text(reason.to_string()),
        }
    }

    fn with_id(mut self, id: Option<impl ToString>) -> Self {
        self.id = id.map(|id| id.to_string());
        self
    }
}

pub(crate) fn of_channel<T>(subscription: Subscription<T>) -> impl Stream<Item = Outgoing> + Send
where
    T: Serialize + DeserializeOwned + 'static,
{
    unfold(subscription, |mut subscription| async move {
        let outgoing = match subscription.next().await? {
            Event::Message(message) => {
                Outgoing::message(&message.payload).with_id(message.position)
            }
            Event::Gap(reason) => Outgoing::gap(reason),
            Event::Undecodable(message) => {
                Outgoing::undecodable(&message.error).with_id(message.position)
            }
        };
        Some((outgoing, subscription))
    })
}

pub(crate) fn of_inbox<T>(subscription: InboxSubscription<T>) -> impl Stream<Item = Outgoing> + Send
where
    T: Serialize + DeserializeOwned + 'static,
{
    unfold(subscription, |mut subscription| async move {
        let outgoing = match subscription.next().await? {
            InboxEvent::Item(item) => match &item.value {
                Ok(value) => Outgoing::message(value),
                Err(error) => Outgoing::undecodable(error),
            }
            .with_id(Some(item.id)),
            InboxEvent::Gap => Outgoing::gap("items were dropped unread"),
        };
        Some((outgoing, subscription))
    })
}

pub(crate) fn of_log<T>(reader: LogReader<T>) -> impl Stream<Item = Outgoing> + Send
where
    T: Serialize + DeserializeOwned + 'static,
{
    unfold(reader, |mut reader| async move {
        let outgoing = match reader.next().await? {
            LogEvent::Message(message) => {
                Outgoing::message(&message.payload).with_id(Some(message.position))
            }
            LogEvent::Gap { position, .. } => {
                Outgoing::gap("the log does not reach back to the last message")
                    .with_id(Some(position))
            }
            LogEvent::Undecodable { position, error } => {
                Outgoing::undecodable(&error).with_id(Some(position))
            }
        };
        Some((outgoing, reader))
    })
}
