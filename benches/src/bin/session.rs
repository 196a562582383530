//! `cargo xtask bench session`: a request's load, touch and commit beside `tower-sessions-redis-store`.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to report"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use redkit_benches::{
    COMPARISON, Load, Paired, Section, Target, Worker, compare, comparison, server, verdict,
    write_section,
};
use redkit_core::{Client, ClientConfig};
use redkit_session::{SessionSecrets, SessionStore, SignIn};
use redkit_testkit::{Server, ServerOptions};
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use tower_sessions_core_014::SessionStore as _;
use tower_sessions_core_014::session::{Id, Record};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike as _, Config, Pool};

/// Measures sessions beside `tower-sessions-redis-store`.
#[derive(Debug, Parser)]
struct Arguments {
    /// End with an error when a target is missed.
    #[arg(long)]
    check: bool,
    /// Few and short rounds, and nothing is written.
    #[arg(long)]
    quick: bool,
}

/// As in the peer's example.
const POOL: usize = 6;
const IDLE: Duration = Duration::from_secs(1800);
/// Each task has a session of its own.
const SESSIONS: usize = 256;
const LEAST_OF_P50: f64 = 0.9;

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
    let theirs = Theirs::new(&server).await;
    let quick = arguments.quick;
    let (mut rows, mut targets) = (String::new(), Vec::new());
    for (what, touch_granularity) in [
        ("touched at every load", Duration::ZERO),
        ("touched as by default", Duration::from_secs(60)),
    ] {
        let ours = Ours::new(&client, touch_granularity).await;
        for tasks in [1, 16, 256] {
            let load = Load {
                tasks,
                slice: Duration::from_millis(if quick { 300 } else { 700 }),
                rounds: if quick { 4 } else { 10 },
            };
            let paired = compare(load, |task| ours.worker(task), |task| theirs.worker(task)).await;
            let row = comparison(what, tasks, &paired);
            println!("{row}");
            let _ = writeln!(rows, "{row}");
            if tasks == 1 {
                targets.push(Target {
                    what: format!("the peer's p50 / ours at 1 task, {what}"),
                    value: of_p50(&paired),
                    at_least: Some(LEAST_OF_P50),
                    at_most: None,
                });
            }
        }
    }
    let times = server_times(&server, &client, &theirs, if quick { 200 } else { 5_000 }).await;
    println!("{times}");
    let p50: Vec<String> = targets
        .iter()
        .map(|target| format!("{:.2}", target.value))
        .collect();
    let text = text(
        &server::version(&server).await,
        &rows,
        &p50.join(" and "),
        &times,
    );
    client.shutdown().await;
    if !quick {
        let section = Section {
            name: "session",
            text,
        };
        println!("written: {}", write_section(&section).unwrap().display());
    }
    verdict(&targets, arguments.check)
}

/// The name that every session holds, ours and the peer's.
const NAME: &str = "Ann Example";

fn cart() -> Vec<String> {
    (0..10)
        .map(|line| format!("teapot, blue, number {line}"))
        .collect()
}

/// Sessions of signed-in users.
struct Ours {
    store: SessionStore,
    ids: Arc<Vec<String>>,
}

impl Ours {
    async fn new(client: &Client, touch_granularity: Duration) -> Self {
        let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32]).unwrap();
        let store = SessionStore::builder(client, "bench", secrets)
            .idle_timeout(IDLE)
            .touch_granularity(touch_granularity);
        let store = store.build().unwrap();
        let mut ids = Vec::with_capacity(SESSIONS);
        for user in 0..SESSIONS {
            let mut session = store.start().unwrap();
            session.insert("name", NAME).unwrap();
            session.insert("cart", &cart()).unwrap();
            session.insert("count", &0_u64).unwrap();
            session.commit().await.unwrap();
            let sign_in = SignIn::new(format!("user-{user}"));
            session.sign_in(sign_in).await.unwrap();
            ids.push(session.id().expose().expose_secret().to_owned());
        }
        Self {
            store,
            ids: Arc::new(ids),
        }
    }

    fn worker(&self, task: usize) -> OurRequest {
        OurRequest {
            store: self.store.clone(),
            id: self.ids[task % SESSIONS].clone(),
            count: 0,
        }
    }
}

/// A request that changes its session.
struct OurRequest {
    store: SessionStore,
    id: String,
    count: u64,
}

impl Worker for OurRequest {
    async fn step(&mut self) {
        let mut session = self.store.load(&self.id).await.unwrap().unwrap();
        self.count += 1;
        session.insert("count", &self.count).unwrap();
        session.commit().await.unwrap();
    }
}

/// The peer's.
struct Theirs {
    store: RedisStore<Pool>,
    ids: Arc<Vec<Id>>,
}

impl Theirs {
    async fn new(server: &Server) -> Self {
        let config = Config::from_url(&server.url()).unwrap();
        let pool = Pool::new(config, None, None, None, POOL).unwrap();
        // Its tasks end with the process.
        drop(pool.connect());
        pool.wait_for_connect().await.unwrap();
        let store = RedisStore::new(pool);
        let mut ids = Vec::with_capacity(SESSIONS);
        for _ in 0..SESSIONS {
            let data = HashMap::from([
                ("name".to_owned(), serde_json::to_value(NAME).unwrap()),
                ("cart".to_owned(), serde_json::to_value(cart()).unwrap()),
                ("count".to_owned(), 0_u64.into()),
            ]);
            let mut record = Record {
                id: Id::default(),
                data,
                expiry_date: expiry(),
            };
            store.create(&mut record).await.unwrap();
            ids.push(record.id);
        }
        Self {
            store,
            ids: Arc::new(ids),
        }
    }

    fn worker(&self, task: usize) -> TheirRequest {
        TheirRequest {
            store: self.store.clone(),
            id: self.ids[task % SESSIONS],
            count: 0,
        }
    }
}

fn expiry() -> OffsetDateTime {
    OffsetDateTime::now_utc() + IDLE
}

struct TheirRequest {
    store: RedisStore<Pool>,
    id: Id,
    count: u64,
}

impl Worker for TheirRequest {
    async fn step(&mut self) {
        let mut record = self.store.load(&self.id).await.unwrap().unwrap();
        self.count += 1;
        record.data.insert("count".to_owned(), self.count.into());
        record.expiry_date = expiry();
        self.store.save(&record).await.unwrap();
    }
}

fn of_p50(paired: &Paired) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a request")]
    let p50 = |sample: &redkit_benches::Sample| sample.latency.value_at_quantile(0.5) as f64;
    p50(&paired.peer) / p50(&paired.ours)
}

/// The server's own time for each script, and for the peer's commands.
async fn server_times(server: &Server, client: &Client, theirs: &Theirs, calls: u64) -> String {
    let mut lines = String::new();
    for (what, granularity) in [
        ("load that touches", Duration::ZERO),
        ("load that does not", Duration::from_secs(60)),
    ] {
        let ours = Ours::new(client, granularity).await;
        let took = server::micros_of(server, "evalsha", async {
            for _ in 0..calls {
                ours.store.load(&ours.ids[0]).await.unwrap().unwrap();
            }
        });
        let _ = writeln!(lines, "| {what} | {:.1} |", took.await);
    }
    let ours = Ours::new(client, Duration::from_secs(60)).await;
    let mut session = ours.store.load(&ours.ids[0]).await.unwrap().unwrap();
    let took = server::micros_of(server, "evalsha", async {
        for count in 0..calls {
            session.insert("count", &count).unwrap();
            session.commit().await.unwrap();
        }
    });
    let _ = writeln!(lines, "| commit of one entry | {:.1} |", took.await);
    for (what, command) in [("the peer's `GET`", "get"), ("the peer's `SET`", "set")] {
        let mut request = theirs.worker(0);
        let took = server::micros_of(server, command, async {
            for _ in 0..calls {
                request.step().await;
            }
        });
        let _ = writeln!(lines, "| {what} | {:.1} |", took.await);
    }
    lines
}

fn text(version: &str, rows: &str, p50: &str, times: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "## session: beside `tower-sessions-redis-store`\n\n\
         `cargo xtask bench session`, Redis {version} on loopback, {cores} cores shared by client and server. One \
         operation is a request that\nloads its session, changes one of three entries and stores it, each task with a \
         session of its own. The peer is version 0.16\n(with `tower-sessions-core` 0.14) over a pool of {POOL} connections, \
         as in its example: a `GET` and a `SET` of the whole record.\nOurs are sessions of signed-in users: two scripts, \
         which check generation, both timeouts and the revision, and merge changes.\n\n\
         | ours | {COMPARISON}\n|---|---|---|---|---|---|---|---|---|\n{rows}\n\
         The peer's p50 divided by ours at 1 task: {p50} (target: at least {LEAST_OF_P50}).\n\n\
         The server's own time (`usec_per_call` of `INFO commandstats`):\n\n\
         | call | server µs |\n|---|---|\n{times}"
    )
}
