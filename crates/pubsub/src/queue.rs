//! The bounded queue between a subscription's task and its subscriber, and what happens when the
//! subscriber is slower than the messages.

use std::collections::VecDeque;
use std::future::poll_fn;
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
    /// The subscription ends, after what was queued and a last gap. A subscription with
    /// [`Replay`](crate::Replay) whose messages wait in the log for room ends as well, without a gap, once its subscriber has
    /// read nothing for a minute: its program goes on behind the last position of each key, with a
    /// [`subscribe_after`](crate::Channel::subscribe_after) for each.
    Disconnect,
}

/// One entry of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Queued<I> {
    /// An item, which a full queue may drop.
    Item(I),
    /// An item that is never dropped: a gap of the source itself.
    Kept(I),
    /// Here so many items were dropped.
    Missed(u64),
}

pub(crate) struct Queue<I> {
    capacity: usize,
    overflow: Overflow,
    state: Mutex<State<I>>,
}

struct State<I> {
    entries: VecDeque<Queued<I>>,
    /// How many of the entries may be dropped: the others take no room.
    len: usize,
    has_ended: bool,
    /// How many entries the subscriber has read.
    read: u64,
    waker: Option<Waker>,
    /// How much room the task that fills the queue waits for.
    wanted: usize,
    wants_room: Option<Waker>,
}

impl<I> Queue<I> {
    pub(crate) fn new(capacity: usize, overflow: Overflow) -> Arc<Self> {
        Arc::new(Self {
            capacity: capacity.max(1),
            overflow,
            state: Mutex::new(State {
                entries: VecDeque::new(),
                len: 0,
                has_ended: false,
                read: 0,
                waker: None,
                wanted: 0,
                wants_room: None,
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

    /// Queues an item that is never dropped. It stands for those since the last message, so that a
    /// subscriber that reads nothing has no more of them than messages.
    pub(crate) fn push_kept(&self, item: I) {
        let mut state = self.state.lock();
        if state.has_ended {
            return;
        }
        let mut missed = 0;
        while let Some(last) = state.entries.pop_back() {
            match last {
                Queued::Kept(_) => {}
                Queued::Missed(more) => missed += more,
                Queued::Item(message) => {
                    state.entries.push_back(Queued::Item(message));
                    break;
                }
            }
        }
        if missed > 0 {
            state.entries.push_back(Queued::Missed(missed));
        }
        state.entries.push_back(Queued::Kept(item));
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// How many entries the subscriber has read.
    pub(crate) fn read_count(&self) -> u64 {
        self.state.lock().read
    }

    /// Whether there is room for so many items now.
    pub(crate) fn has_room(&self, wanted: usize) -> bool {
        self.capacity - self.state.lock().len >= wanted.min(self.capacity)
    }

    /// Waits until there is room for so many items, which are no more than the capacity, or the queue has ended. One task
    /// waits at a time.
    pub(crate) async fn room(&self, wanted: usize) {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.has_ended || self.capacity - state.len >= wanted.min(self.capacity) {
                return Poll::Ready(());
            }
            state.wanted = wanted.min(self.capacity);
            state.wants_room = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Nothing comes after what is queued.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.has_ended = true;
        let wakers = [state.waker.take(), state.wants_room.take()];
        drop(state);
        wakers.into_iter().for_each(wake);
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Queued<I>>> {
        // A subscriber that is never without messages must let other tasks run, too.
        let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        let mut state = self.state.lock();
        match state.entries.pop_front() {
            Some(next) => {
                state.read += 1;
                if matches!(next, Queued::Item(_)) {
                    state.len -= 1;
                }
                let has_room = self.capacity - state.len >= state.wanted;
                let filler = has_room.then(|| state.wants_room.take()).flatten();
                drop(state);
                wake(filler);
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
        self.entries.push_back(Queued::Item(item));
        self.len += 1;
    }

    /// Drops the first item. Before the next one stand then how many are missing, and the last of the
    /// entries that are never dropped.
    fn drop_oldest(&mut self) {
        let (mut missed, mut kept, mut is_dropped) = (1, None, false);
        // What stands before the item, and what comes between it and the next one.
        while let Some(entry) = self.entries.pop_front() {
            match entry {
                Queued::Item(item) if is_dropped => {
                    self.entries.push_front(Queued::Item(item));
                    break;
                }
                Queued::Item(_) => {
                    self.len -= 1;
                    is_dropped = true;
                }
                Queued::Kept(item) => kept = Some(item),
                Queued::Missed(more) => missed += more,
            }
        }
        if let Some(item) = kept {
            self.entries.push_front(Queued::Kept(item));
        }
        self.entries.push_front(Queued::Missed(missed));
    }

    fn miss_newest(&mut self) {
        if let Some(Queued::Missed(missed)) = self.entries.back_mut() {
            *missed += 1;
        } else {
            self.entries.push_back(Queued::Missed(1));
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
    async fn a_gap_of_the_source_is_never_dropped_and_keeps_its_place() {
        use Queued::{Item, Kept, Missed};
        let queue = Queue::new(2, Overflow::DropOldest);
        queue.push(1);
        queue.push_kept(100);
        queue.push(2);
        queue.push(3);
        queue.push_kept(101);
        queue.push(4);
        queue.end();
        assert_eq!(
            all(&queue).await,
            [Missed(2), Kept(100), Item(3), Kept(101), Item(4)]
        );
    }

    #[tokio::test]
    async fn gaps_without_a_message_between_them_do_not_pile_up() {
        use Queued::{Item, Kept, Missed};
        let queue = Queue::new(1, Overflow::DropOldest);
        for n in 0..1_000 {
            queue.push_kept(n);
            queue.push(n);
            queue.push_kept(n + 1_000_000);
        }
        queue.end();
        let expected = [Missed(999), Kept(999), Item(999), Kept(1_000_999)];
        assert_eq!(all(&queue).await, expected);

        let queue = Queue::new(1, Overflow::DropNewest);
        for n in 0..1_000 {
            queue.push_kept(n);
            queue.push(n);
        }
        queue.end();
        let expected = [Kept(0), Item(0), Missed(998), Kept(999), Missed(1)];
        assert_eq!(all(&queue).await, expected);
    }

    #[tokio::test]
    async fn a_task_that_waits_for_room_is_woken_by_it_and_by_the_end() {
        let queue = Queue::new(4, Overflow::default());
        queue.room(9).await;
        for n in 0..4 {
            queue.push(n);
        }
        let filler = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move {
                queue.room(2).await;
                queue.push(4);
                queue.push(5);
                queue.room(3).await;
            }
        });
        for n in 0..2 {
            tokio::task::yield_now().await;
            let next = poll_fn(|cx| queue.poll_next(cx)).await;
            assert_eq!(next, Some(Queued::Item(n)));
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert!(!filler.is_finished());
        queue.end();
        filler.await.unwrap();
        assert_eq!(all(&queue).await, [2, 3, 4, 5].map(Queued::Item));
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
