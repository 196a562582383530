//! Never twice, never lost: what connection kills under load do to commands that must not be
//! repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redkit_core::{CallError, Client, ClientConfig, Command, Driver};
use redkit_testkit::{Program, Server, ServerOptions};

const TASKS: usize = 128;
const KILLS: u64 = 60;

#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    answered: AtomicU64,
    maybe: AtomicU64,
}

each_driver! {
    (flavor = "multi_thread", worker_threads = 2)
    on_redis,
    on_valkey,
}

async fn on_redis(driver: Driver) {
    increments_under_kills(driver, Program::Redis).await;
}

async fn on_valkey(driver: Driver) {
    increments_under_kills(driver, Program::Valkey).await;
}

async fn increments_under_kills(driver: Driver, program: Program) {
    let server = Server::start(program, ServerOptions::new()).await.unwrap();
    let client = Client::connect(
        ClientConfig::from_url(&server.url())
            .unwrap()
            .driver(driver),
    )
    .await
    .unwrap();
    let tally = Arc::new(Tally::default());
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            tokio::spawn(increment(
                client.clone(),
                Arc::clone(&tally),
                Arc::clone(&stop),
            ))
        })
        .collect();

    let mut killed = 0;
    // A driver that is slow to connect anew has no connection to be killed for a while.
    for round in 0..KILLS * 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        killed += server.kill_clients().await.unwrap();
        if round >= KILLS && killed >= KILLS / 2 {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }

    let applied = server.raw(&["GET", "n"]).await.unwrap().int().unwrap();
    let applied = u64::try_from(applied).unwrap();
    let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
    let (calls, answered, maybe) = (
        read(&tally.calls),
        read(&tally.answered),
        read(&tally.maybe),
    );
    println!(
        "{program:?} by {driver:?}: {killed} connections killed, {calls} calls, {answered} answered, \
         {maybe} unknown, {applied} applied, {} retries",
        client.stats().retries
    );
    assert!(killed >= KILLS / 2, "the kills hit something");
    assert!(maybe > 0, "the kills were felt");
    assert!(
        applied >= answered,
        "{} answered increments were lost",
        answered - applied
    );
    assert!(applied <= answered + maybe, "increments were applied twice");
    client.shutdown().await;
}

async fn increment(client: Client, tally: Arc<Tally>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        tally.calls.fetch_add(1, Ordering::Relaxed);
        match client.call::<i64>(Command::new("INCR").key("n")).await {
            Ok(_) => {
                tally.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => match error.call_error() {
                Some(CallError::Maybe(_)) => {
                    tally.maybe.fetch_add(1, Ordering::Relaxed);
                }
                Some(CallError::NotSent(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
                other => panic!("{other:?}"),
            },
        }
    }
}
