//! [`Activity`]: when a connection last gave a sign of life, and whether the server owes replies.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// What passes over one connection. Whoever reads from it says so with [`heard`](Self::heard);
/// whoever waits for a reply holds a [`Waiting`]; the supervisor looks at
/// [`silent_since`](Self::silent_since).
///
/// A caller that gives up early leaves a reply that the server still owes, so silence is counted
/// from the first request that nothing has come after, whether or not its caller still waits.
#[derive(Debug)]
pub(super) struct Activity {
    /// When the connection was made: point zero of the times below, which are in nanoseconds.
    origin: Instant,
    /// How often the connection has given a sign of life.
    signs: AtomicU64,
    last_sign: AtomicU64,
    /// When the first request was handed over after which nothing has come in; 0 when there is none.
    owed_since: AtomicU64,
    /// How many callers wait for a reply.
    waiting: AtomicUsize,
    /// When the upload that is under way, if any, first found the socket full; 0 when there is none.
    upload_since: AtomicU64,
    /// For how long, beyond a sign of life, an upload that is all in the socket's buffers may still
    /// be on its way.
    upload_grace: AtomicU64,
    /// Whether the supervisor waits for the next sign of life.
    wants_sign: AtomicBool,
    sign: Notify,
    /// Whether the supervisor waits for the next request.
    wants_request: AtomicBool,
    request: Notify,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            signs: AtomicU64::new(0),
            last_sign: AtomicU64::new(0),
            owed_since: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            upload_since: AtomicU64::new(0),
            upload_grace: AtomicU64::new(0),
            wants_sign: AtomicBool::new(false),
            sign: Notify::new(),
            wants_request: AtomicBool::new(false),
            request: Notify::new(),
        }
    }

    /// Bytes, or a reply, came in.
    pub(super) fn heard(&self) {
        let owed = match self.waiting.load(Ordering::Relaxed) {
            0 => 0,
            // The others' replies may be among what came; their callers say so when they see them.
            _ => self.now(),
        };
        self.owed_since.store(owed, Ordering::Relaxed);
        self.upload_since.store(0, Ordering::Relaxed);
        self.upload_grace.store(0, Ordering::Relaxed);
        self.note_sign();
    }

    /// The socket was full.
    #[cfg(feature = "native")]
    pub(super) fn upload_blocked(&self) {
        if self.upload_since.load(Ordering::Relaxed) == 0 {
            self.upload_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A socket that was full has taken more: the other side receives. What it took fills a buffer
    /// that empties as slowly as the upload has been going, with nothing to be seen of it here.
    #[cfg(feature = "native")]
    pub(super) fn upload_went_on(&self) {
        let since = self.upload_since.load(Ordering::Relaxed);
        let grace = self.now().saturating_sub(since);
        self.upload_grace.store(grace, Ordering::Relaxed);
        self.note_sign();
    }

    /// A caller hands a request over and waits for its reply.
    pub(super) fn wait(&self) -> Waiting<'_> {
        let is_first = self.owed_since.load(Ordering::Relaxed) == 0;
        if is_first {
            self.owed_since.store(self.now(), Ordering::Relaxed);
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if is_first && self.wants_request.load(Ordering::SeqCst) {
            self.wants_request.store(false, Ordering::SeqCst);
            self.request.notify_one();
        }
        Waiting {
            activity: self,
            is_answered: false,
        }
    }

    /// Since when the server has owed a reply, and nothing has come in.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        let last_sign = self.last_sign.load(Ordering::Relaxed);
        let grace = self.upload_grace.load(Ordering::Relaxed);
        let since = match self.owed_since.load(Ordering::Relaxed) {
            0 if self.waiting.load(Ordering::Acquire) == 0 => return None,
            0 => last_sign,
            owed => owed.max(last_sign),
        };
        Some(self.origin + Duration::from_nanos(since.saturating_add(grace)))
    }

    pub(super) fn last_sign(&self) -> Instant {
        self.origin + Duration::from_nanos(self.last_sign.load(Ordering::Relaxed))
    }

    /// Grows with every sign of life.
    pub(super) fn signs(&self) -> u64 {
        self.signs.load(Ordering::Acquire)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Waits for a sign of life after those counted in `seen`.
    pub(super) async fn sign_after(&self, seen: u64) {
        loop {
            self.wants_sign.store(true, Ordering::SeqCst);
            if self.signs() != seen {
                return;
            }
            self.sign.notified().await;
        }
    }

    /// Waits until the server owes a reply.
    pub(super) async fn request(&self) {
        loop {
            self.wants_request.store(true, Ordering::SeqCst);
            if self.silent_since().is_some() {
                return;
            }
            self.request.notified().await;
        }
    }

    fn note_sign(&self) {
        self.last_sign.store(self.now(), Ordering::Relaxed);
        self.signs.fetch_add(1, Ordering::SeqCst);
        if self.wants_sign.load(Ordering::SeqCst) {
            self.wants_sign.store(false, Ordering::SeqCst);
            self.sign.notify_one();
        }
    }

    /// Nanoseconds since the connection was made; never 0, which means "not".
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

/// A caller that waits for a reply. Dropped without [`answered`](Self::answered) it has given up,
/// and the server still owes the reply.
pub(super) struct Waiting<'a> {
    activity: &'a Activity,
    is_answered: bool,
}

impl Waiting<'_> {
    /// The reply came.
    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let before = self.activity.waiting.fetch_sub(1, Ordering::AcqRel);
        if self.is_answered && before == 1 {
            self.activity.owed_since.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn silent_for(activity: &Activity) -> Option<Duration> {
        activity.silent_since().map(|since| since.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_first_request_that_nothing_came_after() {
        let activity = Activity::new();
        tokio::time::advance(SECOND).await;
        assert_eq!(silent_for(&activity), None, "nobody asked");
        let first = activity.wait();
        tokio::time::advance(SECOND).await;
        let second = activity.wait();
        assert_eq!(silent_for(&activity).unwrap().as_secs(), 1);
        activity.heard();
        first.answered();
        tokio::time::advance(SECOND).await;
        assert_eq!(silent_for(&activity).unwrap().as_secs(), 1, "one is owed");
        activity.heard();
        second.answered();
        assert_eq!(silent_for(&activity), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_does_not_hide_the_silence() {
        let activity = Activity::new();
        for _ in 0..10 {
            let hasty = activity.wait();
            tokio::time::advance(SECOND / 10).await;
            drop(hasty);
        }
        assert_eq!(activity.waiting(), 0);
        assert!(silent_for(&activity).unwrap() >= SECOND - Duration::from_millis(1));
        activity.heard();
        assert_eq!(silent_for(&activity), None);
    }

    #[cfg(feature = "native")]
    #[tokio::test(start_paused = true)]
    async fn an_upload_that_goes_on_is_a_sign_of_life() {
        let activity = Activity::new();
        let _upload = activity.wait();
        activity.upload_blocked();
        for _ in 0..4 {
            tokio::time::advance(SECOND).await;
            activity.upload_went_on();
        }
        assert_eq!(silent_for(&activity), Some(Duration::ZERO));
        // As much time again as it has taken so far, for what the buffers still hold.
        tokio::time::advance(SECOND * 5).await;
        assert_eq!(silent_for(&activity).unwrap().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_supervisor_is_woken_by_signs_and_by_requests() {
        let activity = std::sync::Arc::new(Activity::new());
        let seen = activity.signs();
        let (told, asked) = (activity.clone(), activity.clone());
        let sign = tokio::spawn(async move { told.sign_after(seen).await });
        let request = tokio::spawn(async move { asked.request().await });
        tokio::time::sleep(SECOND).await;
        assert!(!sign.is_finished() && !request.is_finished());
        let waiting = activity.wait();
        request.await.unwrap();
        activity.heard();
        sign.await.unwrap();
        waiting.answered();
    }
}
