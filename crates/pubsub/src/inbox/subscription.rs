//! [`InboxSubscription`]: a user's items as they come, those that waited first.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Command, GapReason as ConnectionGap, Interest, Push, PushStream, ToArg};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::{Inbox, Item, ItemId};
use crate::error::Error;
use crate::scripts::{InboxKeys, RawItem};

/// A connected user: first what waits in the inbox, then each item as it is pushed, without loss or doubles
/// in between, and over reconnections. Items stay in the inbox until they are confirmed
/// ([`Inbox::confirm_up_to`]).
///
/// The subscriber reads at its own pace. What it is too slow for stays in the inbox and comes from there.
pub struct InboxSubscription<T> {
    inbox: Inbox<T>,
    keys: InboxKeys,
    pushes: PushStream,
    /// The last item that was queued in `waiting`.
    position: Option<ItemId>,
    number: u64,
    /// The inbox's epoch, once it is known.
    epoch: Option<u64>,
    /// Read from the inbox or received live, to be handed on.
    waiting: VecDeque<InboxEvent<RawItem>>,
    /// Whether the inbox may hold more than was queued.
    must_catch_up: bool,
}

/// What an [`InboxSubscription`] yields.
#[derive(Debug)]
#[non_exhaustive]
pub enum InboxEvent<I> {
    /// An item.
    Item(I),
    /// Items were dropped unread behind the last one that was handed on: the inbox was full, or was
    /// lost.
    Gap,
}

/// How many items are read at once.
const PAGE: u32 = 100;

impl<T: DeserializeOwned> Inbox<T> {
    /// Subscribes to a user's inbox: what waits behind `after` (everything, without one), then what comes.
    /// The server has confirmed the subscription when this returns.
    ///
    /// # Errors
    /// [`Error::Core`] when the server refused (a missing right is named) or did not confirm in time.
    pub async fn subscribe(
        &self,
        user: impl ToArg,
        after: Option<ItemId>,
    ) -> Result<InboxSubscription<T>, Error> {
        let keys = self.inner.keys_of(user);
        let interest = Interest::Channels(vec![keys.live.to_bytes()]);
        let pushes = self.inner.client.subscribe(interest).await?;
        Ok(InboxSubscription {
            inbox: self.clone(),
            keys,
            pushes,
            position: after,
            number: 0,
            epoch: None,
            waiting: VecDeque::new(),
            must_catch_up: true,
        })
    }
}

impl<T: DeserializeOwned> InboxSubscription<T> {
    /// The next event; `None` when the client was shut down, or the server refuses for good to go on.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<InboxEvent<Item<T>>> {
        const LEAST: Duration = Duration::from_millis(50);
        const MOST: Duration = Duration::from_secs(1);
        let mut pause = LEAST;
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(self.hand_on(event));
            }
            if self.must_catch_up {
                match self.catch_up().await {
                    Ok(()) => pause = LEAST,
                    Err(error) if error.is_retryable() => {
                        sleep(pause).await;
                        pause = (pause * 2).min(MOST);
                    }
                    Err(error) => {
                        tracing::warn!(target: "redkit::pubsub", %error, "the inbox cannot be read");
                        return None;
                    }
                }
                continue;
            }
            match self.pushes.next().await? {
                Push::Message { payload, .. } => self.receive(&payload),
                // It is made up for when the subscription stands again.
                Push::Gap(ConnectionGap::Lost) => {}
                Push::Gap(_) => self.must_catch_up = true,
                _ => {}
            }
        }
    }

    fn hand_on(&self, event: InboxEvent<RawItem>) -> InboxEvent<Item<T>> {
        match event {
            InboxEvent::Item(item) => {
                InboxEvent::Item(self.inbox.inner.open(&self.keys.items, item))
            }
            InboxEvent::Gap => InboxEvent::Gap,
        }
    }

    fn queue(&mut self, item: RawItem) {
        self.position = Some(item.id);
        self.number = item.number;
        self.waiting.push_back(InboxEvent::Item(item));
    }

    /// A live item: the next one is queued, one that was queued already is not, and behind a hole the
    /// inbox is read.
    fn receive(&mut self, payload: &Bytes) {
        let Some(item) = read_live(payload) else {
            return;
        };
        match (self.epoch, self.position) {
            (Some(epoch), Some(position)) if epoch == item.epoch && item.id <= position => {}
            (Some(epoch), Some(_)) if epoch == item.epoch && item.number == self.number + 1 => {
                self.queue(item);
            }
            // The first one, or some are missing, or the inbox was lost.
            _ => self.must_catch_up = true,
        }
    }

    /// Reads a page behind the last item that was queued.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let inner = &self.inbox.inner;
        let state = Command::new("HMGET")
            .key(&self.keys.state)
            .arg("e")
            .arg("d");
        // Before the items: what is dropped later is seen the next time.
        let (epoch, dropped): (Option<u64>, Option<ItemId>) = inner.client.call(state).await?;
        let known = self.epoch;
        // An id that is older than the inbox is of one that was lost, or ran out, before this subscription.
        let is_of_another = |after: ItemId, epoch: u64| after.millis() < epoch / 1000;
        let was_lost = match (known, epoch) {
            (Some(known), Some(epoch)) => known != epoch,
            (None, Some(epoch)) => self
                .position
                .is_some_and(|after| is_of_another(after, epoch)),
            (_, None) => false,
        };
        if was_lost {
            // Ids may begin before the last one that was queued.
            self.position = None;
        }
        let is_behind = self.position.is_some() && dropped > self.position;
        let page = inner.range(&self.keys.items, self.position, PAGE).await?;
        if was_lost || is_behind {
            self.waiting.push_back(InboxEvent::Gap);
            self.position = self.position.max(dropped);
        }
        self.epoch = epoch.or(known);
        self.must_catch_up = page.len() >= PAGE as usize;
        for item in page {
            match was_lost && Some(item.epoch) == known {
                // Only the state was lost, and this one was queued.
                true => self.position = Some(item.id),
                false => self.queue(item),
            }
        }
        Ok(())
    }
}

/// `<epoch> <id> <number>\n<item>`.
fn read_live(payload: &Bytes) -> Option<RawItem> {
    let end = payload.iter().position(|&byte| byte == b'\n')?;
    let mut head = std::str::from_utf8(payload.get(..end)?).ok()?.split(' ');
    Some(RawItem {
        epoch: head.next()?.parse().ok()?,
        id: head.next()?.parse().ok()?,
        number: head.next()?.parse().ok()?,
        raw: payload.slice(end + 1..),
    })
}

impl<T> std::fmt::Debug for InboxSubscription<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboxSubscription")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
