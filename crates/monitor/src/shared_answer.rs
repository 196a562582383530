//! [`SharedAnswer`]: many callers, one answer. However many probes ask, what they ask about is looked at
//! once at a time, and not again for a moment.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// An answer that callers share while it is being made and for `fresh_for` after.
pub(crate) struct SharedAnswer<T> {
    fresh_for: Duration,
    state: Mutex<State<T>>,
}

struct State<T> {
    last: Option<(Instant, Arc<T>)>,
    running: Option<Running<T>>,
}

struct Running<T> {
    answer: watch::Receiver<Option<Arc<T>>>,
    task: AbortOnDropHandle<()>,
}

impl<T: Send + Sync + 'static> SharedAnswer<T> {
    pub(crate) fn new(fresh_for: Duration) -> Arc<Self> {
        Arc::new(Self {
            fresh_for,
            state: Mutex::new(State {
                last: None,
                running: None,
            }),
        })
    }

    /// The last answer while it is fresh; otherwise what `work` gives, which runs in a task of its own, so
    /// that a caller who goes away takes nothing from the others. `None` when the work panicked.
    pub(crate) async fn get<F>(self: &Arc<Self>, work: impl FnOnce() -> F) -> Option<Arc<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut answer = {
            let mut state = self.state.lock();
            if let Some((at, last)) = &state.last
                && at.elapsed() < self.fresh_for
            {
                return Some(Arc::clone(last));
            }
            match &state.running {
                Some(running) if !running.task.is_finished() => running.answer.clone(),
                _ => {
                    let running = self.start(work());
                    let answer = running.answer.clone();
                    state.running = Some(running);
                    answer
                }
            }
        };
        let answer = answer.wait_for(Option::is_some).await.ok()?;
        answer.clone()
    }

    fn start(self: &Arc<Self>, work: impl Future<Output = T> + Send + 'static) -> Running<T> {
        let (sender, answer) = watch::channel(None);
        let shared: Weak<Self> = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let made = Arc::new(work.await);
            if let Some(shared) = shared.upgrade() {
                shared.state.lock().last = Some((Instant::now(), Arc::clone(&made)));
            }
            sender.send_replace(Some(made));
        });
        Running {
            answer,
            task: AbortOnDropHandle::new(task),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn many_callers_share_one_piece_of_work_and_its_answer_for_a_moment() {
        let shared = SharedAnswer::new(SECOND);
        let runs = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let runs = Arc::clone(&runs);
            shared.get(move || async move {
                sleep(SECOND).await;
                runs.fetch_add(1, Ordering::Relaxed)
            })
        };
        let answers = join_all((0..100).map(|_| ask())).await;
        assert!(answers.iter().all(|answer| **answer.as_ref().unwrap() == 0));
        advance(SECOND / 2).await;
        assert_eq!(*ask().await.unwrap(), 0);
        advance(SECOND / 2).await;
        assert_eq!(*ask().await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_and_a_panic_hold_up_nobody() {
        let shared = SharedAnswer::new(SECOND);
        let left = tokio::time::timeout(SECOND, shared.get(|| async { sleep(3 * SECOND).await }));
        left.await.unwrap_err();
        let start = Instant::now();
        assert!(shared.get(|| async {}).await.is_some(), "the same work");
        assert_eq!(start.elapsed(), 2 * SECOND);
        advance(SECOND).await;
        assert!(
            shared
                .get(|| async { panic!("for the test") })
                .await
                .is_none()
        );
        assert!(shared.get(|| async {}).await.is_some());
    }
}
