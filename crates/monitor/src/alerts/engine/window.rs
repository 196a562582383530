//! [`Window`]: by how much two counters have grown in the latest time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How many samples are kept: of observations that are closer together than a part of the window, some are not.
const MOST: u32 = 1_000;

/// The windows of one rule's subjects.
pub(super) struct Windows<'w> {
    pub(super) rule: usize,
    pub(super) all: &'w mut BTreeMap<(usize, String), Window>,
}

impl Windows<'_> {
    pub(super) fn of(&mut self, subject: &str) -> &mut Window {
        self.all.entry((self.rule, subject.to_owned())).or_default()
    }
}

/// Two counters over time, such as hits and misses.
#[derive(Default)]
pub(super) struct Window {
    samples: VecDeque<(Instant, [u64; 2])>,
    latest: Option<(Instant, [u64; 2])>,
    length: Duration,
}

impl Window {
    /// Adds a sample. Gives by how much the counters have grown in the last `length`, and in which time; nothing
    /// at the first sample.
    pub(super) fn add(
        &mut self,
        now: Instant,
        counters: [u64; 2],
        length: Duration,
    ) -> Option<([u64; 2], Duration)> {
        self.length = length;
        if let Some((_, last)) = &self.latest
            && last.iter().zip(counters).any(|(last, now)| *last > now)
        {
            // The counters have begun anew.
            self.samples.clear();
        }
        // The sample at the window's beginning stays.
        let is_before = |sample: Option<&(Instant, _)>| {
            sample.is_some_and(|(at, _)| now.duration_since(*at) >= length)
        };
        while is_before(self.samples.get(1)) {
            self.samples.pop_front();
        }
        let is_due = |(at, _): &(Instant, _)| now.duration_since(*at) >= length / MOST;
        if self.samples.back().is_none_or(is_due) {
            self.samples.push_back((now, counters));
        }
        self.latest = Some((now, counters));
        let (at, first) = self.samples.front()?;
        let time = now.duration_since(*at);
        let [a, b] = counters;
        let [first_a, first_b] = first;
        (!time.is_zero()).then(|| {
            (
                [a.saturating_sub(*first_a), b.saturating_sub(*first_b)],
                time,
            )
        })
    }

    /// Whether nothing has been added for long.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.latest
            .is_none_or(|(at, _)| now.duration_since(at) > self.length * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_window_with_many_observations_is_as_long_as_it_says() {
        let (start, length) = (Instant::now(), Duration::from_secs(300));
        let mut window = Window::default();
        let mut grown = None;
        for step in 0..6_000_u32 {
            let at = start + Duration::from_millis(100) * step;
            grown = window.add(at, [u64::from(step), 0], length);
        }
        let ([count, _], time) = grown.unwrap();
        assert!(
            time >= length && time < length + Duration::from_secs(1),
            "{time:?}"
        );
        assert!((3_000..3_010).contains(&count), "{count}");
        assert!(window.samples.len() <= 1_002, "{}", window.samples.len());
    }

    #[test]
    fn a_window_forgets_what_is_older_and_begins_anew_after_a_reset() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut window = Window::default();
        let mut add = |at: u32, count| window.add(start + second * at, [count, 0], second * 3);
        assert_eq!(add(0, 10), None);
        assert_eq!(add(1, 11), Some(([1, 0], second)));
        assert_eq!(add(2, 12), Some(([2, 0], second * 2)));
        assert_eq!(add(3, 13), Some(([3, 0], second * 3)));
        assert_eq!(add(4, 14), Some(([3, 0], second * 3)));
        assert_eq!(add(5, 2), None, "the server was restarted");
        assert_eq!(add(6, 3), Some(([1, 0], second)));
        assert!(!window.is_over(start + second * 12) && window.is_over(start + second * 13));
    }
}
