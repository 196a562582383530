//! Real processes: children of this test program that are stopped past their leases, killed, and cut off.

use std::time::Duration;

use rand::RngExt;
use redkit_core::{Client, ClientConfig};
use redkit_lock::{Error, Fence, FencedRegister};
use redkit_testkit::{Server, ServerOptions, TestProcess};
use tokio::time::{Instant, sleep};

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
        let entered = TestProcess::now();
        let (mut held_until, turns) = (entered, rand::rng().random_range(1..30));
        for _ in 0..turns {
            sleep(Duration::from_millis(2)).await;
            // Both are asked before anything is concluded: the process may be stopped in between.
            let now = TestProcess::now();
            if guard.remaining().is_zero() {
                break;
            }
            held_until = now;
        }
        println!("turn {} {entered} {held_until}", guard.fence());
        let _ = guard.release().await;
    }
}

async fn connect(url: &str) -> Client {
    Client::connect(ClientConfig::from_url(url).unwrap())
        .await
        .unwrap()
}

fn start(order: &str, server: &Server) -> TestProcess {
    TestProcess::start("processes::child", &[(ORDER, order), (URL, &server.url())]).unwrap()
}

#[tokio::test]
async fn a_holder_that_was_stopped_past_its_lease_does_no_harm() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let client = connect(&server.url()).await;
    let locks = builder(&client).ttl(TTL).build().unwrap();
    let register = FencedRegister::new(&client, "data").unwrap();
    let mut child = start("hold", &server);
    let theirs = Fence::new(child.says("held").await.unwrap().parse().unwrap());
    // It is renewed for as long as it lives.
    sleep(2 * TTL).await;
    assert_eq!(locks.inspect("k").await.unwrap().unwrap().fence, theirs);
    child.stop().unwrap();
    let stopped = Instant::now();
    let guard = locks.acquire("k", LONG).await.unwrap();
    assert!(stopped.elapsed() <= TTL + SECOND, "{:?}", stopped.elapsed());
    assert!(guard.fence() > theirs);
    register
        .write("k", guard.fence(), "of the parent")
        .await
        .unwrap();
    sleep(TTL).await;
    child.cont().unwrap();
    assert_eq!(
        child.says("lost").await.unwrap(),
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
    let mut child = start("hold", &server);
    child.says("held").await.unwrap();
    let error = locks.try_acquire("k").await.unwrap_err();
    let holder = error.holder().unwrap();
    assert_eq!(
        (holder.label.as_deref(), Some(holder.process)),
        (Some("the child"), child.id())
    );
    let waiter = locks.clone();
    let waited = tokio::spawn(async move { waiter.acquire("k", LONG).await.map(drop) });
    child.kill().await;
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
    let mut lines = Vec::new();
    let mut processes: Vec<TestProcess> = (0..PROCESSES).map(|_| start("turns", &server)).collect();
    for process in &mut processes {
        process.says("turn").await.unwrap();
    }
    let end = Instant::now() + 6 * SECOND;
    let mut faults = 0;
    while Instant::now() < end {
        let which = rand::rng().random_range(0..PROCESSES);
        let process = &mut processes[which];
        match faults % 3 {
            0 => {
                process.stop().unwrap();
                sleep(2 * TTL).await;
                process.cont().unwrap();
            }
            1 => {
                let killed = std::mem::replace(process, start("turns", &server));
                lines.extend(killed.kill().await);
            }
            _ => {
                server.kill_clients().await.unwrap();
            }
        }
        faults += 1;
        sleep(Duration::from_millis(200)).await;
    }
    for mut process in processes {
        process.says("turn").await.unwrap();
        lines.extend(process.kill().await);
    }
    let mut turns = TestProcess::numbers::<3>(&lines, "turn");
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
