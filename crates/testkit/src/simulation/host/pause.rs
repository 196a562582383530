//! [`Pause`]: the end of a step, found out from when a runtime parks its thread.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// What a runtime's hooks and the future that its step drives tell each other.
#[derive(Default)]
pub(super) struct Pause {
    awaited: AtomicU8,
    is_reached: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waker: Option<Waker>,
    /// The runtime's time when it began to look ahead.
    since: Option<Instant>,
}

const NOTHING: u8 = 0;
const ALL_WAIT: u8 = 1;
const A_TIMER: u8 = 2;

impl Pause {
    /// Waits until every task of the runtime waits. Its clock does not move.
    pub(super) async fn until_all_wait(&self) {
        self.reach(ALL_WAIT, None).await;
    }

    /// Waits until every task of the runtime waits, and lets the clock jump to the next timer then, at most by `ahead`;
    /// the tasks that the timer wakes have not run when this is over.
    pub(super) async fn until_a_timer(&self, ahead: Duration) {
        let mut end = pin!(sleep(ahead));
        let is_over = poll_fn(|context| Poll::Ready(end.as_mut().poll(context).is_ready()));
        if !is_over.await {
            self.reach(A_TIMER, Some(Instant::now())).await;
        }
    }

    /// The runtime has nothing to do, and is about to park its thread. A future that is woken now keeps it
    /// from that, and its clock from moving.
    pub(super) fn parks(&self) {
        if self.awaited.load(Ordering::Relaxed) == ALL_WAIT {
            self.reached();
        }
    }

    /// The runtime was parked, and its clock may have jumped.
    pub(super) fn unparked(&self) {
        if self.awaited.load(Ordering::Relaxed) != A_TIMER {
            return;
        }
        let since = self.state.lock().since;
        if since.is_some_and(|since| Instant::now() > since) {
            self.reached();
        }
    }

    async fn reach(&self, awaited: u8, since: Option<Instant>) {
        self.is_reached.store(false, Ordering::Relaxed);
        let mut is_new = true;
        poll_fn(|context| {
            if std::mem::take(&mut is_new) {
                let waker = Some(context.waker().clone());
                *self.state.lock() = State { waker, since };
                self.awaited.store(awaited, Ordering::Relaxed);
                return Poll::Pending;
            }
            match self.is_reached.load(Ordering::Relaxed) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        self.awaited.store(NOTHING, Ordering::Relaxed);
    }

    fn reached(&self) {
        self.is_reached.store(true, Ordering::Relaxed);
        if let Some(waker) = &self.state.lock().waker {
            waker.wake_by_ref();
        }
    }
}
