//! Single flight over real processes: children of this test program on one Redis.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redkit_cache::{Cache, Error};
use redkit_core::{Client, ClientConfig, Command};
use redkit_testkit::{Server, ServerOptions};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

const PROCESSES: usize = 8;
const CALLERS: usize = 128;
const LEASE: Duration = Duration::from_secs(1);

/// What a child is to do, in the environment of its process.
const ORDER: &str = "REDKIT_CACHE_TEST_CHILD";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    url: String,
    /// How long a load takes.
    load_ms: u64,
    fails: bool,
}

/// What a child saw.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    values: usize,
    errors: usize,
    /// How long each of its callers waited.
    micros: Vec<u64>,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("the database is on fire")]
struct OnFire;

/// Not a test: a process of the tests below.
#[test]
#[ignore = "it is a child of the tests beside it"]
fn child() {
    let order: Order = serde_json::from_str(&std::env::var(ORDER).unwrap()).unwrap();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work(order));
}

async fn work(order: Order) {
    let client = Client::connect(ClientConfig::from_url(&order.url).unwrap())
        .await
        .unwrap();
    let cache: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
        .load_timeout(Duration::from_secs(60))
        .lease(LEASE)
        .share_errors::<OnFire>()
        .build()
        .unwrap();
    say("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    let order = Arc::new(order);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (cache, client, order) = (cache.clone(), client.clone(), Arc::clone(&order));
            tokio::spawn(async move {
                let begun = Instant::now();
                let load = || async move {
                    let count = Command::new("INCR").key("loads");
                    client.call::<i64>(count).await.unwrap();
                    say("loading");
                    tokio::time::sleep(Duration::from_millis(order.load_ms)).await;
                    if order.fails { Err(OnFire) } else { Ok(7_u64) }
                };
                let got = cache.get_or_load("cold", load).await;
                (got, begun.elapsed())
            })
        })
        .collect();
    let mut seen = Seen {
        values: 0,
        errors: 0,
        micros: Vec::new(),
    };
    for caller in callers {
        let (got, took) = caller.await.unwrap();
        match got {
            Ok(value) if *value == 7 => seen.values += 1,
            Err(Error::Load(error)) if error.downcast_ref::<OnFire>().is_some() => seen.errors += 1,
            other => panic!("{other:?}"),
        }
        seen.micros.push(u64::try_from(took.as_micros()).unwrap());
    }
    say(&format!("seen {}", serde_json::to_string(&seen).unwrap()));
}

/// A line for the parent, apart from what the test harness prints.
fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n> {what}").unwrap();
    out.flush().unwrap();
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a child, and returns when it is connected.
    async fn start(order: &Order) -> Self {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["processes::child", "--exact", "--ignored", "--nocapture"])
            .env(ORDER, serde_json::to_string(order).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut process = Self {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        };
        process.hear("ready").await;
        process
    }

    async fn go(&mut self) {
        self.stdin.write_all(b"go\n").await.unwrap();
        self.stdin.flush().await.unwrap();
    }

    /// Waits for a line that begins so, and gives the rest of it.
    async fn hear(&mut self, what: &str) -> String {
        let heard = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix("> ").and_then(|l| l.strip_prefix(what)) {
                    return rest.trim().to_owned();
                }
            }
            panic!("the process ended before it said `{what}`");
        };
        tokio::time::timeout(Duration::from_secs(100), heard)
            .await
            .unwrap_or_else(|_| panic!("the process does not say `{what}`"))
    }

    async fn seen(&mut self) -> Seen {
        serde_json::from_str(&self.hear("seen").await).unwrap()
    }
}

async fn start(order: &Order) -> Vec<Process> {
    let processes = (0..PROCESSES).map(|_| Process::start(order));
    futures_util::future::join_all(processes).await
}

async fn loads(server: &Server) -> i64 {
    let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap());
    let get = Command::new("GET").key("loads");
    client.await.unwrap().call(get).await.unwrap()
}

/// All of them at once.
async fn run(processes: &mut [Process]) -> Seen {
    for process in &mut *processes {
        process.go().await;
    }
    let mut all = Seen {
        values: 0,
        errors: 0,
        micros: Vec::new(),
    };
    for process in processes {
        let seen = process.seen().await;
        all.values += seen.values;
        all.errors += seen.errors;
        all.micros.extend(seen.micros);
    }
    all.micros.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_of_many_callers_load_a_cold_key_once() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let order = Order {
        url: server.url(),
        load_ms: 100,
        fails: false,
    };
    let mut processes = start(&order).await;
    let seen = run(&mut processes).await;
    assert_eq!((seen.values, seen.errors), (PROCESSES * CALLERS, 0));
    assert_eq!(loads(&server).await, 1);
    let (p50, p99) = (percentile(&seen, 50), percentile(&seen, 99));
    let beyond = p99.saturating_sub(Duration::from_millis(order.load_ms));
    println!(
        "a load of {} ms, {PROCESSES} x {CALLERS} callers, one load: \
         p50 {p50:?}, p99 {p99:?}, which is {beyond:?} beyond the load",
        order.load_ms
    );
    assert!(p99 < Duration::from_secs(30), "{p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_processes_see_the_error_of_the_one_load() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let order = Order {
        url: server.url(),
        // Long enough for the last process to come, on a busy machine as well.
        load_ms: 3000,
        fails: true,
    };
    let mut processes = start(&order).await;
    let seen = run(&mut processes).await;
    assert_eq!((seen.values, seen.errors), (0, PROCESSES * CALLERS));
    assert_eq!(loads(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_process_that_loads_is_killed_another_loads() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let order = Order {
        url: server.url(),
        load_ms: 60_000,
        fails: false,
    };
    let mut victim = Process::start(&order).await;
    let order = Order {
        load_ms: 1,
        ..order
    };
    let mut others = start(&order).await;
    victim.go().await;
    victim.hear("loading").await;
    for other in &mut others {
        other.go().await;
    }
    // They have looked and found the lease taken when each has subscribed.
    let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap())
        .await
        .unwrap();
    let begun = Instant::now();
    loop {
        let ask = Command::new("PUBSUB")
            .arg("NUMSUB")
            .arg("cache:numbers:wake");
        let reply: Vec<(String, usize)> = client.call(ask).await.unwrap();
        if reply
            .first()
            .is_some_and(|(_, number)| *number >= PROCESSES)
        {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "they do not wait"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    victim.child.kill().await.unwrap();
    let killed = Instant::now();
    let heard = others
        .iter_mut()
        .map(|other| Box::pin(other.hear("loading")));
    let (_, first, _) = futures_util::future::select_all(heard).await;
    let took = killed.elapsed();
    println!(
        "the lease is {LEASE:?}; the next load began {took:?} after the kill, in process {first}"
    );
    assert!(took < LEASE + Duration::from_secs(5), "{took:?}");
    for other in &mut others {
        assert_eq!(other.seen().await.values, CALLERS);
    }
    assert_eq!(
        loads(&server).await,
        2,
        "the one that was killed, and one more"
    );
}

fn percentile(seen: &Seen, percent: usize) -> Duration {
    let at = (seen.micros.len() * percent / 100).min(seen.micros.len() - 1);
    Duration::from_micros(seen.micros[at])
}
