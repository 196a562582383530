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
    /// How long calls may wait for their turn.
    patience: i128,
    pub(crate) history: Vec<Admitted>,
}

impl Model {
    pub(crate) fn new(policy: &Policy) -> Self {
        let quota = policy.quota();
        let (patience, burst) = match policy.algorithm() {
            Algorithm::Leaky { max_wait } => (micros(max_wait), 1),
            _ => (0, quota.limit()),
        };
        Self {
            algorithm: policy.algorithm(),
            patience,
            limit: quota.limit().into(),
            window: micros(quota.window()),
            burst: quota.burst_size().unwrap_or(burst).into(),
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
            Algorithm::Gcra | Algorithm::Leaky { .. } => {
                (self.capacity() - self.level(now)).div_euclid(window)
            }
            other => panic!("no model of {other}"),
        }
    }

    /// The most units that can be taken at one moment.
    pub(crate) fn most(&self) -> i128 {
        match self.algorithm {
            Algorithm::Gcra | Algorithm::Leaky { .. } => self.capacity() / self.window,
            _ => self.limit,
        }
    }

    /// How long `cost` units that are taken now have to wait for their turn.
    pub(crate) fn delay(&self, now: i128, cost: i128) -> i128 {
        self.turn(self.level(now), cost)
    }

    /// The whole µs after which `cost` units fit on a level that drains.
    fn turn(&self, level: i128, cost: i128) -> i128 {
        if self.patience == 0 {
            return 0;
        }
        let over = level + (cost - self.burst) * self.window;
        -(-over.max(0)).div_euclid(self.limit)
    }

    /// What has not drained of a rate, in 1/limit of a µs: `limit` drain in a µs, and a unit is
    /// `window`.
    fn level(&self, now: i128) -> i128 {
        let (mut level, mut last) = (0, 0);
        for one in &self.history {
            level = (level - (one.at - last) * self.limit).max(0);
            // The bucket is filled when the turn comes, to the µs, which may find it empty.
            let turn = self.turn(level, one.cost);
            let fits = one.cost.min(self.burst) * self.window;
            level = (level + one.cost * self.window)
                .max(turn * self.limit + fits * i128::from(turn > 0));
            last = one.at;
        }
        (level - (now - last) * self.limit).max(0)
    }

    /// How high the level of a rate may be.
    fn capacity(&self) -> i128 {
        self.burst * self.window + self.patience * self.limit
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

    /// Checks the stated bound over every window: the windows that begin with an admitted call hold
    /// the most.
    pub(crate) fn assert_bound(&self) {
        for (n, first) in self.history.iter().enumerate() {
            let mut sum = 0;
            for one in &self.history[n..] {
                let length = one.at - first.at;
                sum += one.cost;
                if matches!(self.algorithm, Algorithm::Gcra | Algorithm::Leaky { .. }) {
                    // Over windows of any length, at any time within.
                    assert!(
                        sum * self.window <= self.capacity() + self.limit * length,
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

/// Checks the pace of a leaky bucket over windows of every length, of the times at which calls were
/// told to go: `burst` and what flows meanwhile, not a µs less.
pub(crate) fn assert_pace(policy: &Policy, mut turns: Vec<Admitted>) {
    let model = Model::new(policy);
    turns.sort_by_key(|turn| turn.at);
    for (n, first) in turns.iter().enumerate() {
        let mut sum = 0;
        for one in turns.iter().skip(n) {
            sum += one.cost;
            let flows = model.limit * (one.at - first.at);
            assert!(
                sum * model.window <= model.burst * model.window + flows,
                "{sum} from {} to {}: {turns:?}",
                first.at,
                one.at
            );
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

/// Every algorithm: the same, and a leaky bucket in which some calls wait.
pub(crate) fn all_policies(limit: u64, window: Duration, burst: u64) -> Vec<Policy> {
    let mut all = policies(limit, window, burst);
    all.push(leaky(limit, window, burst));
    all
}

/// A leaky bucket in which calls wait for half a window at most.
pub(crate) fn leaky(limit: u64, window: Duration, burst: u64) -> Policy {
    Policy::leaky(Quota::per(limit, window).burst(burst), window / 2)
}

pub(crate) fn micros(duration: Duration) -> i128 {
    i128::try_from(duration.as_micros()).unwrap()
}
