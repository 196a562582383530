//! Pushed messages: what a subscription yields, and the bounded queue that carries it.

mod queue;

use bytes::Bytes;

#[cfg(any(feature = "native", feature = "fred"))]
pub(crate) use self::queue::Loss;
pub use self::queue::{PushCloser, PushSink, PushStream, push_channel};
use crate::error::{CallError, Fault, FaultKind};

/// What a subscriber wants to hear.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Interest {
    /// Messages on these channels (`SUBSCRIBE`).
    ///
    /// On a cluster a channel of the servers' own notifications (`__keyspace@…`, `__keyevent@…`) is subscribed at every
    /// master, because each tells of its own keys only.
    Channels(Vec<Bytes>),
    /// Messages on channels that match these globs (`PSUBSCRIBE`).
    ///
    /// On a cluster a pattern that begins with `__key` is subscribed at every master, because each tells of its own
    /// keys only (`__keyevent@0__:expired`). A broader one, such as `*`, hears one node's notifications.
    Patterns(Vec<Bytes>),
    /// Messages on these sharded channels (`SSUBSCRIBE`).
    Sharded(Vec<Bytes>),
    /// Changes of keys (`CLIENT TRACKING` in broadcast mode), as [`Push::Invalidate`]: whoever
    /// writes, deletes, expires or evicts a key that starts with one of these prefixes, a write of
    /// one's own included, and whether or not the key was ever read here. Keys are named in full,
    /// with the namespace. A write is told after it was carried out, in the order of the writes to
    /// one server.
    ///
    /// An empty prefix stands for every key. Prefixes must not overlap, because servers refuse that.
    Invalidations {
        /// What the keys start with.
        prefixes: Vec<Bytes>,
    },
}

impl Interest {
    /// Refuses what no server would accept, before anything is sent. Every backend begins its
    /// [`subscribe`](crate::Backend::subscribe) with this.
    ///
    /// # Errors
    /// [`CallError::NotSent`] with [`FaultKind::Invalid`] when nothing is named, or when prefixes
    /// overlap.
    pub fn check(&self) -> Result<(), CallError> {
        let (names, what) = match self {
            Interest::Channels(names) | Interest::Sharded(names) => (names, "channel"),
            Interest::Patterns(names) => (names, "pattern"),
            Interest::Invalidations { prefixes } => (prefixes, "prefix"),
        };
        if names.is_empty() {
            let message = format!("no {what} is named; name at least one");
            return Err(Fault::new(FaultKind::Invalid, message).not_sent());
        }
        match self {
            Interest::Invalidations { prefixes } => check_prefixes(prefixes),
            _ => Ok(()),
        }
    }
}

/// Sorted, a prefix stands right before what starts with it.
fn check_prefixes(prefixes: &[Bytes]) -> Result<(), CallError> {
    let mut sorted: Vec<&Bytes> = prefixes.iter().collect();
    sorted.sort();
    let overlap = sorted.windows(2).find(|pair| pair[1].starts_with(pair[0]));
    let Some([shorter, longer]) = overlap else {
        return Ok(());
    };
    let message = format!(
        "the prefixes `{}` and `{}` overlap, which servers refuse; the shorter one covers both",
        shorter.escape_ascii(),
        longer.escape_ascii()
    );
    Err(Fault::new(FaultKind::Invalid, message).not_sent())
}

/// One pushed item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Push {
    /// A published message.
    Message {
        /// The channel that it was published on.
        channel: Bytes,
        /// The pattern that matched, for [`Interest::Patterns`].
        pattern: Option<Bytes>,
        /// What was published.
        payload: Bytes,
    },
    /// These keys have changed, for [`Interest::Invalidations`]; `None` means that every key may
    /// have (`FLUSHALL`, `FLUSHDB`).
    Invalidate(Option<Vec<Bytes>>),
    /// Messages may be missing here.
    Gap(GapReason),
}

/// Why messages may be missing.
///
/// Whoever keeps something because it would be told of changes does two things: it trusts nothing
/// that it keeps from [`Lost`](Self::Lost) on until [`Reconnected`](Self::Reconnected), and throws
/// it away, or reads it again, at any of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// The subscription does not stand any more, or a part of it does not (one of its names, one
    /// node of a cluster): the connection was lost, or the server ended it. Told as soon as it is
    /// known, which for a connection that dies in silence takes up to `probe_interval` and the time
    /// of a probe, and once, until `Reconnected`. What comes before that is true, but need not be
    /// all.
    Lost,
    /// The whole subscription stands again: what happens from here on is told. It comes without
    /// `Lost` before it when the server forgot changes only for a moment.
    Reconnected,
    /// The subscriber was slower than the messages; this many were dropped.
    Lagged(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalidations(prefixes: &[&'static str]) -> Interest {
        Interest::Invalidations {
            prefixes: prefixes.iter().map(|&prefix| prefix.into()).collect(),
        }
    }

    #[test]
    fn prefixes_that_overlap_are_refused_by_name() {
        let fine: [&[&str]; 3] = [&["a:", "b:"], &[""], &["ab", "aa", "b"]];
        for prefixes in fine {
            invalidations(prefixes).check().unwrap();
        }
        let overlapping: [&[&str]; 4] = [
            &["shop:cart", "x", "shop:"],
            &["a", "a"],
            &["", "a"],
            &["ab", "a", "aa"],
        ];
        for prefixes in overlapping {
            let error = invalidations(prefixes).check().unwrap_err();
            assert!(
                matches!(&error, CallError::NotSent(fault) if fault.kind() == FaultKind::Invalid)
            );
            assert!(error.to_string().contains("overlap"), "{error}");
        }
    }

    #[test]
    fn an_interest_in_nothing_is_refused() {
        for nothing in [
            Interest::Channels(Vec::new()),
            Interest::Patterns(Vec::new()),
            Interest::Sharded(Vec::new()),
            invalidations(&[]),
        ] {
            let error = nothing.check().unwrap_err();
            assert!(error.to_string().contains("at least one"), "{error}");
        }
    }
}
