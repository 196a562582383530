//! [`Durations`]: histograms of durations, counted in classes as they come. To keep every sample until the next
//! scrape, as the library of the exporter does, would cost each call of Redis a twentieth of its processor time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;

use metrics::{Histogram, HistogramFn, Key, SharedString};
use metrics_exporter_prometheus::formatting::{
    sanitize_description, sanitize_label_key, sanitize_label_value, sanitize_metric_name,
};
use parking_lot::Mutex;

use super::DURATION_BUCKETS;

/// The end of each duration's name.
const SUFFIX: &str = "_seconds";

/// The histograms of a recorder whose names say that they are durations.
#[derive(Debug, Default)]
pub(super) struct Durations(Mutex<BTreeMap<String, Family>>);

/// The histograms of one name.
#[derive(Debug, Default)]
struct Family {
    help: Option<SharedString>,
    by_labels: BTreeMap<Key, Arc<Classes>>,
}

impl Durations {
    /// Whether a histogram of this name belongs here.
    pub(super) fn are_meant(name: &str) -> bool {
        name.ends_with(SUFFIX)
    }

    pub(super) fn describe(&self, name: &str, text: SharedString) {
        let mut families = self.0.lock();
        let family = families.entry(sanitize_metric_name(name)).or_default();
        family.help.get_or_insert(text);
    }

    pub(super) fn register(&self, key: &Key) -> Histogram {
        let mut families = self.0.lock();
        let name = sanitize_metric_name(key.name());
        let by_labels = &mut families.entry(name).or_default().by_labels;
        let classes = by_labels.entry(key.to_retained()).or_default();
        Histogram::from_arc(Arc::clone(classes))
    }

    /// Adds them to a text in Prometheus' format.
    pub(super) fn write(&self, text: &mut String) {
        for (name, family) in &*self.0.lock() {
            if family.by_labels.is_empty() {
                continue;
            }
            if let Some(help) = &family.help {
                text.push_str(&format!("# HELP {name} {}\n", sanitize_description(help)));
            }
            text.push_str(&format!("# TYPE {name} histogram\n"));
            for (key, classes) in &family.by_labels {
                classes.read().write(text, name, &labels(key));
            }
            text.push('\n');
        }
    }
}

/// The labels as they stand between the braces.
fn labels(key: &Key) -> String {
    let labels = key.labels().map(|label| {
        let (name, value) = (label.key(), label.value());
        format!(
            "{}=\"{}\"",
            sanitize_label_key(name),
            sanitize_label_value(value)
        )
    });
    labels.collect::<Vec<_>>().join(",")
}

/// One histogram. Threads count in different places, so that they do not wait for each other's caches.
#[derive(Debug)]
struct Classes(Box<[Stripe]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    /// For each of [`DURATION_BUCKETS`] the durations up to it and above the one before, and those above all.
    counts: [AtomicU64; DURATION_BUCKETS.len() + 1],
    /// Their sum in seconds, as the bits of an `f64`.
    sum: AtomicU64,
}

impl Default for Classes {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        let stripes = threads.min(MOST_STRIPES);
        Self((0..stripes).map(|_| Stripe::default()).collect())
    }
}

/// Where so many threads count at once, two that meet in a place do so seldom.
const MOST_STRIPES: usize = 16;

impl HistogramFn for Classes {
    fn record(&self, seconds: f64) {
        self.record_many(seconds, 1);
    }

    fn record_many(&self, seconds: f64, count: usize) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        let class = DURATION_BUCKETS.partition_point(|bound| *bound < seconds);
        let Some(stripe) = self.0.get(turn() % self.0.len()) else {
            return;
        };
        if let Some(class) = stripe.counts.get(class) {
            class.fetch_add(count as u64, Ordering::Relaxed);
        }
        #[allow(clippy::cast_precision_loss, reason = "a sum of seconds")]
        let added = seconds * count as f64;
        let add = |sum| {
            let sum = f64::from_bits(sum) + added;
            sum.is_finite().then(|| sum.to_bits())
        };
        // A sum beyond all numbers stays as it was.
        let _ = stripe
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// The number of this thread.
fn turn() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static TURN: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed));
    }
    TURN.try_with(Cell::get).unwrap_or_default()
}

impl Classes {
    fn read(&self) -> Counted {
        let mut counted = Counted::default();
        for stripe in &self.0 {
            for (sum, count) in counted.counts.iter_mut().zip(&stripe.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
            counted.sum += f64::from_bits(stripe.sum.load(Ordering::Relaxed));
        }
        counted
    }
}

/// The counts of all threads until now.
#[derive(Default)]
struct Counted {
    counts: [u64; DURATION_BUCKETS.len() + 1],
    /// In seconds.
    sum: f64,
}

impl Counted {
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bounds = DURATION_BUCKETS.iter().map(f64::to_string);
        let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
        let mut up_to = 0;
        for (bound, count) in bounds.zip(self.counts) {
            up_to += count;
            let row = format!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {up_to}\n");
            text.push_str(&row);
        }
        let braced = match labels {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        let sum = self.sum;
        let ends = write!(
            text,
            "{name}_sum{braced} {sum}\n{name}_count{braced} {up_to}\n"
        );
        // A text takes whatever is written.
        debug_assert!(ends.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_are_counted_in_their_classes_by_whatever_thread() {
        let durations = Durations::default();
        durations.describe("app_work_seconds", "How long\nit took.".into());
        durations.describe("app_never_seconds", "Nobody counts.".into());
        let key = Key::from_parts("app_work_seconds", &[("kind", "a\"b"), ("of-it", "1")]);
        let histogram = durations.register(&key);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // A duration as long as a bound belongs below it.
                    histogram.record(Duration::from_micros(100));
                    histogram.record(Duration::from_micros(101));
                    durations.register(&key).record_many(20.0, 2);
                    histogram.record(f64::NAN);
                    histogram.record(-1.0);
                    histogram.record(f64::INFINITY);
                });
            }
        });
        let mut text = String::new();
        durations.write(&mut text);
        let row = |end: &str| format!("kind=\"a\\\"b\",of_it=\"1\"{end}\n");
        for expected in [
            "# HELP app_work_seconds How long\\nit took.\n# TYPE app_work_seconds histogram\n",
            &row(",le=\"0.0001\"} 8"),
            &row(",le=\"0.00025\"} 16"),
            &row(",le=\"10\"} 16"),
            &row(",le=\"+Inf\"} 32"),
            &row("} 32"),
        ] {
            assert!(text.contains(expected), "{expected} {text}");
        }
        assert!((sum(&text) - 320.001_608).abs() < 1e-9, "{text}");
        assert!(!text.contains("app_never"), "{text}");
    }
    #[test]
    fn long_durations_do_not_bring_the_sum_to_its_end() {
        let durations = Durations::default();
        let histogram = durations.register(&Key::from_static_name("app_ttl_seconds"));
        let month = 30.0 * 86_400.0;
        histogram.record_many(month, 100_000);
        histogram.record(month);
        let mut text = String::new();
        durations.write(&mut text);
        assert!((sum(&text) - month * 100_001.0).abs() < 1.0, "{text}");
    }

    fn sum(text: &str) -> f64 {
        let mut rows = text.lines().filter(|row| row.contains("_sum"));
        let (_, value) = rows.next().unwrap().rsplit_once(' ').unwrap();
        value.parse().unwrap()
    }
}
