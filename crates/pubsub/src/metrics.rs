//! The numbers of channels, topics and inboxes. Handles are made once.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::topic::GroupStats;

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

/// A topic's publishers'.
pub(crate) struct TopicMetrics {
    pub(crate) published: Counter,
    pub(crate) deduplicated: Counter,
    pub(crate) publish_failures: Counter,
}

impl TopicMetrics {
    pub(crate) fn new(topic: &str) -> Self {
        let published = |outcome: &'static str| {
            metrics::counter!(
                "redkit_topic_published_total", "topic" => topic.to_owned(), "outcome" => outcome
            )
        };
        Self {
            published: published("published"),
            deduplicated: published("deduplicated"),
            publish_failures: published("failed"),
        }
    }
}

/// A worker's.
pub(crate) struct WorkerMetrics {
    pub(crate) acknowledged: Counter,
    pub(crate) retried: Counter,
    pub(crate) handed_back: Counter,
    pub(crate) dead: Counter,
    /// Messages that another consumer took, or whose settlement the server refused.
    pub(crate) lost: Counter,
    pub(crate) gaps: Counter,
    pub(crate) seconds: Histogram,
}

impl WorkerMetrics {
    pub(crate) fn new(topic: &str, group: &str) -> Self {
        let handled = |outcome: &'static str| {
            metrics::counter!(
                "redkit_topic_handled_total", "topic" => topic.to_owned(),
                "group" => group.to_owned(), "outcome" => outcome
            )
        };
        Self {
            acknowledged: handled("acknowledged"),
            retried: handled("retried"),
            handed_back: handled("handed_back"),
            dead: handled("dead"),
            lost: handled("lost"),
            gaps: metrics::counter!(
                "redkit_topic_gaps_total", "topic" => topic.to_owned(), "group" => group.to_owned()
            ),
            seconds: metrics::histogram!(
                "redkit_topic_handler_seconds", "topic" => topic.to_owned(), "group" => group.to_owned()
            ),
        }
    }
}

/// How a group stands on the server.
pub(crate) struct GroupGauges {
    lag: Gauge,
    pending: Gauge,
    /// The age of the oldest message that the group has not handled.
    oldest: Gauge,
    dead_letters: Gauge,
    live_workers: Gauge,
}

impl GroupGauges {
    pub(crate) fn new(topic: &str, group: &str) -> Self {
        let gauge = |name: &'static str| metrics::gauge!(name, "topic" => topic.to_owned(), "group" => group.to_owned());
        Self {
            lag: gauge("redkit_topic_lag"),
            pending: gauge("redkit_topic_pending"),
            oldest: gauge("redkit_topic_oldest_seconds"),
            dead_letters: gauge("redkit_topic_dead_letters"),
            live_workers: gauge("redkit_topic_live_workers"),
        }
    }

    pub(crate) fn show(&self, stats: &GroupStats) {
        let oldest = stats.oldest_pending.max(stats.oldest_undelivered);
        self.lag.set(stats.lag.map_or(f64::NAN, |lag| lag as f64));
        self.pending.set(stats.pending as f64);
        self.oldest
            .set(oldest.unwrap_or(Duration::ZERO).as_secs_f64());
        self.dead_letters.set(stats.dead as f64);
        self.live_workers.set(stats.live_workers as f64);
    }

    /// Nothing is known of the group.
    pub(crate) fn show_nothing(&self) {
        for gauge in [
            &self.lag,
            &self.pending,
            &self.oldest,
            &self.dead_letters,
            &self.live_workers,
        ] {
            gauge.set(f64::NAN);
        }
    }
}
