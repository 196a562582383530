//! What a subscription yields.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use bytes::Bytes;

/// What a [`Subscription`](super::Subscription) yields.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<T> {
    /// A message.
    Message(Message<T>),
    /// Messages may be missing here.
    Gap(GapReason),
    /// A message that is not a `T`. The subscription goes on.
    Undecodable(Undecodable),
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message<T> {
    /// The key on whose channel it was published.
    pub key: Bytes,
    /// What was published.
    pub payload: T,
    /// Where it stands in the log, with [`Replay`](super::Replay).
    pub position: Option<Position>,
}

/// A message whose bytes are not a value of the type.
#[derive(Debug)]
#[non_exhaustive]
pub struct Undecodable {
    /// The key on whose channel it was published.
    pub key: Bytes,
    /// Where it stands in the log, with [`Replay`](super::Replay).
    pub position: Option<Position>,
    /// Why. [`redkit_core::Error::Decode`] keeps the bytes.
    pub error: redkit_core::Error,
}

/// Why messages may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// The connection was lost, so nothing comes until [`Resumed`](Self::Resumed). Told at once. Not
    /// with [`Replay`](super::Replay), which fills the gap.
    Disconnected,
    /// The whole subscription stands again. What was published in between is missing. A subscriber
    /// that keeps a state up to date by messages reads the state again now. Not with
    /// [`Replay`](super::Replay).
    Resumed,
    /// The subscriber was too slow, and so many messages were dropped.
    Overflowed(u64),
    /// The log does not reach back to the last message that was received: it has dropped messages for
    /// want of room or for their age, or a failover lost them. Only with [`Replay`](super::Replay).
    NotInLog,
    /// The server's history went back to before the last message that was received: a failover lost
    /// messages, and the new master's clock is behind. Told with the first live message that shows it. Only with
    /// [`Replay`](super::Replay).
    WentBack,
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GapReason::Disconnected => f.write_str("the connection was lost"),
            GapReason::Resumed => f.write_str("the subscription stands again"),
            GapReason::Overflowed(count) => {
                write!(f, "the subscriber was too slow for {count} messages")
            }
            GapReason::NotInLog => f.write_str("the log does not reach back to the last message"),
            GapReason::WentBack => f.write_str("the server's history went back"),
        }
    }
}

/// Where a message stands in the log of its key: greater for later ones. Its text form is a decimal
/// number, fit for `Last-Event-ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub(super) u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Position {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}
