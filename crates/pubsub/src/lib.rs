//! Messages between processes: live channels that tell when messages may be missing, durable topics
//! whose messages are handled at least once, and inboxes that keep what a user has not read.
//!
//! Plain publish/subscribe is *at most once*: while a connection is down, and when a subscriber is
//! slower than its publishers, messages are lost, and most clients say nothing. A [`Channel`] says
//! so with [`Event::Gap`], at the place where messages may be missing; with [`Replay`] it fills the
//! gap from a short log. A [`Topic`] keeps its messages until every group of consumers has handled
//! them. An [`Inbox`] keeps the last messages of each user until they are
//! confirmed as read.
//!
//! ```
//! use redkit_pubsub::{Channel, Event, Replay};
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
//! let orders: Channel<String> = Channel::builder(&client, "orders")
//!     .replay(Replay::last(1_000))
//!     .build()?;
//! let mut subscription = orders.subscribe(["ann"]).await?; // the server has confirmed it
//!
//! orders.publish("ann", "packed").await?;
//! match subscription.next().await {
//!     Some(Event::Message(message)) => assert_eq!(message.payload, "packed"),
//!     Some(Event::Gap(reason)) => println!("messages may be missing: {reason}"),
//!     other => println!("{other:?}"),
//! }
//! # Ok(()) }
//! ```
//!
//! `docs/guarantees/pubsub.md` says exactly what holds, and names the test of each promise.

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod channel;
mod error;
mod inbox;
mod metrics;
#[cfg(feature = "axum")]
mod outgoing;
mod page_size;
mod queue;
mod scripts;
#[cfg(feature = "axum")]
pub mod sse;
pub mod topic;
mod unique_id;
#[cfg(feature = "ws")]
pub mod ws;

pub use self::channel::{
    Channel, ChannelBuilder, Event, GapReason, Message, Position, Published, Replay, Subscription,
    Undecodable,
};
pub use self::error::Error;
pub use self::inbox::{
    Batch, Inbox, InboxBuilder, InboxEvent, InboxSubscription, Item, ItemId, NotAnId, Pushed,
    ReadToken,
};
pub use self::queue::Overflow;
pub use self::topic::Topic;
