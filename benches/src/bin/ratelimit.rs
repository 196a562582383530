//! `cargo xtask bench ratelimit`: what each algorithm costs the server and the client.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to report"
)]

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use redis::IntoConnectionInfo;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redkit_benches::server::{micros_of, used_memory};
use redkit_benches::{Load, Paired, Section, Target, Worker, compare, verdict, write_section};
use redkit_core::{Client, ClientConfig, Command};
use redkit_ratelimit::{ConcurrencyLimiter, LimitSet, Policy, Quota, RateLimiter};
use redkit_testkit::{Server, ServerOptions};

/// No decision is given up because the machine is busy: what is measured is all of them.
const PATIENT: Duration = Duration::from_secs(10);

/// Measures what each algorithm costs the server and the client.
#[derive(Debug, Parser)]
struct Arguments {
    /// End with an error when a target is missed.
    #[arg(long)]
    check: bool,
    /// Few and short rounds, and nothing is written.
    #[arg(long)]
    quick: bool,
}

/// Keys that calls go round.
const KEYS: usize = 1000;
const HOUR: Duration = Duration::from_secs(3600);

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
    let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap())
        .await
        .unwrap();
    let mut report = Report::default();

    server_costs(&server, &client, arguments, &mut report).await;
    let quick = arguments.quick;
    for tasks in [16, 256] {
        let load = Load {
            tasks,
            slice: Duration::from_millis(if quick { 300 } else { 700 }),
            rounds: if quick { 4 } else { 10 },
        };
        let paired = beside_raw(&server, &client, load).await;
        report.checks(tasks, &paired);
    }
    report.local_denials(local_denials(&client, quick).await);

    let version = client.capabilities().version;
    client.shutdown().await;
    println!("{}", report.text(version));
    if !quick {
        let section = Section {
            name: "ratelimit",
            text: report.text(version),
        };
        println!("written: {}", write_section(&section).unwrap().display());
    }
    verdict(&report.targets, arguments.check)
}

/// One kind of call, of which the server's own time is measured.
struct Case {
    name: &'static str,
    limiter: RateLimiter,
    cost: u64,
    at_most: Option<f64>,
}

fn cases(client: &Client) -> Vec<Case> {
    let case = |name, key: &str, policy: Policy, cost, at_most| Case {
        name,
        limiter: RateLimiter::builder(client, key)
            .decision_timeout(PATIENT)
            .policy(policy)
            .deny_cache(0)
            .build()
            .unwrap(),
        cost,
        at_most,
    };
    let much = Quota::per(1_000_000, HOUR);
    let thousand = Quota::per(1000, HOUR);
    vec![
        case(
            "fixed window",
            "fixed",
            Policy::fixed_window(much),
            1,
            Some(7.0),
        ),
        case(
            "sliding counter",
            "counter",
            Policy::sliding_counter(much),
            1,
            Some(15.0),
        ),
        // A rate that does not divide evenly, with a debt that does not drain while it is measured.
        case(
            "GCRA",
            "gcra",
            Policy::gcra(Quota::per(700_001, HOUR)),
            1,
            Some(14.0),
        ),
        case(
            "GCRA, denied",
            "gcra-denied",
            Policy::gcra(Quota::per_day(1)),
            1,
            Some(5.0),
        ),
        case("leaky bucket", "leaky", Policy::leaky(much, HOUR), 1, None),
        case(
            "sliding log, 1,000",
            "log",
            Policy::sliding_log(thousand),
            1,
            None,
        ),
        case(
            "bucketed, 10 slices",
            "bucketed",
            Policy::bucketed(much),
            1,
            None,
        ),
        case(
            "bucketed, 60 slices",
            "bucketed60",
            Policy::new(redkit_ratelimit::Algorithm::Bucketed { slices: 60 }, much),
            1,
            None,
        ),
    ]
}

async fn server_costs(
    server: &Server,
    client: &Client,
    arguments: &Arguments,
    report: &mut Report,
) {
    let rounds = if arguments.quick { 10 } else { 100 };
    let set = micros_of(server, "set", async {
        for _ in 0..rounds {
            let sets = (0..KEYS).map(|n| {
                let key = client.key(format!("set:{n:08}"));
                let set = Command::new("SET")
                    .key(&key)
                    .arg("1795504826286845")
                    .arg("PX")
                    .arg(3_600_000);
                client.call::<()>(set)
            });
            all(sets).await;
        }
    })
    .await;
    let bytes = bytes_of(server, "set:00000042").await;
    report.server("SET … PX (for comparison)", set, bytes, None);

    for case in cases(client) {
        let limiter = &case.limiter;
        let call = |n: usize| limiter.check_n(format!("{n:08}"), case.cost);
        // Once for each key, so that what is measured is not the first call.
        all((0..KEYS).map(call)).await;
        let took = micros_of(server, "evalsha", async {
            for _ in 0..rounds {
                all((0..KEYS).map(call)).await;
            }
        })
        .await;
        let word = limiter.policies().next().unwrap().algorithm();
        let key = format!("ratelimit:{}:{{00000042}}:{word}", limiter.name());
        let bytes = bytes_of(server, &key).await;
        report.server(case.name, took, bytes, case.at_most);
    }
    let places = ConcurrencyLimiter::builder(client, "places")
        .decision_timeout(PATIENT)
        .limit(100)
        .build()
        .unwrap();
    let held = micros_of(server, "evalsha", async {
        for n in 0..KEYS {
            drop(places.try_acquire(format!("{n:08}")).await.unwrap());
        }
    })
    .await;
    report.server("a place (acquire)", held, None, None);

    let tiers = RateLimiter::builder(client, "tiers")
        .decision_timeout(PATIENT)
        .policy(Policy::gcra(Quota::per(700_001, HOUR)).named("a"))
        .policy(Policy::gcra(Quota::per(1_000_000, HOUR)).named("b"))
        .deny_cache(0)
        .build()
        .unwrap();
    let call = |n: usize| tiers.check(format!("{n:08}"));
    all((0..KEYS).map(call)).await;
    let took = micros_of(server, "evalsha", async {
        for _ in 0..rounds {
            all((0..KEYS).map(call)).await;
        }
    })
    .await;
    report.server("two tiers of GCRA in one call", took, None, None);

    let fixed = RateLimiter::builder(client, "other")
        .decision_timeout(PATIENT)
        .policy(Policy::fixed_window(Quota::per(1_000_000, HOUR)))
        .build()
        .unwrap();
    let call = |n: usize| {
        let key = format!("{n:08}");
        LimitSet::new()
            .limit(&tiers, &key)
            .limit(&fixed, &key)
            .check()
    };
    let took = micros_of(server, "evalsha", async {
        for _ in 0..rounds {
            all((0..KEYS).map(call)).await;
        }
    })
    .await;
    report.server("three limits in one call", took, None, None);

    // Memory, by what the server says it uses.
    let keys = if arguments.quick { 20_000 } else { 100_000 };
    server.raw(&["FLUSHALL"]).await.unwrap();
    let gcra = RateLimiter::builder(client, "memory")
        .decision_timeout(PATIENT)
        .policy(Policy::gcra(Quota::per_day(1000)))
        .build()
        .unwrap();
    let before = used_memory(server).await;
    for start in (0..keys).step_by(KEYS) {
        all((start..start + KEYS).map(|n| gcra.check(format!("user-{n:08}")))).await;
    }
    let used = used_memory(server).await - before;
    #[expect(clippy::cast_precision_loss, reason = "a figure of a few digits")]
    report.memory(used / keys as f64);
    server.raw(&["FLUSHALL"]).await.unwrap();
}

/// All of them at once; none may fail.
async fn all<T, E: std::fmt::Debug>(
    calls: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
) {
    for result in futures_util::future::join_all(calls).await {
        drop(result.unwrap());
    }
}

async fn bytes_of(server: &Server, key: &str) -> Option<i64> {
    server.raw(&["MEMORY", "USAGE", key]).await.unwrap().int()
}

/// A check of ours.
struct Ours {
    limiter: RateLimiter,
    keys: Arc<Vec<String>>,
    next: usize,
}

impl Worker for Ours {
    async fn step(&mut self) {
        let key = &self.keys[self.next % KEYS];
        self.next += 1;
        assert!(self.limiter.check(key.as_str()).await.unwrap().is_allowed());
    }
}

/// The same script with the same arguments, sent by the raw driver.
struct Raw {
    connection: MultiplexedConnection,
    sha: Arc<str>,
    keys: Arc<Vec<String>>,
    next: usize,
}

impl Worker for Raw {
    async fn step(&mut self) {
        let key = &self.keys[self.next % KEYS];
        self.next += 1;
        let mut command = redis::cmd("EVALSHA");
        command.arg(&*self.sha).arg(1).arg(key);
        for argument in ["1", "1", "1000000", "3600", "1", "0"] {
            command.arg(argument);
        }
        let reply: Vec<i64> = command.query_async(&mut self.connection).await.unwrap();
        assert_eq!(reply.first(), Some(&1));
    }
}

async fn beside_raw(server: &Server, client: &Client, load: Load) -> Paired {
    let info = format!("{}?protocol=resp3", server.url())
        .into_connection_info()
        .unwrap();
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let connection = redis::Client::open(info)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    // Nothing is ever denied, and states come and go as under real load.
    let limiter = RateLimiter::builder(client, "raw")
        .decision_timeout(PATIENT)
        .policy(Policy::gcra(Quota::per(
            1_000_000,
            Duration::from_secs(3600),
        )))
        .build()
        .unwrap();
    assert!(limiter.check("k").await.unwrap().is_allowed());
    let sha = sha_of_gcra(server).await;
    let ours = Arc::new((0..KEYS).map(|n| format!("{n:08}")).collect::<Vec<_>>());
    let theirs = Arc::new(
        (0..KEYS)
            .map(|n| format!("ratelimit:raw:{{{n:08}}}:gcra"))
            .collect::<Vec<_>>(),
    );
    compare(
        load,
        |next| Ours {
            limiter: limiter.clone(),
            keys: Arc::clone(&ours),
            next,
        },
        |next| Raw {
            connection: connection.clone(),
            sha: Arc::clone(&sha),
            keys: Arc::clone(&theirs),
            next,
        },
    )
    .await
}

/// The script as the limiter sends it, loaded for the raw driver.
async fn sha_of_gcra(server: &Server) -> Arc<str> {
    let parts = [
        redkit_core::coordination::lua::CLOCK,
        include_str!("../../../crates/ratelimit/src/scripts/gcra.lua"),
        "local look, take = look_gcra, take_gcra\n",
        include_str!("../../../crates/ratelimit/src/scripts/single.lua"),
    ];
    let load = ["SCRIPT", "LOAD", &parts.concat()];
    let sha = server.raw(&load).await.unwrap();
    sha.text().unwrap().into()
}

/// Denials from memory, on one core.
async fn local_denials(client: &Client, quick: bool) -> f64 {
    let limiter = RateLimiter::builder(client, "denied")
        .decision_timeout(PATIENT)
        .policy(Policy::gcra(Quota::per_day(1)))
        .build()
        .unwrap();
    let keys: Vec<String> = (0..KEYS).map(|n| format!("203.0.113.{n}")).collect();
    for _ in 0..2 {
        all(keys.iter().map(|key| limiter.check(key.as_str()))).await;
    }
    let rounds = if quick { 300 } else { 3000 };
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..rounds {
            for key in &keys {
                assert!(!limiter.check(key.as_str()).await.unwrap().is_allowed());
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
        let rate = (rounds * KEYS) as f64 / start.elapsed().as_secs_f64();
        best = best.max(rate);
    }
    best
}

#[derive(Default)]
struct Report {
    server: String,
    checks: String,
    rest: String,
    targets: Vec<Target>,
}

impl Report {
    fn server(&mut self, name: &str, micros: f64, bytes: Option<i64>, at_most: Option<f64>) {
        let bytes = bytes.map_or("–".to_owned(), |bytes| bytes.to_string());
        let target = at_most.map_or("–".to_owned(), |most| format!("≤ {most}"));
        println!("{name}: {micros:.2} µs, {bytes} bytes");
        // Writing to a String does not fail.
        let _ = writeln!(self.server, "| {name} | {micros:.2} | {target} | {bytes} |");
        if at_most.is_some() {
            self.targets.push(Target {
                what: format!("{name}: server µs per call"),
                value: micros,
                at_least: None,
                at_most,
            });
        }
    }

    fn checks(&mut self, tasks: usize, paired: &Paired) {
        let Paired { ours, peer, .. } = paired;
        let row = format!(
            "| {tasks} | {:.0} | {:.0} | **{:.2}** | {:.2} | {:.2} | {}/{} | {}/{} |",
            ours.throughput,
            peer.throughput,
            paired.throughput_ratio,
            ours.cpu,
            peer.cpu,
            ours.latency.value_at_quantile(0.5),
            ours.latency.value_at_quantile(0.99),
            peer.latency.value_at_quantile(0.5),
            peer.latency.value_at_quantile(0.99),
        );
        println!("{row}");
        let _ = writeln!(self.checks, "{row}");
        self.targets.push(Target {
            what: format!("checks at {tasks} tasks: ratio to the raw EVALSHA"),
            value: paired.throughput_ratio,
            at_least: Some(0.95),
            at_most: None,
        });
    }

    fn memory(&mut self, bytes: f64) {
        let _ = writeln!(
            self.rest,
            "Memory of the server with GCRA, by `used_memory` over 100,000 keys: {bytes:.0} bytes a key, \
             {:.0} MB for a million.",
            bytes
        );
        println!("memory: {bytes:.0} bytes a key");
    }

    fn local_denials(&mut self, rate: f64) {
        let _ = writeln!(
            self.rest,
            "\nDenied from memory, one task on one core: {:.1} million checks a second (target: at least 5).",
            rate / 1e6
        );
        println!("denied from memory: {:.2} M/s", rate / 1e6);
        self.targets.push(Target {
            what: "checks denied from memory, per second and core".to_owned(),
            value: rate,
            at_least: Some(5e6),
            at_most: None,
        });
    }

    fn text(&self, version: (u16, u16, u16)) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "## ratelimit: what a check costs\n\n\
             `cargo xtask bench ratelimit`, Redis {}.{}.{} on loopback, {cores} cores shared by client and \
             server. The\nserver's own time is `usec_per_call` of `INFO commandstats`, over 1,000 keys; bytes \
             are `MEMORY USAGE`\nof a key of about 40 characters.\n\n\
             | call | server µs | target | bytes a key |\n|---|---|---|---|\n{}\n\
             GCRA beside the same script sent by the raw driver:\n\n\
             | tasks | redkit checks/s | raw/s | ratio | redkit CPU µs | raw CPU µs | redkit p50/p99 µs | raw p50/p99 µs |\n\
             |---|---|---|---|---|---|---|---|\n{}\n{}",
            version.0, version.1, version.2, self.server, self.checks, self.rest
        )
    }
}
