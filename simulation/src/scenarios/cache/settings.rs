//! [`Settings`]: how the caches of a run are set.

use std::time::Duration;

use rand::{Rng, RngExt};
use redkit_cache::{Cache, L1};
use redkit_core::Client;

/// How the caches of all processes of a run are set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    ttl: Duration,
    stale_for: Option<Duration>,
    soft_timeout: Option<Duration>,
    refresh_ahead: Option<f64>,
    lease: Duration,
    /// The bound of the local cache, if there is one.
    pub(super) bound: Option<Duration>,
    /// Whether the processes hear of every change of a key, whoever makes it.
    pub(super) is_tracked: bool,
    /// Whether the processes turn to the same key at the same time, again and again.
    pub(super) meets: bool,
    /// The longest pause between two reads, in milliseconds: with long ones a run outlasts its values.
    pub(super) pause: u64,
}

impl Settings {
    pub(super) fn draw(random: &mut impl Rng, has_l1: bool) -> Self {
        let stale_for = random.random_bool(0.5).then(|| millis(random, 100..3_000));
        Self {
            // With a local cache nothing may end by itself before the bound was put to the test.
            ttl: match has_l1 {
                true => Duration::from_secs(60),
                false => millis(random, 30..2_000),
            },
            stale_for,
            soft_timeout: (stale_for.is_some() && random.random_bool(0.5))
                .then(|| millis(random, 0..10)),
            refresh_ahead: random
                .random_bool(0.3)
                .then(|| random.random_range(0.5..0.9)),
            lease: millis(random, 200..1_500),
            bound: has_l1.then(|| millis(random, 60..600)),
            is_tracked: random.random_bool(0.3),
            meets: random.random_bool(0.4),
            pause: if random.random_bool(0.3) { 200 } else { 40 },
        }
    }

    /// For so long a value is served that was loaded just before it changed in silence, when nobody is held up.
    pub(super) fn longest(&self) -> Duration {
        // A load, a connection that is made anew, and the answer.
        const DELAYS: Duration = Duration::from_millis(800);
        self.ttl + self.stale_for.unwrap_or_default() + DELAYS
    }

    #[expect(clippy::panic, reason = "a scenario fails by panicking")]
    pub(super) fn cache(&self, client: &Client) -> Cache<u64> {
        let mut builder = Cache::builder(client, "numbers")
            .ttl(self.ttl)
            .negative_ttl(self.ttl)
            .lease(self.lease)
            .load_timeout(Duration::from_secs(2))
            .retry_after(Duration::from_millis(50));
        if let Some(time) = self.stale_for {
            builder = builder.stale_for(time);
        }
        if let Some(time) = self.soft_timeout {
            builder = builder.soft_timeout(time);
        }
        if let Some(threshold) = self.refresh_ahead {
            builder = builder.refresh_ahead(threshold);
        }
        if let Some(bound) = self.bound {
            let l1 = L1::entries(1_000).bound(bound);
            builder = builder.l1(if self.is_tracked { l1.tracked() } else { l1 });
        }
        let cache = builder.build();
        cache.unwrap_or_else(|error| panic!("{error}"))
    }
}

fn millis(random: &mut impl Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}
