//! The bounds counted over 8 processes of 16 tasks each, on one server and on a cluster.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use redkit_core::{Client, ClientConfig, Command};
use redkit_ratelimit::{ConcurrencyLimiter, Policy, Quota, RateLimiter};
use redkit_testkit::{Cluster, Program, Server, ServerOptions};

use crate::model::policies;
use crate::state::now;

const PROCESSES: usize = 8;
const TASKS: usize = 16;
const LIMIT: u64 = 200;
const PLACES: i64 = 5;
/// Keys, so that a cluster's nodes all have some.
const KEYS: u64 = 6;
const URL: &str = "REDKIT_RATELIMIT_PROCESSES_URL";

#[tokio::test]
async fn on_a_redis() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    run(&server.url()).await;
}

#[tokio::test]
async fn on_a_valkey() {
    let server = Server::start(Program::Valkey, ServerOptions::new())
        .await
        .unwrap();
    run(&server.url()).await;
}

#[tokio::test]
async fn on_a_cluster() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    run(&cluster.url()).await;
}

fn limiters(client: &Client) -> Vec<(Policy, RateLimiter)> {
    let hour = Duration::from_secs(3600);
    let mut all = policies(LIMIT, hour, LIMIT);
    // One that gives units back while it is being asked.
    all.push(Policy::gcra(Quota::per_second(50).burst(20)));
    all.into_iter()
        .enumerate()
        .map(|(n, policy)| {
            // Without the memory of denials, so that all of them ask.
            let builder = RateLimiter::builder(client, &format!("l{n}"))
                .decision_timeout(crate::PATIENT)
                .deny_cache(0);
            (policy.clone(), builder.policy(policy).build().unwrap())
        })
        .collect()
}

/// Of the server, or of one server of a cluster, which all have the same clock.
async fn hour_of_the_server(client: &Client) -> i128 {
    now(client).await / 3_600_000_000
}

async fn run(url: &str) {
    let start = Instant::now();
    let config = ClientConfig::from_url(url).unwrap();
    let client = Client::connect(config).await.unwrap();
    let hour = hour_of_the_server(&client).await;
    let program = std::env::current_exe().unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            tokio::process::Command::new(&program)
                .args([
                    "--exact",
                    "processes::one_process",
                    "--ignored",
                    "--nocapture",
                ])
                .env(URL, url)
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        })
        .collect();
    let mut admitted: BTreeMap<(usize, u64), u64> = BTreeMap::new();
    for child in children {
        let output = child.wait_with_output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let counts = text
            .lines()
            .filter_map(|line| line.strip_prefix("admitted "));
        for line in counts {
            let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
            let limiter = usize::try_from(numbers[0]).unwrap();
            *admitted.entry((limiter, numbers[1])).or_default() += numbers[2];
        }
    }
    let seconds = start.elapsed().as_secs() + 1;
    let has_turned = hour_of_the_server(&client).await != hour;
    for (n, (policy, limiter)) in limiters(&client).iter().enumerate() {
        for key in 0..KEYS {
            let count = admitted[&(n, key)];
            let (least, most) = match policy.algorithm() {
                // After the turn of an hour the hour before counts ever less.
                redkit_ratelimit::Algorithm::SlidingCounter if has_turned => {
                    (LIMIT, LIMIT + seconds * LIMIT / 3600 + 1)
                }
                redkit_ratelimit::Algorithm::SlidingCounter
                | redkit_ratelimit::Algorithm::FixedWindow
                | redkit_ratelimit::Algorithm::SlidingLog
                | redkit_ratelimit::Algorithm::Bucketed { .. } => (LIMIT, LIMIT),
                _ if policy.quota().limit() == LIMIT => (LIMIT, LIMIT + seconds * LIMIT / 3600 + 1),
                _ => (20, 20 + seconds * 50),
            };
            println!("{policy:?} key {key}: {count} of {least} to {most}");
            assert!(
                (least..=most).contains(&count),
                "{policy:?}: {count} of {least} to {most}"
            );
            assert!(
                limiter.peek(format!("k{key}")).await.unwrap().remaining()
                    <= policy.quota().limit()
            );
        }
    }
    client.shutdown().await;
}

/// One of the processes that [`run`] starts: it takes all it can get.
#[test]
#[ignore = "started by the other tests, as a process of its own"]
fn one_process() {
    let url = std::env::var(URL).expect("the parent says where");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = ClientConfig::from_url(&url).unwrap();
        let client = Client::connect(config.command_timeout(Duration::from_secs(20)))
            .await
            .unwrap();
        let places = ConcurrencyLimiter::builder(&client, "places")
            .decision_timeout(crate::PATIENT)
            .limit(PLACES.unsigned_abs())
            .build()
            .unwrap();
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| tokio::spawn(one_task(client.clone(), places.clone())))
            .collect();
        let mut admitted: BTreeMap<(usize, u64), u64> = BTreeMap::new();
        for task in tasks {
            for (of, count) in task.await.unwrap() {
                *admitted.entry(of).or_default() += count;
            }
        }
        for ((limiter, key), count) in admitted {
            println!("admitted {limiter} {key} {count}");
        }
        client.shutdown().await;
    });
}

async fn one_task(client: Client, places: ConcurrencyLimiter) -> Vec<((usize, u64), u64)> {
    let mut admitted = Vec::new();
    for (n, (_, limiter)) in limiters(&client).iter().enumerate() {
        for key in 0..KEYS {
            let mut count = 0;
            // Until it is spent; all processes together ask far more often than there are units.
            let mut denials = 0;
            while denials < 5 {
                match limiter.check(format!("k{key}")).await.unwrap().is_allowed() {
                    true => count += 1,
                    false => denials += 1,
                }
            }
            admitted.push(((n, key), count));
        }
    }
    // How many hold a place, counted on the server, is never more than there are.
    let inside = client.key("inside");
    let count = async |by: i64| -> i64 {
        let command = Command::new("INCRBY").key(&inside).arg(by);
        client.call(command).await.unwrap()
    };
    for _ in 0..3 {
        let permit = places
            .acquire("k", Duration::from_secs(100))
            .await
            .unwrap()
            .unwrap();
        let now = count(1).await;
        assert!((1..=PLACES).contains(&now), "{now} are inside");
        count(-1).await;
        permit.release().await.unwrap();
    }
    admitted
}
