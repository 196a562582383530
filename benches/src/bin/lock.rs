//! `cargo xtask bench lock`: locks beside `rslock` and `distributed-lock`, alone and under contention; many locks
//! in one process, and many waiters for one.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to report"
)]

#[path = "lock/contenders.rs"]
mod contenders;
#[path = "lock/many.rs"]
mod many;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use redkit_benches::{
    COMPARISON, Load, Paired, Section, Target, Worker, compare, comparison, server, verdict,
    write_section,
};
use redkit_testkit::{Server, ServerOptions};

use self::contenders::{Distributed, Locks, Redkit, Rslock};
use self::many::as_f64;

/// Measures locks beside `rslock` and `distributed-lock`.
#[derive(Debug, Parser)]
struct Arguments {
    /// End with an error when a target is missed.
    #[arg(long)]
    check: bool,
    /// Few and short rounds, and nothing is written.
    #[arg(long)]
    quick: bool,
}

/// Clients (connections) that contend for one lock, and the tasks of each.
const CLIENTS: usize = 8;
const TASKS: usize = 8;
/// How long the lock is held under contention.
const HELD: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> ExitCode {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let quick = arguments.quick;
    let mut report = Report::default();
    alone(&server, quick, &mut report).await;
    server_times(&server, if quick { 200 } else { 5_000 }, &mut report).await;
    contended(&server, quick, &mut report).await;
    let (count, time) = match quick {
        true => (1_000, Duration::from_secs(2)),
        false => (10_000, Duration::from_secs(10)),
    };
    for text in [
        many::held(&server, count, time).await,
        many::waiters(&server, count, time).await,
    ] {
        println!("{text}\n");
        let _ = writeln!(report.many, "{text}\n");
    }
    let text = report.text(&server::version(&server).await);
    if !quick {
        let section = Section { name: "lock", text };
        println!("written: {}", write_section(&section).unwrap().display());
    }
    verdict(&report.targets, arguments.check)
}

/// Each task takes a lock of its own, and gives it back.
async fn alone(server: &Server, quick: bool, report: &mut Report) {
    let (redkit, rslock, distributed) = (
        Redkit::connect(server, false).await,
        Rslock::new(server),
        Distributed::connect(server).await,
    );
    for (tasks, at_least) in [(1, 1.2), (256, 2.0)] {
        let load = Load {
            tasks,
            slice: Duration::from_millis(if quick { 300 } else { 700 }),
            rounds: if quick { 4 } else { 10 },
        };
        let ours = |task| Alone::new(&redkit, task);
        let paired = compare(load, ours, |task| Alone::new(&rslock, task)).await;
        report.alone("`rslock`", tasks, &paired, at_least);
        let paired = compare(load, ours, |task| Alone::new(&distributed, task)).await;
        report.alone("`distributed-lock`", tasks, &paired, at_least);
    }
}

/// The server's own time for a lock that is taken and given back, each of them a call.
async fn server_times(server: &Server, turns: u64, report: &mut Report) {
    let (redkit, rslock) = (Redkit::connect(server, false).await, Rslock::new(server));
    let mut ours = Alone::new(&redkit, 0);
    let both = server::micros_of(server, "evalsha", async {
        for _ in 0..turns {
            ours.step().await;
        }
    });
    let both = both.await;
    let mut theirs = Alone::new(&rslock, 0);
    let unlock = server::micros_of(server, "evalsha", async {
        for _ in 0..turns {
            theirs.step().await;
        }
    });
    let unlock = unlock.await;
    let set = server::calls_of(server, "set").await;
    let text = format!(
        "The server's own time (`usec_per_call` of `INFO commandstats`, one task): {:.1} µs for the two scripts, {:.1} µs for \
         `rslock`'s `SET` and script.",
        2.0 * both,
        set.1 / set.0 + unlock,
    );
    println!("{text}");
    let _ = writeln!(report.alone, "\n{text}");
}

/// All tasks of all clients take one lock.
async fn contended(server: &Server, quick: bool, report: &mut Report) {
    let time = Duration::from_secs(if quick { 1 } else { 5 });
    let (mut woken, mut fair) = (Vec::new(), Vec::new());
    let mut rslock = Vec::new();
    for _ in 0..CLIENTS {
        woken.push(Redkit::connect(server, false).await);
        fair.push(Redkit::connect(server, true).await);
        rslock.push(Rslock::new(server));
    }
    report.contended("redkit", &contend(&woken, time).await);
    report.contended("redkit, fair", &contend(&fair, time).await);
    report.contended("`rslock`", &contend(&rslock, time).await);
}

struct Alone<L> {
    locks: L,
    key: String,
}

impl<L: Locks> Alone<L> {
    fn new(locks: &L, task: usize) -> Self {
        Self {
            locks: locks.clone(),
            key: format!("own-{task}"),
        }
    }
}

impl<L: Locks> Worker for Alone<L> {
    async fn step(&mut self) {
        let held = self.locks.acquire(&self.key).await;
        self.locks.release(held).await;
    }
}

/// How many turns the tasks had that contended for one lock, and how long they waited.
struct Contended {
    per_second: f64,
    /// From the call that releases to the next holder's knowing, in µs.
    hand_off: Histogram<u64>,
    /// From the call to the lock, in µs.
    wait: Histogram<u64>,
    /// The fewest turns of a task, divided by the most.
    share: f64,
}

async fn contend<L: Locks>(clients: &[L], time: Duration) -> Contended {
    let stop = Arc::new(AtomicBool::new(false));
    let released: Arc<Mutex<Option<Instant>>> = Arc::default();
    let start = Instant::now();
    let mut tasks = Vec::new();
    for locks in clients {
        for _ in 0..TASKS {
            let (locks, stop, released) = (locks.clone(), Arc::clone(&stop), Arc::clone(&released));
            tasks.push(tokio::spawn(async move {
                let (mut hand_off, mut wait) = (histogram(), histogram());
                let mut turns = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let called = Instant::now();
                    let held = locks.acquire("contended").await;
                    // Tasks that still wait when the time is over get the lock from tasks that have ended.
                    let is_counted = !stop.load(Ordering::Relaxed);
                    let free_since = released.lock().take();
                    if is_counted {
                        turns += 1;
                        wait.saturating_record(micros(called.elapsed()));
                    }
                    if let Some(since) = free_since.filter(|_| is_counted) {
                        hand_off.saturating_record(micros(since.elapsed()));
                    }
                    tokio::time::sleep(HELD).await;
                    *released.lock() = Some(Instant::now());
                    locks.release(held).await;
                }
                (turns, hand_off, wait)
            }));
        }
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let measured = start.elapsed();
    let (mut all, mut hand_off, mut wait) = (Vec::new(), histogram(), histogram());
    for task in tasks {
        let (turns, of_task, waited) = task.await.unwrap();
        all.push(turns);
        hand_off += &of_task;
        wait += &waited;
    }
    let (fewest, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
    Contended {
        per_second: as_f64(wait.len()) / measured.as_secs_f64(),
        share: as_f64(*fewest) / as_f64(*most),
        hand_off,
        wait,
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 2).unwrap()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(latency: &Histogram<u64>, quantile: f64) -> f64 {
    as_f64(latency.value_at_quantile(quantile)) / 1000.0
}

#[derive(Default)]
struct Report {
    alone: String,
    contended: String,
    many: String,
    targets: Vec<Target>,
}

impl Report {
    fn alone(&mut self, peer: &str, tasks: usize, paired: &Paired, at_least: f64) {
        let row = comparison(peer, tasks, paired);
        println!("{row}");
        let _ = writeln!(self.alone, "{row}");
        self.targets.push(Target {
            what: format!("taking and giving back beside {peer}, {tasks} tasks"),
            value: paired.throughput_ratio,
            at_least: Some(at_least),
            at_most: None,
        });
    }

    fn contended(&mut self, locks: &str, contended: &Contended) {
        let Contended {
            per_second,
            hand_off,
            wait,
            share,
        } = contended;
        let row = format!(
            "| {locks} | {per_second:.0} | {:.2} / {:.2} | {:.0} / {:.0} / {:.0} | {share:.2} |",
            millis(hand_off, 0.5),
            millis(hand_off, 0.9),
            millis(wait, 0.5),
            millis(wait, 0.99),
            millis(wait, 1.0),
        );
        println!("{row}");
        let _ = writeln!(self.contended, "{row}");
        let (what, value, at_least, at_most) = match locks {
            "redkit" => ("hand-off p50 (ms)", millis(hand_off, 0.5), None, Some(1.0)),
            "redkit, fair" => ("fewest / most turns, fair", *share, Some(0.9), None),
            _ => return,
        };
        self.targets.push(Target {
            what: what.to_owned(),
            value,
            at_least,
            at_most,
        });
    }

    fn text(&self, version: &str) -> String {
        let Self {
            alone,
            contended,
            many,
            ..
        } = self;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "## lock: beside `rslock` and `distributed-lock`\n\n\
             `cargo xtask bench lock`, Redis {version} on loopback, {cores} cores shared by client and server. Peers: \
             `rslock` 0.7 (later ones exclude what another\nbenchmark needs) and `distributed-lock` 0.2, each with one server and as it comes, but with our TTL of 10 s\n(and, as by default, nine tenths of it as the least validity of `distributed-lock`). \
             Neither gives a fence, `rslock` does not renew.\n\n\
             A lock that nobody else wants is taken and given back, each task its own. Targets: at least 1.2 times the \
             peers' at\n1 task, twice at 256.\n\n\
             | peer | {COMPARISON}\n|---|---|---|---|---|---|---|---|---|\n{alone}\n\
             One lock, {CLIENTS} clients of one process with {TASKS} tasks each, held for 1 ms (and what the timer \
             adds). A hand-off is\nthe time from the call that releases to the next holder's knowing; target: p50 of at \
             most 1 ms. `distributed-lock` does not\nwait on one server; its callers try again after 10 ms. Fair: \
             fewest/most turns of at least 0.9.\n\n\
             | locks | turns/s | hand-off p50 / p90 ms | wait p50 / p99 / most ms | fewest / most turns of a task |\n\
             |---|---|---|---|---|\n{contended}\n{many}"
        )
    }
}
