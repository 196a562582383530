//! Bounded: whatever happens to the server, every call ends by its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redkit_core::{Client, ClientConfig, Command, Driver, Error};
use redkit_testkit::{Proxy, Server, ServerOptions};

use crate::lateness::Lateness;

const TIMEOUT: Duration = Duration::from_millis(400);
const SLACK: Duration = Duration::from_millis(50);

/// One case at a time: a thousand callers with a megabyte each leave no room for a neighbour.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

each_driver! {
    (flavor = "multi_thread", worker_threads = 2)
    stopped_server_few_callers_small_values,
    stopped_server_few_callers_large_values,
    stopped_server_many_callers_small_values,
    stopped_server_many_callers_large_values,
    half_open_sockets,
    killed_and_restarted_server,
    dropped_calls_leave_nothing_behind,
}

/// With a breaker calls are refused at once after a while; without one each has to be waited for.
async fn connect(driver: Driver, url: &str, breaker: bool) -> Client {
    let config = ClientConfig::from_url(&format!("{url}?breaker_enabled={breaker}"))
        .unwrap()
        .driver(driver)
        .command_timeout(TIMEOUT);
    Client::connect(config).await.unwrap()
}

/// How long the slowest of `callers` calls took, and for how long the machine stood still meanwhile: a call may begin in
/// one stall and end in another.
async fn slowest(client: &Client, callers: usize, payload: &Bytes) -> (Duration, Duration) {
    let lateness = Lateness::watch();
    let tasks: Vec<_> = (0..callers)
        .map(|i| {
            let (client, payload) = (client.clone(), payload.clone());
            tokio::spawn(async move {
                let command = Command::with_capacity("SET", payload.len() + 32)
                    .key(i)
                    .arg(&payload);
                let start = Instant::now();
                let result = client.call::<()>(command).await;
                (start.elapsed(), result)
            })
        })
        .collect();
    let mut worst = Duration::ZERO;
    for task in tasks {
        let (took, result) = task.await.unwrap();
        assert!(
            result.unwrap_err().is_retryable(),
            "an outage, nothing else"
        );
        worst = worst.max(took);
    }
    // A stall that is not over yet is known when it is.
    tokio::time::sleep(Duration::from_millis(10)).await;
    (worst, lateness.stalls())
}

async fn answers_by_the_deadline_while_stopped(driver: Driver, callers: usize, size: usize) {
    let _alone = ALONE.lock().await;
    for breaker in [false, true] {
        stopped(driver, callers, size, breaker).await;
    }
}

async fn stopped(driver: Driver, callers: usize, size: usize, breaker: bool) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connect(driver, &server.url(), breaker).await;
    let payload = Bytes::from(vec![b'x'; size]);
    server.stop().unwrap();
    for round in 0..3 {
        let (worst, late) = slowest(&client, callers, &payload).await;
        println!(
            "{callers} callers, {size} B, round {round}: slowest {worst:?}, the machine stood still for {late:?}"
        );
        assert!(
            worst <= TIMEOUT + SLACK + late,
            "a call took {worst:?} (timers {late:?} late)"
        );
    }
    server.cont().unwrap();
    recovers_at_once(&server, &client).await;
    client.shutdown().await;
}

/// The first success comes within 100 ms of the server answering.
async fn recovers_at_once(server: &Server, client: &Client) {
    let lateness = Lateness::watch();
    let first_success = {
        let client = client.clone();
        tokio::spawn(async move {
            loop {
                let ping: Result<String, Error> = client.call(Command::new("PING")).await;
                if ping.is_ok() {
                    return Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let answering = loop {
        if server
            .raw(&["PING"])
            .await
            .is_ok_and(|reply| !reply.is_error())
        {
            break Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let success = tokio::time::timeout(Duration::from_secs(20), first_success).await;
    let gap = success
        .expect("it recovers")
        .unwrap()
        .saturating_duration_since(answering);
    let late = lateness.worst();
    println!("first success {gap:?} after the server answered, timers {late:?} late");
    assert!(gap <= Duration::from_millis(100) + late, "it took {gap:?}");
}

async fn stopped_server_few_callers_small_values(driver: Driver) {
    answers_by_the_deadline_while_stopped(driver, 16, 16).await;
}

async fn stopped_server_few_callers_large_values(driver: Driver) {
    answers_by_the_deadline_while_stopped(driver, 16, 1 << 20).await;
}

async fn stopped_server_many_callers_small_values(driver: Driver) {
    answers_by_the_deadline_while_stopped(driver, 1024, 16).await;
}

async fn stopped_server_many_callers_large_values(driver: Driver) {
    answers_by_the_deadline_while_stopped(driver, 1024, 1 << 20).await;
}

async fn half_open_sockets(driver: Driver) {
    let _alone = ALONE.lock().await;
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let client = connect(driver, &server.url_at(proxy.addr()), true).await;
    for case in ["half open", "black hole"] {
        match case {
            "half open" => proxy.half_open(),
            _ => proxy.black_hole(),
        }
        for callers in [16, 1024] {
            let (worst, late) = slowest(&client, callers, &Bytes::from_static(b"x")).await;
            println!("{case}, {callers} callers: slowest {worst:?}, timers {late:?} late");
            assert!(
                worst <= TIMEOUT + SLACK + late,
                "a call took {worst:?} ({late:?} late)"
            );
        }
        proxy.pass();
        recovers_at_once(&server, &client).await;
    }
    client.shutdown().await;
}

async fn killed_and_restarted_server(driver: Driver) {
    let _alone = ALONE.lock().await;
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connect(driver, &server.url(), true).await;
    for round in 0..3 {
        server.kill9().await;
        let (worst, late) = slowest(&client, 64, &Bytes::from_static(b"x")).await;
        println!("round {round}: slowest {worst:?}, timers {late:?} late");
        assert!(
            worst <= TIMEOUT + SLACK + late,
            "a call took {worst:?} (timers {late:?} late)"
        );
        let (restarted, ()) = tokio::join!(server.restart(), recovers_at_once(&server, &client));
        restarted.unwrap();
    }
    client.shutdown().await;
}

/// What a caller gives up on does not hold anybody else up.
async fn dropped_calls_leave_nothing_behind(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connect(driver, &server.url(), true).await;
    for i in 0..500_i64 {
        let set = client.call::<()>(Command::new("SET").key("k").arg(i));
        drop(tokio::time::timeout(Duration::from_micros(50), set).await);
    }
    let shared = Arc::new(client);
    for i in 0..100_i64 {
        let echo: i64 = shared.call(Command::new("ECHO").arg(i)).await.unwrap();
        assert_eq!(echo, i, "every reply goes to its own caller");
    }
    assert_eq!(shared.stats().in_flight, 0);
    shared.shutdown().await;
}
