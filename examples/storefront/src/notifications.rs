//! What customers are told: an inbox each, which holds what comes while they are away, and hands on what comes while
//! they are connected.

use redkit::Client;
use redkit::pubsub::{Error, Inbox, InboxSubscription, Item, ItemId};
use serde::{Deserialize, Serialize};

use crate::context::{self, Pattern};
use crate::orders::{Event, Happening};

/// How many notifications an inbox keeps.
pub(crate) const KEPT: u32 = 100;

/// One notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notification {
    /// What it is known by. A worker that died after it had told a customer tells it again: the inbox knows the id
    /// for a while, and later whoever shows notifications shows one of each id.
    pub(crate) id: String,
    pub(crate) text: String,
    /// A page of the shop.
    pub(crate) link: Option<String>,
}

impl Notification {
    /// About an order.
    pub(crate) fn about(event: &Event) -> Self {
        let text = match event.happening {
            Happening::Placed => "Your order is packed and on its way.",
            Happening::Cancelled => "Your order is cancelled. Nothing will be charged.",
        };
        Self {
            id: event.id(),
            text: text.to_owned(),
            link: Some(format!("/orders/{}", event.reference)),
        }
    }

    /// An announcement of the shop's.
    pub(crate) fn announcement(text: &str) -> Self {
        Self {
            id: format!("announcement-{:016x}", rand::random::<u64>()),
            text: text.to_owned(),
            link: None,
        }
    }
}

/// The inboxes. Clones share everything.
#[derive(Clone)]
pub(crate) struct Notifications {
    inbox: Inbox<Notification>,
}

impl Notifications {
    /// The inboxes in the client's namespace.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(crate) fn new(client: &Client) -> Result<Self, Error> {
        let inbox = Inbox::builder(client, "notifications").capacity(KEPT);
        Ok(Self {
            inbox: inbox.build()?,
        })
    }

    /// Tells one customer.
    ///
    /// # Errors
    /// When it may not be stored.
    pub(crate) async fn send(&self, account: i64, note: &Notification) -> Result<(), Error> {
        let pushed = self.inbox.push_once(account, &note.id, note).await;
        pushed.map(|_| ())
    }

    /// Tells several, in one round trip for a few hundred of them. Gives how many were told.
    ///
    /// # Errors
    /// When nothing is known of any of a batch.
    pub(crate) async fn broadcast(
        &self,
        accounts: &[i64],
        note: &Notification,
    ) -> Result<usize, Error> {
        let mut told = 0;
        for batch in accounts.chunks(500) {
            let accounts = batch.iter().copied();
            let pushed = self
                .inbox
                .push_once_to_many(accounts, &note.id, note)
                .await?;
            told += pushed.iter().filter(|pushed| pushed.is_ok()).count();
        }
        context::note(Pattern::Inbox, format!("{told} inboxes filled in batches"));
        Ok(told)
    }

    /// Follows a customer's inbox: what waits behind `after`, and then what comes.
    ///
    /// # Errors
    /// When Redis does not confirm it.
    pub(crate) async fn follow(
        &self,
        account: i64,
        after: Option<ItemId>,
    ) -> Result<InboxSubscription<Notification>, Error> {
        self.inbox.subscribe(account, after).await
    }

    /// What waits, the oldest first, each once. Nothing is taken out.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub(crate) async fn waiting(&self, account: i64) -> Result<Vec<Item<Notification>>, Error> {
        let mut items = self.inbox.page(account, None, KEPT).await?;
        let mut seen = std::collections::HashSet::new();
        items.retain(|item| match &item.value {
            Ok(note) => seen.insert(note.id.clone()),
            Err(_) => true,
        });
        context::note(
            Pattern::Inbox,
            format!("{} waiting, none taken out", items.len()),
        );
        Ok(items)
    }

    /// Takes out what the customer has seen: everything up to this item. What came since stays.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub(crate) async fn seen(&self, account: i64, last: ItemId) -> Result<u64, Error> {
        let removed = self.inbox.confirm_up_to(account, last).await?;
        context::note(Pattern::Inbox, format!("{removed} taken out as read"));
        Ok(removed)
    }
}
