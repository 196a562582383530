//! [`Pace`]: when the nodes of a cluster are asked again what they see. Each of a thousand processes asks every node, so
//! that looks which bring nothing new must become fewer.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Address;

/// How soon after a look the next one comes while something is amiss, at first.
const LEAST: Duration = Duration::from_millis(100);

/// How late it comes at most while a failover may be under way. Its end is known this soon.
const FAILOVER: Duration = Duration::from_millis(500);

/// For how long a failover may be under way: longer than the default node timeout.
const PATIENCE: Duration = Duration::from_secs(30);

/// How late it comes at most after that: no replica takes over.
const LASTING: Duration = Duration::from_secs(2);

/// The least time between looks because of slots that move. Whoever said so has named the slot's new node.
const MOVES: Duration = Duration::from_secs(1);

/// When the next look is due.
pub(super) struct Pace {
    last: Instant,
    pause: Duration,
    /// Which part of the pause this client waits: those that lost the same node do not ask all at once.
    share: f64,
    /// The masters that were in trouble at the last look.
    troubled: HashSet<Address>,
    /// Since when looks have found a node in trouble and nothing new.
    since: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            pause: LEAST,
            share: share(),
            troubled: HashSet::new(),
            since: None,
        }
    }

    /// A look has ended: whether the cluster is in trouble, with which masters, and whether the view has changed.
    pub(super) fn looked(
        &mut self,
        is_troubled: bool,
        troubled: HashSet<Address>,
        has_changed: bool,
    ) {
        // That one node has been away for long must not delay the news of another one's successor.
        let is_news = has_changed || !troubled.is_subset(&self.troubled);
        self.troubled = troubled;
        let now = Instant::now();
        // Doubts that come all the time are no better than trouble.
        let is_calm = !is_troubled && now.duration_since(self.last) > LASTING;
        if is_calm || is_news {
            self.since = None;
            self.pause = LEAST;
        } else {
            let since = *self.since.get_or_insert(now);
            let most = match now.duration_since(since) < PATIENCE {
                true => FAILOVER,
                false => LASTING,
            };
            self.pause = (self.pause * 2).min(most);
        }
        self.last = now;
        self.share = share();
    }

    /// When to look again while something is amiss, which is the same moment however often it is asked for.
    pub(super) fn next_in_trouble(&self) -> Instant {
        self.last + self.pause.mul_f64(self.share)
    }

    /// When to look again after a node said that a slot has moved.
    pub(super) fn next_after_a_move(&self) -> Instant {
        self.last + MOVES.max(self.pause)
    }
}

fn share() -> f64 {
    rand::random_range(0.75..=1.0)
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    /// How many looks there are in this time while a node is in trouble.
    async fn looks(pace: &mut Pace, time: Duration) -> u32 {
        let end = Instant::now() + time;
        let mut looks = 0;
        while Instant::now() < end {
            pace.looked(true, HashSet::new(), false);
            looks += 1;
            sleep_until(pace.next_in_trouble()).await;
        }
        looks
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_bring_nothing_new_become_fewer_and_never_later_than_a_failover_may_be_known()
     {
        let mut pace = Pace::new();
        let first = looks(&mut pace, Duration::from_secs(10)).await;
        assert!((20..=28).contains(&first), "{first}");
        pace.looked(true, HashSet::new(), false);
        assert!(pace.next_in_trouble() <= Instant::now() + FAILOVER);
        looks(&mut pace, PATIENCE).await;
        let later = looks(&mut pace, Duration::from_secs(60)).await;
        assert!((30..=41).contains(&later), "{later}");
        pace.looked(true, HashSet::new(), false);
        assert!(pace.next_in_trouble() <= Instant::now() + LASTING);
        // A replica has taken over: what else has changed is known soon.
        pace.looked(true, HashSet::new(), true);
        assert!(pace.next_in_trouble() <= Instant::now() + LEAST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_after_a_calm_time_is_looked_into_at_once_and_moves_once_a_second() {
        let mut pace = Pace::new();
        advance(Duration::from_secs(5)).await;
        pace.looked(false, HashSet::new(), false);
        advance(Duration::from_secs(1)).await;
        assert!(pace.next_in_trouble() <= Instant::now());
        assert!(pace.next_after_a_move() <= Instant::now());
        pace.looked(false, HashSet::new(), true);
        assert!(pace.next_after_a_move() >= Instant::now() + MOVES);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_find_something_amiss_do_not_bring_the_next_look_nearer() {
        let mut pace = Pace::new();
        let due = |pace: &Pace| {
            let moments = (0..1_000).map(|_| pace.next_in_trouble());
            moments.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(due(&pace).len(), 1);
        let mut shares = std::collections::BTreeSet::new();
        for _ in 0..20 {
            pace.looked(true, HashSet::new(), true);
            assert_eq!(due(&pace).len(), 1);
            shares.extend(due(&pace));
        }
        assert!(shares.len() > 1, "clients do not ask all at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_master_in_trouble_is_asked_after_soon() {
        let [one, other] = [1, 2].map(|port| Address {
            host: "localhost".to_owned(),
            port,
        });
        let mut pace = Pace::new();
        for _ in 0..100 {
            pace.looked(true, HashSet::from([one.clone()]), false);
            advance(Duration::from_secs(1)).await;
        }
        pace.looked(true, HashSet::from([one.clone()]), false);
        assert!(pace.next_in_trouble() > Instant::now() + FAILOVER);
        pace.looked(true, HashSet::from([one.clone(), other]), false);
        assert!(pace.next_in_trouble() <= Instant::now() + LEAST);
        // That the one is left over is no news.
        advance(Duration::from_secs(1)).await;
        pace.looked(true, HashSet::from([one]), false);
        assert!(pace.next_in_trouble() > Instant::now() + LEAST);
    }
}
