//! The bounded queue between a subscription's task and its subscriber, and what happens when the
//! subscriber is slower than the messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// What happens to messages for which a slow subscriber has no room. Each time the subscriber is
/// told how many it missed, at the place where they are missing. Other subscribers never notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest that was not read yet is dropped: the subscriber sees the newest.
    #[default]
    DropOldest,
    /// The new one is dropped: the subscriber sees an unbroken beginning.
    DropNewest,
    /// The subscription ends, after what was queued and a last gap.
    Disconnect,
}

/// What is queued: an item, or where so many are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Queued<I> {
    Item(I),
    Missed(u64),
}

pub(crate) struct Queue<I> {
    capacity: usize,
    overflow: Overflow,
    state: Mutex<State<I>>,
}

struct State<I> {
    items: VecDeque<Queued<I>>,
    /// How many of `items` are items: gaps take no room.
    len: usize,
    has_ended: bool,
    waker: Option<Waker>,
}

impl<I> Queue<I> {
    pub(crate) fn new(capacity: usize, overflow: Overflow) -> Arc<Self> {
        Arc::new(Self {
            capacity: capacity.max(1),
            overflow,
            state: Mutex::new(State {
                items: VecDeque::new(),
                len: 0,
                has_ended: false,
                waker: None,
            }),
        })
    }

    /// Queues an item. `false` when the subscription has ended by its policy.
    pub(crate) fn push(&self, item: I) -> bool {
        let mut state = self.state.lock();
        if state.has_ended {
            return false;
        }
        let is_full = state.len >= self.capacity;
        match (is_full, self.overflow) {
            (false, _) => state.append(item),
            (true, Overflow::DropOldest) => {
                state.drop_oldest();
                state.append(item);
            }
            (true, Overflow::DropNewest) => state.miss_newest(),
            (true, Overflow::Disconnect) => {
                state.miss_newest();
                state.has_ended = true;
            }
        }
        let is_going_on = !state.has_ended;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        is_going_on
    }

    /// Queues what must not be dropped and comes seldom: a gap in the source itself.
    pub(crate) fn push_always(&self, item: I) {
        let mut state = self.state.lock();
        if state.has_ended {
            return;
        }
        state.append(item);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// Nothing comes after what is queued.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.has_ended = true;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Queued<I>>> {
        // A subscriber that is never without messages must let other tasks run, too.
        let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        let mut state = self.state.lock();
        match state.items.pop_front() {
            Some(next) => {
                if matches!(next, Queued::Item(_)) {
                    state.len -= 1;
                }
                drop(state);
                turn.made_progress();
                Poll::Ready(Some(next))
            }
            None if state.has_ended => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<I> State<I> {
    fn append(&mut self, item: I) {
        self.items.push_back(Queued::Item(item));
        self.len += 1;
    }

    /// The gap stands at the front, where the dropped item was, and grows.
    fn drop_oldest(&mut self) {
        let mut missed = 1;
        loop {
            match self.items.pop_front() {
                Some(Queued::Missed(more)) => missed += more,
                Some(Queued::Item(_)) => {
                    self.len -= 1;
                    break;
                }
                None => return,
            }
        }
        if let Some(Queued::Missed(more)) = self.items.front_mut() {
            *more += missed;
        } else {
            self.items.push_front(Queued::Missed(missed));
        }
    }

    fn miss_newest(&mut self) {
        if let Some(Queued::Missed(missed)) = self.items.back_mut() {
            *missed += 1;
        } else {
            self.items.push_back(Queued::Missed(1));
        }
    }
}

/// Ends the queue when the task that fills it ends, in whatever way.
pub(crate) struct EndOnDrop<I>(pub(crate) Arc<Queue<I>>);

impl<I> Drop for EndOnDrop<I> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn all(queue: &Queue<u32>) -> Vec<Queued<u32>> {
        let mut seen = Vec::new();
        while let Some(next) = poll_fn(|cx| queue.poll_next(cx)).await {
            seen.push(next);
        }
        seen
    }

    #[tokio::test]
    async fn the_gap_stands_where_messages_are_missing() {
        use Queued::{Item, Missed};
        for (overflow, expected) in [
            (Overflow::DropOldest, vec![Missed(3), Item(4), Item(5)]),
            (Overflow::DropNewest, vec![Item(1), Item(2), Missed(3)]),
            (Overflow::Disconnect, vec![Item(1), Item(2), Missed(1)]),
        ] {
            let queue = Queue::new(2, overflow);
            let accepted: Vec<bool> = (1..=5).map(|n| queue.push(n)).collect();
            assert_eq!(accepted.contains(&false), overflow == Overflow::Disconnect);
            queue.end();
            assert_eq!(all(&queue).await, expected, "{overflow:?}");
        }
    }

    #[tokio::test]
    async fn a_gap_in_the_source_is_never_dropped_and_keeps_its_place() {
        use Queued::{Item, Missed};
        let queue = Queue::new(1, Overflow::DropOldest);
        queue.push(1);
        queue.push_always(100);
        queue.push(2);
        queue.end();
        // The queue holds two for a moment: the one that must not be dropped came by itself.
        assert_eq!(all(&queue).await, [Missed(1), Item(100), Item(2)]);
    }

    #[tokio::test]
    async fn a_subscriber_that_waits_is_woken_by_an_item_and_by_the_end() {
        let queue = Queue::new(4, Overflow::default());
        let reader = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { all(&queue).await }
        });
        tokio::task::yield_now().await;
        queue.push(1);
        tokio::task::yield_now().await;
        drop(EndOnDrop(queue));
        assert_eq!(reader.await.unwrap(), [Queued::Item(1)]);
    }
}
