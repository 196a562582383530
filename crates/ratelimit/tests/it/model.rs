//! What each algorithm promises, worked out from nothing but the history of what was admitted: no
//! state, no formula of the scripts, and waits found by trying.

use std::time::Duration;

use redkit_ratelimit::{Algorithm, Policy, Quota};

/// What was admitted: when (µs), and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admitted {
    pub(crate) at: i128,
    pub(crate) cost: i128,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    algorithm: Algorithm,
    limit: i128,
    window: i128,
    burst: i128,
    pub(crate) history: Vec<Admitted>,
}

impl Model {
    pub(crate) fn new(policy: &Policy) -> Self {
        let quota = policy.quota();
        Self {
            algorithm: policy.algorithm(),
            limit: quota.limit().into(),
            window: micros(quota.window()),
            burst: quota.burst_size().unwrap_or(quota.limit()).into(),
            history: Vec::new(),
        }
    }

    /// The units that could be taken at `now`.
    pub(crate) fn room(&self, now: i128) -> i128 {
        let sum = |counts: &dyn Fn(i128) -> bool| -> i128 {
            let counted = self.history.iter().filter(|one| counts(one.at));
            counted.map(|one| one.cost).sum()
        };
        let window = self.window;
        match self.algorithm {
            Algorithm::FixedWindow => {
                let mut begins = i128::MIN / 2;
                for one in &self.history {
                    if one.at >= begins + window {
                        begins = one.at;
                    }
                }
                match now < begins + window {
                    true => self.limit - sum(&|at| at >= begins),
                    false => self.limit,
                }
            }
            Algorithm::SlidingCounter => {
                let (index, gone) = (now / window, now % window);
                let (count, before) = (
                    sum(&|at| at / window == index),
                    sum(&|at| at / window == index - 1),
                );
                (self.limit * window - before * (window - gone) - count * window).div_euclid(window)
            }
            Algorithm::SlidingLog => self.limit - sum(&|at| at + window > now),
            Algorithm::Bucketed { slices } => {
                let slices = i128::from(slices);
                let slice = (window + slices - 1) / slices;
                self.limit - sum(&|at| at / slice + slices + 1 > now / slice)
            }
            Algorithm::Gcra => {
                // The level in 1/limit of a µs, drained by `limit` a µs, a unit being `window`.
                let (mut level, mut last) = (0, 0);
                for one in &self.history {
                    level = (level - (one.at - last) * self.limit).max(0) + one.cost * window;
                    last = one.at;
                }
                level = (level - (now - last) * self.limit).max(0);
                (self.burst * window - level).div_euclid(window)
            }
            other => panic!("no model of {other}"),
        }
    }

    /// How long until `cost` units can be taken: the first µs at which they can, found by halving.
    pub(crate) fn wait(&self, now: i128, cost: i128) -> i128 {
        let (mut no, mut yes) = (-1, 1);
        while self.room(now + yes) < cost {
            no = yes;
            yes *= 2;
            assert!(yes < 1 << 60, "it never comes");
        }
        if self.room(now) >= cost {
            return 0;
        }
        while yes - no > 1 {
            let middle = (no + yes) / 2;
            if self.room(now + middle) >= cost {
                yes = middle;
            } else {
                no = middle;
            }
        }
        yes
    }

    /// Checks the stated bound over every window: those that begin with something admitted hold
    /// the most.
    pub(crate) fn assert_bound(&self) {
        for (n, first) in self.history.iter().enumerate() {
            let mut sum = 0;
            for one in &self.history[n..] {
                let length = one.at - first.at;
                sum += one.cost;
                if matches!(self.algorithm, Algorithm::Gcra) {
                    // Over windows of any length, at any time within.
                    assert!(
                        sum * self.window <= self.burst * self.window + self.limit * length,
                        "{sum} within {length} µs: {self:?}"
                    );
                } else if length < self.window {
                    let bound = match self.algorithm {
                        Algorithm::FixedWindow => 2 * self.limit,
                        Algorithm::SlidingCounter => 2 * self.limit - 1,
                        _ => self.limit,
                    };
                    assert!(sum <= bound.max(1), "{sum} of {bound}: {self:?}");
                }
            }
        }
    }
}

/// Every algorithm that decides at once, with a quota.
pub(crate) fn policies(limit: u64, window: Duration, burst: u64) -> Vec<Policy> {
    let quota = Quota::per(limit, window);
    vec![
        Policy::fixed_window(quota),
        Policy::sliding_counter(quota),
        Policy::sliding_log(quota),
        Policy::bucketed(quota),
        Policy::new(Algorithm::Bucketed { slices: 3 }, quota),
        Policy::gcra(quota.burst(burst)),
    ]
}

pub(crate) fn micros(duration: Duration) -> i128 {
    i128::try_from(duration.as_micros()).unwrap()
}
