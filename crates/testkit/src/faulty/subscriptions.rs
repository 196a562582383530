//! Subscriptions that a test feeds itself.

use parking_lot::Mutex;
use redkit_core::{Command, Interest, Push, PushSink, PushStream, push_channel};

type IsMeant = Box<dyn Fn(&Interest) -> bool + Send + Sync>;

/// Subscriptions that were taken over.
#[derive(Default)]
pub(super) struct TakenOver {
    is_meant: Mutex<Option<IsMeant>>,
    sinks: Mutex<Vec<PushSink>>,
}

impl TakenOver {
    pub(super) fn begin(&self, is_meant: IsMeant) {
        *self.is_meant.lock() = Some(is_meant);
    }

    /// The stream of a subscription that is taken over.
    pub(super) fn subscribe(&self, interest: &Interest) -> Option<PushStream> {
        let is_meant = self.is_meant.lock();
        if !is_meant.as_ref().is_some_and(|is_meant| is_meant(interest)) {
            return None;
        }
        let (sink, stream) = push_channel(1000);
        self.sinks.lock().push(sink);
        Some(stream)
    }

    pub(super) fn push(&self, push: &Push) -> usize {
        let mut sinks = self.sinks.lock();
        sinks.retain(|sink| sink.send(push.clone()));
        sinks.len()
    }

    pub(super) fn end(&self) {
        self.sinks.lock().clear();
    }
}

/// The command that rules see in place of a subscription.
pub(super) fn command_of(interest: &Interest) -> Command {
    let (name, names) = match interest {
        Interest::Channels(names) => ("SUBSCRIBE", names),
        Interest::Patterns(names) => ("PSUBSCRIBE", names),
        Interest::Sharded(names) => ("SSUBSCRIBE", names),
        Interest::Invalidations { prefixes } => ("TRACKING", prefixes),
        _ => return Command::new("SUBSCRIBE"),
    };
    Command::new(name).args(names)
}
