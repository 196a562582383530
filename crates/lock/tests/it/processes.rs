//! Real processes: children of this test program that are stopped past their leases, killed, and cut off.

use std::process::Stdio;
use std::time::Duration;

use rand::RngExt;
use redkit_core::{Client, ClientConfig};
use redkit_lock::{Error, Fence, FencedRegister};
use redkit_testkit::{Server, ServerOptions};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::fleet::{World, run};
use crate::{LONG, SECOND, builder};

const TTL: Duration = Duration::from_millis(600);

/// What a child is to do, in the environment of its process.
const ORDER: &str = "REDKIT_LOCK_TEST_CHILD";
const URL: &str = "REDKIT_LOCK_TEST_URL";

/// Not a test: a process of the tests below.
#[test]
#[ignore = "it is a child of the tests beside it"]
fn child() {
    let (order, url) = (std::env::var(ORDER).unwrap(), std::env::var(URL).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = connect(&url).await;
        match order.as_str() {
            "hold" => hold(client).await,
            _ => take_turns(client).await,
        }
    });
}

/// Holds the lock, is stopped meanwhile, and writes late.
async fn hold(client: Client) {
    let locks = builder(&client)
        .ttl(TTL)
        .label("the child")
        .build()
        .unwrap();
    let register = FencedRegister::new(&client, "data").unwrap();
    let guard = locks.acquire("k", LONG).await.unwrap();
    let fence = guard.fence();
    register.write("k", fence, "of the child").await.unwrap();
    println!("held {fence}");
    let ran = guard.run(std::future::pending::<()>()).await;
    assert!(matches!(ran, Err(Error::Lost)));
    let late = register.write("k", fence, "of the child, late").await;
    println!("lost {}", matches!(late, Err(Error::Fenced { .. })));
}

/// Takes the lock again and again, and says from when to when it certainly held it.
async fn take_turns(client: Client) {
    let locks = builder(&client).ttl(TTL).build().unwrap();
    loop {
        let Ok(guard) = locks.acquire("k", 10 * SECOND).await else {
            continue;
        };
        let entered = monotonic();
        let (mut held_until, turns) = (entered, rand::rng().random_range(1..30));
        for _ in 0..turns {
            sleep(Duration::from_millis(2)).await;
            // Both are asked before anything is concluded: the process may be stopped in between.
            let now = monotonic();
            if guard.remaining().is_zero() {
                break;
            }
            held_until = now;
        }
        println!("turn {} {entered} {held_until}", guard.fence());
        let _ = guard.release().await;
    }
}

/// Nanoseconds of a clock that all processes of the machine share.
fn monotonic() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

async fn connect(url: &str) -> Client {
    Client::connect(ClientConfig::from_url(url).unwrap())
        .await
        .unwrap()
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(order: &str, server: &Server) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "processes::child", "--nocapture"])
            .env(ORDER, order)
            .env(URL, server.url())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap()));
        kill_process(pid.unwrap(), signal).unwrap();
    }

    /// What follows `word` in the line that has it.
    async fn says(&mut self, word: &str) -> String {
        let line = timeout(LONG, async {
            loop {
                let line = self
                    .lines
                    .next_line()
                    .await
                    .unwrap()
                    .expect("it has not ended");
                if let Some((_, rest)) = line.split_once(word) {
                    return rest.trim().to_owned();
                }
            }
        });
        line.await.expect("it says so in time")
    }
}

#[tokio::test]
async fn a_holder_that_was_stopped_past_its_lease_does_no_harm() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let client = connect(&server.url()).await;
    let locks = builder(&client).ttl(TTL).build().unwrap();
    let register = FencedRegister::new(&client, "data").unwrap();
    let mut child = Process::start("hold", &server);
    let theirs = Fence::new(child.says("held").await.parse().unwrap());
    // It is renewed for as long as it lives.
    sleep(2 * TTL).await;
    assert_eq!(locks.inspect("k").await.unwrap().unwrap().fence, theirs);
    child.signal(Signal::STOP);
    let stopped = Instant::now();
    let guard = locks.acquire("k", LONG).await.unwrap();
    assert!(stopped.elapsed() <= TTL + SECOND, "{:?}", stopped.elapsed());
    assert!(guard.fence() > theirs);
    register
        .write("k", guard.fence(), "of the parent")
        .await
        .unwrap();
    sleep(TTL).await;
    child.signal(Signal::CONT);
    assert_eq!(
        child.says("lost").await,
        "true",
        "the late write is rejected"
    );
    let read = register.read::<String>("k").await.unwrap().unwrap();
    assert_eq!(
        (read.value.as_str(), read.fence),
        ("of the parent", guard.fence())
    );
    assert!(
        !guard.is_lost() && guard.release().await.unwrap(),
        "the child's late release took nothing"
    );
}

#[tokio::test]
async fn the_lock_of_a_killed_process_is_free_after_its_ttl() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let client = connect(&server.url()).await;
    let locks = builder(&client).ttl(TTL).build().unwrap();
    let mut child = Process::start("hold", &server);
    child.says("held").await;
    let error = locks.try_acquire("k").await.unwrap_err();
    let holder = error.holder().unwrap();
    assert_eq!(
        (holder.label.as_deref(), Some(holder.process)),
        (Some("the child"), child.child.id())
    );
    let waiter = locks.clone();
    let waited = tokio::spawn(async move { waiter.acquire("k", LONG).await.map(drop) });
    child.child.kill().await.unwrap();
    let killed = Instant::now();
    waited.await.unwrap().unwrap();
    assert!(killed.elapsed() <= TTL + SECOND, "{:?}", killed.elapsed());
}

/// Stops past the lease, kills, and cut connections, for a few seconds. No two hold the lock at the same time, and
/// who comes later has the greater fence.
#[tokio::test]
async fn no_two_processes_hold_a_lock_at_once_whatever_happens_to_them() {
    const PROCESSES: usize = 4;
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let mut turns = Vec::new();
    let mut processes: Vec<Process> = (0..PROCESSES)
        .map(|_| Process::start("turns", &server))
        .collect();
    for process in &mut processes {
        turns.push(process.says("turn").await);
    }
    let end = Instant::now() + 6 * SECOND;
    let mut faults = 0;
    while Instant::now() < end {
        let which = rand::rng().random_range(0..PROCESSES);
        let process = &mut processes[which];
        match faults % 3 {
            0 => {
                process.signal(Signal::STOP);
                sleep(2 * TTL).await;
                process.signal(Signal::CONT);
            }
            1 => {
                process.child.start_kill().unwrap();
                while let Ok(Some(line)) = process.lines.next_line().await {
                    turns.extend(line.split_once("turn ").map(|(_, turn)| turn.to_owned()));
                }
                *process = Process::start("turns", &server);
            }
            _ => {
                server.kill_clients().await.unwrap();
            }
        }
        faults += 1;
        sleep(Duration::from_millis(200)).await;
    }
    for mut process in processes {
        turns.push(process.says("turn").await);
        process.child.start_kill().unwrap();
        while let Ok(Some(line)) = process.lines.next_line().await {
            turns.extend(line.split_once("turn ").map(|(_, turn)| turn.to_owned()));
        }
    }
    let mut turns: Vec<[i64; 3]> = turns
        .iter()
        .filter_map(|turn| {
            let numbers: Result<Vec<i64>, _> = turn.split(' ').map(str::parse).collect();
            numbers.ok()?.try_into().ok()
        })
        .collect();
    assert!(
        turns.len() > 40 && faults >= 6,
        "{} turns, {faults} faults",
        turns.len()
    );
    turns.sort_by_key(|[_, entered, _]| *entered);
    for pair in turns.windows(2) {
        let ([fence, _, held_until], [next_fence, entered, _]) = (pair[0], pair[1]);
        assert!(held_until <= entered, "two held it at once: {pair:?}");
        assert!(
            fence < next_fence,
            "a later holder has an older fence: {pair:?}"
        );
    }
}

#[tokio::test]
async fn a_fleet_on_one_server_holds_a_lock_one_at_a_time() {
    run(&World::one().await, 3, 7 * SECOND).await;
}

#[tokio::test]
async fn a_fleet_with_sentinels_writes_nothing_out_of_order() {
    run(&World::sentinels().await, 3, 7 * SECOND).await;
}

#[tokio::test]
async fn a_fleet_on_a_cluster_writes_nothing_out_of_order() {
    run(&World::cluster().await, 3, 7 * SECOND).await;
}
