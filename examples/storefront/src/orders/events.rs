//! What happens to orders, told through a durable topic: published from the database's outbox, so that nothing that
//! was committed stays untold, and handled by one process of the fleet.

use std::sync::Arc;
use std::time::Duration;

use redkit::Client;
use redkit::core::inspection::Snapshot;
use redkit::pubsub::topic::{Deduplication, Delivery, Outcome, Publication, Topic, Worker};
use serde::{Deserialize, Serialize};

use super::{Orders, Reference};
use crate::context::{self, Pattern};
use crate::notifications::Notifications;

/// The group that handles orders.
const GROUP: &str = "packing";

/// Something that happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) reference: Reference,
    pub(crate) happening: Happening,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Happening {
    Placed,
    Cancelled,
}

impl Happening {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Happening::Placed => "placed",
            Happening::Cancelled => "cancelled",
        }
    }
}

impl Event {
    /// What it is known by: published twice it is told once, and a customer's browser shows it once.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}", self.reference, self.happening.as_str())
    }
}

/// The events of all orders.
#[derive(Clone)]
pub(crate) struct Events {
    topic: Topic<Event>,
    /// How long an order waits before it is packed, so that its customer may cancel it.
    ship_after: Duration,
}

impl Events {
    /// The events in the client's namespace.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(crate) fn new(
        client: &Client,
        ship_after: Duration,
    ) -> Result<Self, redkit::pubsub::Error> {
        Ok(Self {
            topic: Topic::builder(client, "orders").build()?,
            ship_after,
        })
    }

    /// Publishes an event. Where that fails [`relay`](Self::relay) makes up for it.
    pub(crate) async fn publish(&self, event: &Event) {
        let delay = match event.happening {
            Happening::Placed => self.ship_after,
            Happening::Cancelled => Duration::ZERO,
        };
        let publication = Publication::new()
            .id(event.id())
            .deduplicate(Deduplication::UntilDone);
        let publication = match delay.is_zero() {
            true => publication,
            false => publication.delay(delay),
        };
        match self.topic.publish_with(event, publication).await {
            Ok(_) => context::note(
                Pattern::Topic,
                match delay.is_zero() {
                    true => format!("`{}` published", event.happening.as_str()),
                    false => format!(
                        "`{}` published, to be packed in {delay:?}",
                        event.happening.as_str()
                    ),
                },
            ),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an order's event is published later"
            ),
        }
    }

    /// Publishes what stands in the outbox for longer than it should, under the ids of before: what was published is
    /// not published again, and what Redis has lost is.
    pub(crate) async fn relay(&self, orders: &Orders) {
        const SLACK: Duration = Duration::from_secs(3);
        match orders.book().untold(SLACK).await {
            Ok(events) => {
                for event in &events {
                    self.publish(event).await;
                }
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the outbox cannot be read"
            ),
        }
    }

    /// Starts to handle events, in this process among others.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub(crate) async fn start(
        &self,
        orders: Orders,
        notifications: Notifications,
    ) -> Result<Worker, redkit::pubsub::Error> {
        let work = Arc::new((orders, notifications));
        self.topic
            .consumer(GROUP)
            .concurrency(4)
            .lease(Duration::from_secs(3))
            .backoff(Duration::from_millis(200), Duration::from_secs(30))
            .max_attempts(30)
            .start(move |delivery: Delivery<Event>| {
                let work = Arc::clone(&work);
                async move {
                    let (orders, notifications) = &*work;
                    match orders.handle(&delivery.payload, notifications).await {
                        Ok(()) => Outcome::Ack,
                        Err(error) => {
                            tracing::warn!(
                                error = &error as &dyn std::error::Error,
                                attempt = delivery.attempt,
                                "an order's event waits for another attempt"
                            );
                            Outcome::retry(crate::with_causes(&error))
                        }
                    }
                }
            })
            .await
    }

    /// How the group stands, for the alerts.
    ///
    /// # Errors
    /// A text.
    pub(crate) async fn figures(&self) -> Result<Snapshot, String> {
        let stats = self
            .topic
            .stats(GROUP)
            .await
            .map_err(|error| error.to_string())?;
        let oldest = stats.oldest_pending.unwrap_or_default();
        Ok(Snapshot::default()
            .fact("oldest_pending", oldest)
            .fact("dead_letters", stats.dead)
            .fact("consumers", stats.live_workers))
    }
}
