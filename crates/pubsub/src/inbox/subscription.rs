//! [`InboxSubscription`]: a user's items as they come, those that waited first.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use redkit_core::{GapReason as ConnectionGap, Interest, Push, PushStream, ToArg};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::{Inbox, Item, ItemId};
use crate::error::Error;
use crate::page_size::PageSize;
use crate::scripts::{self, InboxKeys, RawItem};

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
    /// The last items that were queued, with their epochs.
    queued: VecDeque<(u64, ItemId)>,
    /// Where `queued` begins, and else the subscription.
    begin: Option<ItemId>,
    /// The inbox's epoch, once it is known.
    epoch: Option<u64>,
    /// The last item that the inbox had dropped when the subscription looked first; `None` before that.
    dropped_before: Option<Option<ItemId>>,
    /// The greatest item of which a push told and that was not queued, with its epoch.
    heard: Option<(u64, ItemId)>,
    /// Read from the inbox or received live, to be handed on.
    waiting: VecDeque<InboxEvent<RawItem>>,
    /// Whether the inbox may hold more than was queued.
    must_catch_up: bool,
    page: PageSize,
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

/// How many items are read at once at most.
const PAGE: usize = 100;

/// How many of the items that were queued are known again, when a server took over that had lost the last of them.
const MOST_QUEUED: usize = 256;

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
            queued: VecDeque::new(),
            begin: after,
            epoch: None,
            dropped_before: None,
            heard: None,
            waiting: VecDeque::new(),
            must_catch_up: true,
            page: PageSize::new(),
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
                self.hear();
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
            let push = self.pushes.next().await?;
            self.take(push);
        }
    }

    /// Takes the pushes that are there. An item is in the inbox before a push tells of it: the page that is read next has
    /// what these tell of, and need not be read again for each of them.
    fn hear(&mut self) {
        while let Some(Some(push)) = self.pushes.next().now_or_never() {
            self.take(push);
        }
    }

    fn take(&mut self, push: Push) {
        match push {
            Push::Message { payload, .. } => self.receive(&payload),
            // It is made up for when the subscription stands again.
            Push::Gap(ConnectionGap::Lost) => {}
            Push::Gap(_) => self.must_catch_up = true,
            _ => {}
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
        if self.queued.len() >= MOST_QUEUED
            && let Some((_, oldest)) = self.queued.pop_front()
        {
            self.begin = Some(oldest);
        }
        self.queued.push_back((item.epoch, item.id));
        self.waiting.push_back(InboxEvent::Item(item));
    }

    fn was_queued(&self, item: &RawItem) -> bool {
        self.queued.contains(&(item.epoch, item.id))
    }

    /// A live item: the next one is queued, one that was queued already is not, and behind a hole the
    /// inbox is read. Until it is read no item is queued: those of the hole are to come first.
    fn receive(&mut self, payload: &Bytes) {
        let Some(item) = read_live(payload) else {
            return;
        };
        match (self.epoch, self.position) {
            (Some(epoch), Some(position))
                if !self.must_catch_up
                    && epoch == item.epoch
                    && item.number == self.number + 1
                    && item.id > position =>
            {
                self.queue(item);
            }
            _ if self.was_queued(&item) => {}
            // The first one, or some are missing, or the inbox was lost, or its last items: then ids and numbers come again.
            _ => {
                self.must_catch_up = true;
                // Should the inbox be lost before it is read, it is known by this.
                if self.position.is_none() {
                    self.epoch = self.epoch.or(Some(item.epoch));
                }
                self.heard = self.heard.max(Some((item.epoch, item.id)));
            }
        }
    }

    /// Reads a page behind the last item that was queued. Nothing changes before the page is there: a caller may drop this
    /// any time.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let inner = &self.inbox.inner;
        let (after, known) = (self.position, self.epoch);
        let most = self.page.of(PAGE);
        let count = u32::try_from(most).unwrap_or(u32::MAX);
        let page = scripts::inbox_page(&inner.client, &self.keys, after, known, count);
        let page = page.await.map_err(Error::from);
        if page.as_ref().is_err_and(Error::is_maybe) {
            self.page.was_lost(most);
        }
        let page = page?;
        self.page.came();
        let was_lost = page.is_of_another;
        let heard = self
            .heard
            .take()
            .filter(|(epoch, _)| page.epoch == Some(*epoch));
        let known_of = after.max(heard.map(|(_, id)| id));
        let has_gone_back = !was_lost && page.last.is_some_and(|last| known_of > Some(last));
        // Whoever begins with what waits does not miss what had been dropped before.
        if was_lost {
            self.dropped_before = None;
        }
        let dropped_before = *self.dropped_before.get_or_insert(page.dropped);
        let is_behind = !was_lost && page.dropped > after.or(dropped_before);
        if was_lost {
            // Ids may begin before the last one that was queued.
            self.begin = None;
            self.position = page.dropped;
        } else if has_gone_back {
            // A server took over that does not have the last items. Some of those that it has may be new to the subscriber,
            // and their ids not greater than the ones that were lost: the inbox is read from where `queued` begins.
            self.begin = self.begin.filter(|&begin| Some(begin) <= page.last);
            self.position = self.begin.max(page.dropped);
        } else if is_behind {
            self.position = page.dropped;
        }
        if was_lost || has_gone_back || is_behind {
            self.waiting.push_back(InboxEvent::Gap);
        }
        self.epoch = page.epoch.or(known);
        self.must_catch_up = has_gone_back || page.items.len() >= most;
        if has_gone_back {
            return Ok(());
        }
        for item in page.items {
            // It was queued when only the state was lost, or the last items.
            let is_of_known = was_lost && after.is_some() && Some(item.epoch) == known;
            match is_of_known || self.was_queued(&item) {
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
