//! The sliding window: what the calls that count were like, by number or by time.
//!
//! Both kinds keep running totals, so that recording a call and reading the totals cost the same
//! however large the window is. The two kinds, and slow calls as a second rate beside failures,
//! are as resilience4j made them known.

mod count;
mod time;

use self::count::CountWindow;
use self::time::TimeWindow;
use super::config::Window;
use super::tick::{Tick, nanos};

/// Totals over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

impl Counts {
    /// `part` as a share of `whole`; nothing of nothing is no share.
    pub(super) fn share(part: u64, whole: u64) -> f64 {
        if whole == 0 {
            return 0.0;
        }
        // Division, not multiplication: 3 of 10 must reach a threshold that is written as 0.3.
        part as f64 / whole as f64
    }

    fn add(&mut self, failed: bool, slow: bool) {
        self.calls += 1;
        self.failures += u64::from(failed);
        self.slow += u64::from(slow);
    }

    fn subtract(&mut self, other: Counts) {
        self.calls -= other.calls;
        self.failures -= other.failures;
        self.slow -= other.slow;
    }
}

/// Where in the window an observation lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// The observations of the last calls or the last while.
#[derive(Debug)]
pub(super) enum SlidingWindow {
    Count(CountWindow),
    Time(TimeWindow),
}

impl SlidingWindow {
    pub(super) fn new(window: Window) -> Self {
        match window {
            Window::Count(calls) => Self::Count(CountWindow::new(calls)),
            Window::Time(span) => Self::Time(TimeWindow::new(nanos(span))),
        }
    }

    /// Takes a call in, and the one that it pushes out leaves.
    pub(super) fn record(&mut self, now: Tick, failed: bool, slow: bool) -> Mark {
        match self {
            Self::Count(window) => window.record(failed, slow),
            Self::Time(window) => window.record(now, failed, slow),
        }
    }

    /// Completes an observation that was recorded before its call had ended. `false` when it has
    /// left the window already.
    pub(super) fn complete(&mut self, now: Tick, mark: Mark, failed: bool) -> bool {
        match self {
            Self::Count(window) => window.complete(mark, failed),
            Self::Time(window) => window.complete(now, mark, failed),
        }
    }

    /// The totals, without what is too old by `now`.
    pub(super) fn counts(&mut self, now: Tick) -> Counts {
        match self {
            Self::Count(window) => window.totals,
            Self::Time(window) => {
                window.rotate(now);
                window.totals
            }
        }
    }

    /// The totals as of the last time the window was touched.
    pub(super) fn last_counts(&self) -> Counts {
        match self {
            Self::Count(window) => window.totals,
            Self::Time(window) => window.totals,
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Count(window) => window.clear(),
            Self::Time(window) => window.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What the window should hold, kept the obvious way: every observation with its time.
    struct Naive {
        window: Window,
        seen: Vec<(u64, bool, bool)>,
        /// Observations before this index were cleared.
        cleared: usize,
    }

    impl Naive {
        fn live(&self, now: u64) -> Vec<usize> {
            match self.window {
                Window::Count(calls) => {
                    let from = self.seen.len().saturating_sub(calls as usize);
                    (from.max(self.cleared)..self.seen.len()).collect()
                }
                Window::Time(span) => {
                    let span = nanos(span);
                    let count = span.div_ceil(1_000_000_000).max(10);
                    let width = span.div_ceil(count);
                    (self.cleared..self.seen.len())
                        .filter(|i| now / width - self.seen[*i].0 / width < count)
                        .collect()
                }
            }
        }

        fn counts(&self, now: u64) -> Counts {
            let mut counts = Counts::default();
            for i in self.live(now) {
                counts.add(self.seen[i].1, self.seen[i].2);
            }
            counts
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Pass(u64),
        Record(bool, bool),
        /// Complete the n-th of the observations that are neither completed nor cleared.
        Complete(prop::sample::Index, bool),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u64..400_000_000).prop_map(Step::Pass),
            1 => (0u64..12_000_000_000).prop_map(Step::Pass),
            8 => any::<(bool, bool)>().prop_map(|(f, s)| Step::Record(f, s)),
            4 => any::<(prop::sample::Index, bool)>().prop_map(|(i, f)| Step::Complete(i, f)),
            1 => Just(Step::Clear),
        ]
    }

    fn windows() -> impl Strategy<Value = Window> {
        prop_oneof![
            (1u32..12).prop_map(Window::Count),
            (100u64..15_000).prop_map(|ms| Window::Time(Duration::from_millis(ms))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn both_windows_hold_what_a_list_of_timestamps_says(
            window in windows(),
            steps in vec(step(), 1..120),
        ) {
            let mut subject = SlidingWindow::new(window);
            let mut naive = Naive { window, seen: Vec::new(), cleared: 0 };
            let mut incomplete: Vec<(usize, Mark)> = Vec::new();
            let mut now = 0;
            for step in steps {
                let tick = Tick::default().plus(now);
                match step {
                    Step::Pass(nanos) => now += nanos,
                    Step::Record(failed, slow) => {
                        let mark = subject.record(tick, failed, slow);
                        if !failed {
                            incomplete.push((naive.seen.len(), mark));
                        }
                        naive.seen.push((now, failed, slow));
                    }
                    Step::Complete(_, _) if incomplete.is_empty() => {}
                    Step::Complete(index, failed) => {
                        let (i, mark) = incomplete.swap_remove(index.index(incomplete.len()));
                        let live = naive.live(now).contains(&i);
                        prop_assert_eq!(subject.complete(tick, mark, failed), live);
                        if live {
                            naive.seen[i].1 |= failed;
                        }
                    }
                    Step::Clear => {
                        subject.clear();
                        naive.cleared = naive.seen.len();
                        // Whoever clears starts a new generation: older marks are never used.
                        incomplete.clear();
                    }
                }
                prop_assert_eq!(
                    subject.counts(Tick::default().plus(now)),
                    naive.counts(now)
                );
            }
        }
    }

    #[test]
    fn a_window_by_count_forgets_the_oldest() {
        let mut window = SlidingWindow::new(Window::Count(3));
        let now = Tick::default();
        let first = window.record(now, true, false);
        window.record(now, false, true);
        window.record(now, false, false);
        assert!(window.complete(now, first, true));
        assert_eq!(window.counts(now).failures, 1, "it had failed already");
        window.record(now, false, false);
        assert!(!window.complete(now, first, true));
        assert_eq!(
            window.counts(now),
            Counts {
                calls: 3,
                failures: 0,
                slow: 1
            }
        );
    }

    #[test]
    fn a_window_by_time_forgets_by_the_bucket() {
        let mut window = SlidingWindow::new(Window::Time(Duration::from_secs(10)));
        let at = |ms| Tick::after(Duration::from_millis(ms));
        window.record(at(1_500), true, true);
        assert_eq!(window.counts(at(10_999)).calls, 1);
        assert_eq!(window.counts(at(11_000)), Counts::default());
        window.record(at(11_000), false, false);
        assert_eq!(window.counts(at(3_000_000)), Counts::default());
    }

    #[test]
    fn a_share_reaches_the_threshold_it_is_written_as() {
        for whole in 1..=100u32 {
            for part in 0..=whole {
                let text = format!("{}", f64::from(part) / f64::from(whole));
                let threshold: f64 = text.parse().unwrap();
                assert!(Counts::share(part.into(), whole.into()) >= threshold);
            }
        }
        assert!(Counts::share(3, 10) >= 0.3);
        assert_eq!(Counts::share(0, 0), 0.0);
    }
}
