//! What the tests hear.

use std::time::Duration;

use redkit_pubsub::{Event, GapReason, InboxEvent, InboxSubscription, Item, Message, Subscription};
use serde::de::DeserializeOwned;

pub(crate) async fn next<T: DeserializeOwned>(subscription: &mut Subscription<T>) -> Event<T> {
    tokio::time::timeout(Duration::from_secs(20), subscription.next())
        .await
        .expect("something comes")
        .expect("the subscription goes on")
}

pub(crate) async fn message<T: DeserializeOwned + std::fmt::Debug>(
    subscription: &mut Subscription<T>,
) -> Message<T> {
    match next(subscription).await {
        Event::Message(message) => message,
        other => panic!("a message is expected, not {other:?}"),
    }
}

pub(crate) async fn gap<T: DeserializeOwned + std::fmt::Debug>(
    subscription: &mut Subscription<T>,
) -> GapReason {
    match next(subscription).await {
        Event::Gap(reason) => reason,
        other => panic!("a gap is expected, not {other:?}"),
    }
}

/// The payloads of so many messages, without a gap among them.
pub(crate) async fn payloads<T: DeserializeOwned + std::fmt::Debug>(
    subscription: &mut Subscription<T>,
    count: usize,
) -> Vec<T> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        payloads.push(message(subscription).await.payload);
    }
    payloads
}

/// Nothing comes for a moment.
pub(crate) async fn is_silent<T: DeserializeOwned>(subscription: &mut Subscription<T>) -> bool {
    tokio::time::timeout(Duration::from_millis(50), subscription.next())
        .await
        .is_err()
}

pub(crate) async fn next_item<T: DeserializeOwned>(
    subscription: &mut InboxSubscription<T>,
) -> InboxEvent<Item<T>> {
    tokio::time::timeout(Duration::from_secs(20), subscription.next())
        .await
        .expect("something comes")
        .expect("the subscription goes on")
}

pub(crate) async fn item<T: DeserializeOwned + std::fmt::Debug>(
    subscription: &mut InboxSubscription<T>,
) -> T {
    match next_item(subscription).await {
        InboxEvent::Item(item) => item.value.unwrap(),
        other => panic!("an item is expected, not {other:?}"),
    }
}
