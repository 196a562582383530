//! What the world hears of a breaker: metrics, an event per transition, the watched state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use metrics::{Counter, Gauge, Label, counter, gauge};
use tokio::sync::watch;
use tokio::time::Instant;

use super::group::Group;
use super::shared::Environment;
use super::snapshot::Transition;
use super::state::{BreakerState, Outcome};
use super::tick::Tick;

/// The environment of a breaker in production.
#[derive(Debug)]
pub(super) struct Telemetry {
    name: String,
    /// Which of the client's servers it is for, and where its changes are told as well.
    node: Option<(Arc<str>, Weak<Group>)>,
    /// When the breaker was made: tick zero.
    origin: Instant,
    state: watch::Sender<BreakerState>,
    /// The sequence of the last transition that was published. Written only under the lock of
    /// `state`, so that of two racing transitions the later one stays.
    published: AtomicU64,
    gauge: Gauge,
    succeeded: Counter,
    failed: Counter,
    neutral: Counter,
    not_permitted: Counter,
    to_closed: Counter,
    to_open: Counter,
    to_half_open: Counter,
    to_forced_open: Counter,
    to_forced_closed: Counter,
}

impl Telemetry {
    pub(super) fn new(
        name: String,
        node: Option<(Arc<str>, Weak<Group>)>,
        state: BreakerState,
    ) -> Self {
        let mut labels = vec![Label::new("client", name.clone())];
        if let Some((node, _)) = &node {
            labels.push(Label::new("node", node.to_string()));
        }
        let labelled = |metric: &'static str, label: &'static str, value: &'static str| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts(label, value));
            counter!(metric, labels)
        };
        let calls = |outcome| labelled("redkit_breaker_calls_total", "outcome", outcome);
        let transitions =
            |to: BreakerState| labelled("redkit_breaker_transitions_total", "to", to.as_str());
        let telemetry = Self {
            origin: Instant::now(),
            state: watch::Sender::new(state),
            published: AtomicU64::new(0),
            gauge: gauge!("redkit_breaker_state", labels.clone()),
            succeeded: calls("success"),
            failed: calls("failure"),
            neutral: calls("neutral"),
            not_permitted: counter!("redkit_breaker_not_permitted_total", labels.clone()),
            to_closed: transitions(BreakerState::Closed),
            to_open: transitions(BreakerState::Open),
            to_half_open: transitions(BreakerState::HalfOpen),
            to_forced_open: transitions(BreakerState::ForcedOpen),
            to_forced_closed: transitions(BreakerState::ForcedClosed),
            name,
            node,
        };
        telemetry.gauge.set(state.gauge());
        telemetry
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn node(&self) -> &str {
        self.node.as_ref().map_or("", |(node, _)| node)
    }

    pub(super) fn tick(&self, at: Instant) -> Tick {
        Tick::after(at.saturating_duration_since(self.origin))
    }

    pub(super) fn instant(&self, tick: Tick) -> Instant {
        self.origin + tick.elapsed()
    }

    pub(super) fn state(&self) -> BreakerState {
        *self.state.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<BreakerState> {
        self.state.subscribe()
    }

    fn transitions_to(&self, state: BreakerState) -> &Counter {
        match state {
            BreakerState::Closed => &self.to_closed,
            BreakerState::Open => &self.to_open,
            BreakerState::HalfOpen => &self.to_half_open,
            BreakerState::ForcedOpen => &self.to_forced_open,
            BreakerState::ForcedClosed => &self.to_forced_closed,
        }
    }
}

impl Environment for Telemetry {
    fn now(&self) -> Tick {
        self.tick(Instant::now())
    }

    fn changed(&self, transition: &Transition) {
        let &Transition {
            sequence,
            from,
            to,
            seen,
        } = transition;
        self.state.send_if_modified(|state| {
            if sequence <= self.published.load(Ordering::Relaxed) {
                return false;
            }
            self.published.store(sequence, Ordering::Relaxed);
            self.gauge.set(to.gauge());
            *state = to;
            true
        });
        self.transitions_to(to).increment(1);
        macro_rules! report {
            ($level:ident) => {
                tracing::$level!(
                    target: "redkit::breaker",
                    client = %self.name,
                    node = self.node(),
                    sequence,
                    from = from.as_str(),
                    to = to.as_str(),
                    failure_rate = seen.failure_rate,
                    slow_call_rate = seen.slow_call_rate,
                    calls = seen.counts.calls,
                    failures = seen.counts.failures,
                    slow_calls = seen.counts.slow,
                    "circuit breaker: {from} -> {to}"
                )
            };
        }
        if to.is_permitting() {
            report!(info);
        } else {
            report!(warn);
        }
        if let Some(group) = self.node.as_ref().and_then(|(_, group)| group.upgrade()) {
            group.publish();
        }
    }

    fn settled(&self, outcome: Outcome) {
        match outcome {
            Outcome::Success => self.succeeded.increment(1),
            Outcome::Failure | Outcome::Refusal => self.failed.increment(1),
            Outcome::Neutral => self.neutral.increment(1),
        }
    }

    fn refused(&self) {
        self.not_permitted.increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Seen;
    use super::super::window::Counts;
    use super::*;

    fn transition(sequence: u64, from: BreakerState, to: BreakerState) -> Transition {
        Transition {
            sequence,
            from,
            to,
            seen: Seen {
                counts: Counts::default(),
                failure_rate: 0.0,
                slow_call_rate: 0.0,
            },
        }
    }

    #[test]
    fn of_two_transitions_that_arrive_in_the_wrong_order_the_later_one_stays() {
        use BreakerState::{Closed, HalfOpen, Open};
        let telemetry = Telemetry::new("test".to_owned(), None, Closed);
        let watch = telemetry.watch();
        telemetry.changed(&transition(2, Open, HalfOpen));
        telemetry.changed(&transition(1, Closed, Open));
        assert_eq!(*watch.borrow(), HalfOpen);
        telemetry.changed(&transition(3, HalfOpen, Closed));
        assert_eq!(*watch.borrow(), Closed);
    }
}
