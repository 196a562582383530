//! The numbers of channels and inboxes. Handles are made once.

use metrics::Counter;

/// A channel's.
pub(crate) struct ChannelMetrics {
    pub(crate) published: Counter,
    pub(crate) publish_failures: Counter,
    pub(crate) received: Counter,
    /// Messages that a subscriber was too slow for.
    pub(crate) overflowed: Counter,
    pub(crate) undecodable: Counter,
    /// Messages that came from the log.
    pub(crate) replayed: Counter,
    pub(crate) gaps: Counter,
}

impl ChannelMetrics {
    pub(crate) fn new(channel: &str) -> Self {
        let messages = |result: &'static str| {
            metrics::counter!(
                "redkit_channel_messages_total", "channel" => channel.to_owned(), "result" => result
            )
        };
        let published = |outcome: &'static str| {
            metrics::counter!(
                "redkit_channel_published_total", "channel" => channel.to_owned(), "outcome" => outcome
            )
        };
        Self {
            published: published("published"),
            publish_failures: published("failed"),
            received: messages("received"),
            overflowed: messages("overflowed"),
            undecodable: messages("undecodable"),
            replayed: messages("replayed"),
            gaps: metrics::counter!("redkit_channel_gaps_total", "channel" => channel.to_owned()),
        }
    }
}

/// An inbox's.
pub(crate) struct InboxMetrics {
    pub(crate) pushed: Counter,
    pub(crate) dropped: Counter,
    pub(crate) confirmed: Counter,
}

impl InboxMetrics {
    pub(crate) fn new(inbox: &str) -> Self {
        let items = |outcome: &'static str| {
            metrics::counter!(
                "redkit_inbox_items_total", "inbox" => inbox.to_owned(), "outcome" => outcome
            )
        };
        Self {
            pushed: items("pushed"),
            dropped: items("dropped"),
            confirmed: items("confirmed"),
        }
    }
}
