//! Load, and what it costs: throughput, latency and this process's CPU time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

/// How much load, for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Tasks that call one after the other.
    pub tasks: usize,
    /// How long each contender runs in each round.
    pub slice: Duration,
    /// How often the contenders take turns.
    pub rounds: usize,
}

/// One task's work.
pub trait Worker: Send + 'static {
    /// Does one operation, and panics when it does not work: a figure from failures is none.
    fn step(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a contender did.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Operations per second.
    pub throughput: f64,
    /// Microseconds of this process's CPU time per operation.
    pub cpu: f64,
    /// Latencies in microseconds.
    pub latency: Histogram<u64>,
}

/// Ours beside a peer.
#[derive(Debug, Clone)]
pub struct Paired {
    /// Medians over our slices, all latencies.
    pub ours: Sample,
    /// The same of the peer.
    pub peer: Sample,
    /// The median over the rounds of our throughput divided by the peer's in the same round.
    pub throughput_ratio: f64,
    /// The same for the CPU time per operation.
    pub cpu_ratio: f64,
}

/// Runs both in turns, each first in every other round, and compares them round by round, so that
/// what disturbs the machine disturbs both.
pub async fn compare<O: Worker, P: Worker>(
    load: Load,
    ours: impl Fn(usize) -> O,
    peer: impl Fn(usize) -> P,
) -> Paired {
    // One short slice each that is not counted: connections, caches, allocator.
    let warm_up = Load {
        slice: load.slice / 4,
        ..load
    };
    run(warm_up, &ours).await;
    run(warm_up, &peer).await;
    let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
    for round in 0..load.rounds {
        if round % 2 == 0 {
            of_ours.push(run(load, &ours).await);
            of_peer.push(run(load, &peer).await);
        } else {
            of_peer.push(run(load, &peer).await);
            of_ours.push(run(load, &ours).await);
        }
    }
    let ratio = |of: fn(&Sample) -> f64| {
        median(
            of_ours
                .iter()
                .zip(&of_peer)
                .map(|(ours, peer)| of(ours) / of(peer))
                .collect(),
        )
    };
    Paired {
        throughput_ratio: ratio(|sample| sample.throughput),
        cpu_ratio: ratio(|sample| sample.cpu),
        ours: summary(of_ours),
        peer: summary(of_peer),
    }
}

/// Runs one contender for one slice.
pub async fn run_alone<W: Worker>(load: Load, make: impl Fn(usize) -> W) -> Sample {
    run(load, &make).await
}

async fn run<W: Worker>(load: Load, make: &impl Fn(usize) -> W) -> Sample {
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let cpu_before = cpu_time();
    let tasks: Vec<_> = (0..load.tasks)
        .map(|i| tokio::spawn(work(make(i), Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(load.slice).await;
    stop.store(true, Ordering::Relaxed);
    let mut latency = histogram();
    for task in tasks {
        #[expect(clippy::expect_used, reason = "a figure from failures is none")]
        let one = task.await.expect("the operation works");
        latency += one;
    }
    let cpu = cpu_time().saturating_sub(cpu_before);
    #[expect(clippy::cast_precision_loss, reason = "far fewer operations than 2^53")]
    let count = latency.len() as f64;
    Sample {
        throughput: count / start.elapsed().as_secs_f64(),
        cpu: cpu.as_secs_f64() * 1e6 / count,
        latency,
    }
}

async fn work(mut worker: impl Worker, stop: Arc<AtomicBool>) -> Histogram<u64> {
    let mut latency = histogram();
    let mut before = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        worker.step().await;
        let after = Instant::now();
        let micros = u64::try_from((after - before).as_micros()).unwrap_or(u64::MAX);
        latency.saturating_record(micros);
        before = after;
    }
    latency
}

fn histogram() -> Histogram<u64> {
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants that are in range"
    )]
    Histogram::new_with_bounds(1, 10_000_000, 2).expect("the bounds are in range")
}

/// The CPU time that this process has used.
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn summary(samples: Vec<Sample>) -> Sample {
    let mut latency = histogram();
    for sample in &samples {
        latency += &sample.latency;
    }
    Sample {
        throughput: median(samples.iter().map(|sample| sample.throughput).collect()),
        cpu: median(samples.iter().map(|sample| sample.cpu).collect()),
        latency,
    }
}

/// The middle value; the mean of the two middle ones when their number is even.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }

    #[tokio::test]
    async fn the_same_work_has_a_ratio_of_about_one() {
        struct Yield;
        impl Worker for Yield {
            async fn step(&mut self) {
                tokio::task::yield_now().await;
            }
        }
        let load = Load {
            tasks: 4,
            slice: Duration::from_millis(20),
            rounds: 5,
        };
        let paired = compare(load, |_| Yield, |_| Yield).await;
        assert!(paired.ours.throughput > 0.0 && paired.peer.cpu > 0.0);
        assert!((0.3..3.0).contains(&paired.throughput_ratio), "{paired:?}");
    }
}
