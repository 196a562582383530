//! Many locks held by one process, and many waiters for one lock: what they cost.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use redkit_benches::server::{calls_of, commands, used_memory};
use redkit_testkit::Server;

use crate::contenders::{Locks as _, Redkit};

/// Holds so many locks in one process: the commands that their renewal sends in a second, and the memory that the
/// server needs for them.
pub(crate) async fn held(server: &Server, count: usize, time: Duration) -> String {
    let locks = Redkit::connect(server, false).await;
    let before = used_memory(server).await;
    let mut held = Vec::with_capacity(count);
    for start in (0..count).step_by(500) {
        let some = start..(start + 500).min(count);
        let some = some.map(|number| format!("held-{number:05}"));
        let calls = some.map(async |key| locks.acquire(&key).await);
        held.extend(futures_util::future::join_all(calls).await);
    }
    let bytes = per(used_memory(server).await - before, count);
    let renewed = locks.0.stats().renewed;
    let (started, ran, cpu) = (Instant::now(), commands(server).await, busy(server).await);
    tokio::time::sleep(time).await;
    let seconds = started.elapsed().as_secs_f64();
    let commands = (commands(server).await - ran) / seconds;
    let busy = (busy(server).await - cpu) / seconds / 1e4;
    let stats = locks.0.stats();
    assert_eq!((stats.held, stats.lost), (count, 0));
    let renewals = as_f64(stats.renewed - renewed) / seconds;
    let guards = held.len();
    let started = Instant::now();
    drop(held);
    while !is_free(server, count).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut text = String::new();
    let _ = write!(
        text,
        "{guards} locks held by one process with a TTL of 10 s, renewed by one task: {renewals:.0} renewals a second, \
         {commands:.0} commands a second\n(those that its scripts call among them), {busy:.1} % of the server's time in \
         scripts, {bytes:.0} bytes a lock on the server (with its fence).\nAfter the guards were dropped at once, all were given back within {:.0} ms.",
        started.elapsed().as_secs_f64() * 1e3
    );
    text
}

/// Lets so many callers wait for one lock: the commands that they send meanwhile, and how fast the lock goes through
/// all of them.
pub(crate) async fn waiters(server: &Server, count: usize, time: Duration) -> String {
    let (holder, locks) = (
        Redkit::connect(server, false).await,
        Redkit::connect(server, false).await,
    );
    let held = holder.acquire("awaited").await;
    let (memory, resident) = (used_memory(server).await, resident());
    let mut tasks = Vec::with_capacity(count);
    for _ in 0..count {
        let locks = locks.clone();
        tasks.push(tokio::spawn(async move {
            let held = locks.acquire("awaited").await;
            locks.release(held).await;
        }));
    }
    while locks.0.stats().waiting < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // They have subscribed, and tried again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let in_process = per(resident_since(resident), count);
    let on_server = per((used_memory(server).await - memory).max(0.0), count);
    let (started, ran) = (Instant::now(), commands(server).await);
    tokio::time::sleep(time).await;
    let commands = (commands(server).await - ran) / started.elapsed().as_secs_f64();
    let started = Instant::now();
    holder.release(held).await;
    for task in tasks {
        task.await.unwrap();
    }
    let passed = started.elapsed().as_secs_f64();
    format!(
        "{count} waiters of one process for one lock: {in_process:.0} bytes of its memory and {on_server:.0} bytes of the \
         server's for each, {commands:.1} commands a second\nwhile they wait. Then the lock goes through all of them in \
         {passed:.2} s ({:.0} turns a second).",
        as_f64(count as u64) / passed
    )
}

/// Whether the last of the locks can be taken, by its key on the server.
async fn is_free(server: &Server, count: usize) -> bool {
    let mut left = 0;
    for number in [0, count / 2, count - 1] {
        let key = format!("lock:bench:{{held-{number:05}}}");
        left += server.raw(&["EXISTS", &key]).await.unwrap().int().unwrap();
    }
    left == 0
}

/// The server's time in scripts, in µs.
async fn busy(server: &Server) -> f64 {
    calls_of(server, "evalsha").await.1 + calls_of(server, "eval").await.1
}

/// Bytes of this process that are in memory; nothing where that cannot be asked for.
fn resident() -> f64 {
    const PAGE: f64 = 4096.0;
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(f64::NAN, |pages: f64| pages * PAGE)
}

fn resident_since(before: f64) -> f64 {
    (resident() - before).max(0.0)
}

fn per(bytes: f64, count: usize) -> f64 {
    bytes / as_f64(count as u64)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
