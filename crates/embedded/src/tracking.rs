//! Near caches that are told which keys changed.

use bytes::Bytes;
use redkit_core::{Push, PushSink, PushStream, push_channel};
use tokio::sync::watch;

use crate::observers::Stale;
use crate::state::State;

/// Invalidations that wait for a slow near cache before the newest are dropped and counted.
const QUEUE: usize = 65_536;

/// Who is told.
#[derive(Debug, Default)]
pub(crate) struct Trackers {
    trackers: Vec<Tracker>,
    subscriptions: u64,
    /// When the next key expires, for active expiry; kept while there are trackers.
    next_expiry: watch::Sender<Option<i64>>,
}

#[derive(Debug)]
struct Tracker {
    subscription: u64,
    prefixes: Vec<Bytes>,
    sink: PushSink,
}

impl Trackers {
    /// Sends every tracker the keys that concern it.
    fn tell(&self, stale: &Stale) {
        for tracker in &self.trackers {
            if stale.all {
                tracker.sink.send(Push::Invalidate(None));
            }
            let keys = stale.keys.iter();
            let keys = keys.filter(|key| tracker.prefixes.iter().any(|p| key.starts_with(p)));
            let keys: Vec<Bytes> = keys.cloned().collect();
            if !keys.is_empty() {
                tracker.sink.send(Push::Invalidate(Some(keys)));
            }
        }
    }
}

impl State {
    /// Adds a near cache; give the number to [`State::untrack`].
    pub(crate) fn track(&mut self, prefixes: &[Bytes]) -> (u64, PushStream) {
        let (sink, stream) = push_channel(QUEUE);
        self.trackers.subscriptions += 1;
        let subscription = self.trackers.subscriptions;
        for prefix in prefixes {
            self.db.observers.track(prefix);
        }
        self.trackers.trackers.push(Tracker {
            subscription,
            prefixes: prefixes.to_vec(),
            sink,
        });
        self.tell_trackers();
        (subscription, stream)
    }

    pub(crate) fn untrack(&mut self, subscription: u64) {
        let gone = |tracker: &mut Tracker| tracker.subscription == subscription;
        for tracker in self.trackers.trackers.extract_if(.., gone) {
            for prefix in &tracker.prefixes {
                self.db.observers.untrack(prefix);
            }
        }
    }

    /// Ends all tracking: the streams end.
    pub(crate) fn untrack_all(&mut self) {
        for tracker in self.trackers.trackers.drain(..) {
            for prefix in &tracker.prefixes {
                self.db.observers.untrack(prefix);
            }
        }
    }

    /// When the next key expires, and every change of that.
    pub(crate) fn next_expiry(&self) -> watch::Receiver<Option<i64>> {
        self.trackers.next_expiry.subscribe()
    }

    /// Ends a command for the near caches.
    pub(crate) fn tell_trackers(&mut self) {
        if self.trackers.trackers.is_empty() {
            return;
        }
        if let Some(stale) = self.db.observers.take_stale() {
            self.trackers.tell(&stale);
        }
        let next = self.db.next_expiry();
        self.trackers.next_expiry.send_if_modified(|present| {
            let changed = *present != next;
            *present = next;
            changed
        });
    }
}
