//! Fleets of real processes that take a lock in turns while they are stopped, killed and cut off, and servers hang,
//! restart and fail over. A few seconds of it are a test; `cargo xtask chaos lock` runs it for minutes.

use std::time::Duration;

use rand::RngExt;
use redkit_core::{Client, ClientConfig};
use redkit_lock::{Error, Fence, FencedRegister, LockManager};
use redkit_testkit::{Cluster, Program, Sentinels, Server, ServerOptions, TestProcess};
use tokio::time::{Instant, sleep};

const TTL: Duration = Duration::from_millis(600);
const SECOND: Duration = Duration::from_secs(1);

/// The servers of a child's locks and of its data, in its environment.
const LOCKS: &str = "REDKIT_LOCK_FLEET_LOCKS";
const DATA: &str = "REDKIT_LOCK_FLEET_DATA";

/// Not a test: a process of a fleet. Without an order it does nothing.
#[test]
#[ignore = "it is a child of the tests beside it"]
fn child() {
    let (Ok(locks), Ok(data)) = (std::env::var(LOCKS), std::env::var(DATA)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (locks, data) = (connect(&locks).await, connect(&data).await);
        take_turns(&locks, &data).await;
    });
}

/// Takes the lock again and again, and says from when to when it certainly held it, and what it wrote meanwhile.
async fn take_turns(locks: &Client, data: &Client) {
    let locks = LockManager::builder(locks, "jobs")
        .ttl(TTL)
        .build()
        .unwrap();
    let register = FencedRegister::new(data, "data").unwrap();
    loop {
        let guard = match locks.acquire("k", 10 * SECOND).await {
            Ok(guard) => guard,
            Err(_) => {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (fence, entered) = (guard.fence(), TestProcess::now());
        let mut held_until = entered;
        for _ in 0..rand::rng().random_range(1..20) {
            write(&register, fence).await;
            // Both are asked before anything is concluded: the process may be stopped in between.
            let now = TestProcess::now();
            if guard.remaining().is_zero() {
                // Whatever it believes, it writes: it is the storage that knows better.
                write(&register, fence).await;
                break;
            }
            held_until = now;
        }
        println!("turn {fence} {entered} {held_until}");
        let _ = guard.release().await;
    }
}

/// Writes, and says from when to when, and whether the storage took it.
async fn write(register: &FencedRegister, fence: Fence) {
    let began = TestProcess::now();
    match register.write("k", fence, "of a holder").await {
        Ok(()) => println!("wrote {fence} {began} {}", TestProcess::now()),
        Err(Error::Fenced { .. }) => println!("fenced {fence} {began} {}", TestProcess::now()),
        Err(_) => {}
    }
}

async fn connect(url: &str) -> Client {
    let config = ClientConfig::from_url(url).unwrap();
    let config = config.command_timeout(SECOND);
    loop {
        // A child may be born into an outage.
        match Client::connect(config.clone()).await {
            Ok(client) => return client,
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Where the locks are.
pub(crate) enum World {
    One(Box<Server>),
    Sentinels(Sentinels),
    Cluster(Cluster),
}

impl World {
    pub(crate) async fn one() -> Self {
        let options = ServerOptions::new()
            .config("appendonly yes")
            .config("appendfsync always");
        Self::One(Box::new(Server::redis(options).await.unwrap()))
    }

    pub(crate) async fn sentinels() -> Self {
        Self::Sentinels(Sentinels::start(Program::Redis, 3, 1).await.unwrap())
    }

    pub(crate) async fn cluster() -> Self {
        Self::Cluster(Cluster::start(Program::Redis, 3, 1).await.unwrap())
    }

    fn url(&self) -> String {
        match self {
            Self::One(server) => server.url(),
            Self::Sentinels(sentinels) => sentinels.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// How many kinds of trouble there are: those of so many turns.
    fn kinds_of_trouble(&self) -> usize {
        match self {
            Self::One(_) => 3,
            Self::Sentinels(_) => 1,
            Self::Cluster(_) => 2,
        }
    }

    /// Does something to the servers. Gives whether a lock may be lost by it: replication is asynchronous.
    async fn trouble(&self, turn: usize) -> bool {
        match self {
            Self::One(server) => {
                match turn % 3 {
                    0 => drop(server.kill_clients().await.unwrap()),
                    1 => {
                        server.stop().unwrap();
                        sleep(SECOND).await;
                        server.cont().unwrap();
                    }
                    _ => server.restart().await.unwrap(),
                }
                false
            }
            Self::Sentinels(sentinels) => {
                let killed = sentinels.kill_master().await.unwrap();
                sentinels
                    .wait_for_other_master(killed.addr())
                    .await
                    .unwrap();
                killed.restart().await.unwrap();
                sentinels.wait_until_ok().await.unwrap();
                true
            }
            Self::Cluster(cluster) => {
                let slot = cluster.slot_of("{k}").await.unwrap();
                let master = cluster.node_of_slot(slot).await.unwrap();
                if turn % 2 == 1 {
                    master.kill_clients().await.unwrap();
                    return false;
                }
                let replicas = cluster.replicas_of(master).await.unwrap();
                cluster.failover(replicas[0]).await.unwrap();
                true
            }
        }
    }
}

/// A write that the storage took, from when to when.
#[derive(Debug, Clone, Copy)]
struct Write {
    fence: i64,
    began: i64,
    ended: i64,
}

/// Runs so many processes for so long, and checks what they say: no two hold the lock at once, unless a failover may
/// have lost it; a later holder has a greater fence; and the storage takes no write of an older holder once it has
/// taken one of a newer.
pub(crate) async fn run(world: &World, processes: usize, time: Duration) {
    let storage = Server::redis(ServerOptions::new()).await.unwrap();
    let (locks, data) = (world.url(), storage.url());
    let start = || TestProcess::start("fleet::child", &[(LOCKS, &locks), (DATA, &data)]).unwrap();
    let mut fleet: Vec<TestProcess> = (0..processes).map(|_| start()).collect();
    let (mut lines, mut may_be_lost) = (Vec::new(), false);
    let end = Instant::now() + time;
    let mut faults = 0;
    // However slow the machine is, each kind of trouble comes: a third of the faults are the servers'.
    let least = 3 * world.kinds_of_trouble();
    // As many turns as show something, of processes that were killed: they are heard then.
    let latest = end + 120 * SECOND;
    while Instant::now() < end
        || faults < least
        || (turns_in(&lines).len() <= 20 && Instant::now() < latest)
    {
        sleep(Duration::from_millis(rand::rng().random_range(100..500))).await;
        let which = rand::rng().random_range(0..processes);
        match faults % 3 {
            0 => {
                fleet[which].stop().unwrap();
                sleep(2 * TTL).await;
                fleet[which].cont().unwrap();
            }
            1 => {
                let killed = std::mem::replace(&mut fleet[which], start());
                lines.extend(killed.kill().await);
            }
            _ => may_be_lost |= world.trouble(faults / 3).await,
        }
        faults += 1;
    }
    // All of them are well again.
    sleep(2 * SECOND).await;
    for process in fleet {
        lines.extend(process.kill().await);
    }
    let (turns, overlaps) = check_turns(&lines, may_be_lost);
    let (writes, fenced) = check_writes(&lines);
    println!(
        "{turns} turns, {writes} writes, {fenced} writes of older holders refused, {faults} faults, {overlaps} pairs \
         of holders at once"
    );
    assert!(turns > 20, "{turns} turns, {faults} faults");
}

/// The turns in which something was certainly held: fence, from when, until when.
fn turns_in(lines: &[String]) -> Vec<[i64; 3]> {
    let mut turns = TestProcess::numbers::<3>(lines, "turn");
    turns.retain(|[_, entered, held_until]| entered < held_until);
    turns
}

fn check_turns(lines: &[String], may_be_lost: bool) -> (usize, usize) {
    let mut turns = turns_in(lines);
    turns.sort_by_key(|[_, entered, _]| *entered);
    let mut overlaps = 0;
    for pair in turns.windows(2) {
        let ([fence, _, held_until], [next_fence, entered, _]) = (pair[0], pair[1]);
        if held_until > entered {
            assert!(may_be_lost, "two held it at once: {pair:?}");
            overlaps += 1;
        } else {
            assert!(
                fence < next_fence,
                "a later holder has an older fence: {pair:?}"
            );
        }
    }
    (turns.len(), overlaps)
}

fn check_writes(lines: &[String]) -> (usize, usize) {
    let mut writes: Vec<Write> = TestProcess::numbers(lines, "wrote")
        .into_iter()
        .map(|[fence, began, ended]| Write {
            fence,
            began,
            ended,
        })
        .collect();
    writes.sort_by_key(|write| write.ended);
    let mut newest: Option<Write> = None;
    let mut by_beginning = writes.clone();
    by_beginning.sort_by_key(|write| write.began);
    let mut ended = writes.iter().peekable();
    for write in &by_beginning {
        // All that had ended before this one began.
        while let Some(before) = ended.next_if(|before| before.ended < write.began) {
            if newest.is_none_or(|newest| before.fence > newest.fence) {
                newest = Some(*before);
            }
        }
        assert!(
            newest.is_none_or(|newest| newest.fence <= write.fence),
            "the storage took {write:?} after {newest:?}"
        );
    }
    (
        writes.len(),
        TestProcess::numbers::<3>(lines, "fenced").len(),
    )
}
