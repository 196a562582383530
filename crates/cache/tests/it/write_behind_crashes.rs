//! Write-behind when workers are killed at random and the database fails one time in ten: every
//! key's last value arrives, in order, and what the database never takes ends as a dead letter.
//!
//! 10,000 updates; 100,000 on `redis` with `REDKIT_TEST_FULL` set.
//!
//! The workers are processes of their own, killed by SIGKILL. The database is a small server in the
//! test's process, which records everything that it applied. It does *not* refuse older versions: the
//! order is the queue's doing. It has what the documentation asks for instead: no call outlives its
//! lease, because a call that is older than a quarter of it, on a busy machine, is not carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::write_behind::{Change, Sink, SinkError, Verdict, Worker, WriteBehind, WriteId};
use redkit_core::{Client, ClientConfig, Driver};
use redkit_testkit::{BackendKind, Fixture};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const KEYS: usize = 1000;
const POISONS: [&str; 3] = ["poison-a", "poison-b", "poison-c"];
const CREW: usize = 3;
const LONG: Duration = Duration::from_secs(200);
const LEASE: Duration = Duration::from_secs(4);

async fn open(client: &Client) -> WriteBehind<u64> {
    WriteBehind::builder(client, "stock")
        .max_age(Duration::from_millis(100))
        .max_batch(50)
        .max_attempts(8)
        .backoff(Duration::from_millis(5), Duration::from_millis(100))
        .lease(LEASE)
        .open()
        .await
        .unwrap()
}

/// A change on the wire, and in the record.
type Row = (String, u64, Option<u64>);

/// Of all processes of the test.
fn now() -> Duration {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap()
}

/// The way of a worker to the database. Whatever breaks is an error of the batch.
struct Remote(String);

impl Sink<u64> for Remote {
    async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
        let rows: Vec<Row> = batch
            .iter()
            .map(|c| {
                (
                    c.key_str().unwrap().to_owned(),
                    c.version(),
                    c.value().copied(),
                )
            })
            .collect();
        let mut stream = TcpStream::connect(&self.0).await?;
        let mut line = serde_json::to_vec(&(now(), rows))?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        let taken: Option<Vec<bool>> = serde_json::from_str(&reply)?;
        let Some(taken) = taken else {
            return Err(SinkError::unavailable("the call came too late"));
        };
        let verdict = |taken| match taken {
            true => Verdict::Written,
            false => Verdict::Retry(SinkError::new("not now")),
        };
        Ok(taken.into_iter().map(verdict).collect())
    }
}

#[derive(Default)]
struct Database {
    applied: Mutex<Vec<Row>>,
    failures: AtomicU64,
}

impl Database {
    /// On a thread of its own, which the test's tasks do not hold up. It ends with the test.
    async fn start(self: &Arc<Self>) -> String {
        let (database, (tell, told)) = (Arc::downgrade(self), tokio::sync::oneshot::channel());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap().to_string())
                    .unwrap();
                while database.strong_count() > 0 {
                    let accepted = timeout(Duration::from_secs(1), listener.accept()).await;
                    if let (Ok(accepted), Some(database)) = (accepted, database.upgrade()) {
                        let (stream, _) = accepted.unwrap();
                        tokio::spawn(async move { database.answer(stream).await });
                    }
                }
            });
        });
        told.await.unwrap()
    }

    /// One batch. In every hundred, three are refused and two are applied without a reply.
    async fn answer(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        if stream.read_line(&mut line).await.is_err() || !line.ends_with('\n') {
            return; // a killed worker's half of a request
        }
        let (sent, rows): (Duration, Vec<Row>) = serde_json::from_str(&line).unwrap();
        let fate = rand::random_range(0..100);
        if fate < 3 {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let taken: Vec<bool> = {
            let mut applied = self.applied.lock();
            if now() > sent + LEASE / 4 {
                drop(applied);
                drop(stream.write_all(b"null").await);
                return;
            }
            let take = |row: Row| {
                if POISONS.contains(&&*row.0) || rand::random_range(0..100) < 8 {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    return false;
                }
                applied.push(row);
                true
            };
            rows.into_iter().map(take).collect()
        };
        if fate >= 5 {
            let reply = serde_json::to_vec(&taken).unwrap();
            drop(stream.write_all(&reply).await);
        } else {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A worker, to be ended without a warning.
enum Hand {
    Process(Child),
    /// On the embedded engine, which no other process can reach.
    Task(Worker),
}

async fn hire(fixture: &Fixture, address: &str) -> Hand {
    if !fixture.kind.is_networked() {
        return Hand::Task(
            open(&fixture.client)
                .await
                .start(Remote(address.to_owned())),
        );
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "write_behind_crashes::a_worker_process",
            "--ignored",
            "--nocapture",
        ])
        .env("REDKIT_TEST_URL", fixture.url())
        .env("REDKIT_TEST_NAMESPACE", fixture.namespace())
        .env(
            "REDKIT_TEST_FRED",
            (fixture.kind == BackendKind::Fred).to_string(),
        )
        .env("REDKIT_TEST_DATABASE", address)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Hand::Process(child)
}

async fn fire(hand: Hand) {
    match hand {
        Hand::Process(mut child) => {
            child.kill().await.unwrap(); // SIGKILL
        }
        Hand::Task(worker) => drop(worker),
    }
}

/// The other process: works until it is killed, or the test's process is gone.
#[test]
#[ignore = "a process that the test below starts"]
fn a_worker_process() {
    let variable = |name: &str| std::env::var(name).expect("it is started by a test");
    let config = ClientConfig::from_url(&variable("REDKIT_TEST_URL")).unwrap();
    let patience = Duration::from_secs(10); // the machine may be busy
    let config = config
        .namespace(variable("REDKIT_TEST_NAMESPACE"))
        .connect_timeout(patience)
        .command_timeout(patience);
    let config = match &*variable("REDKIT_TEST_FRED") {
        "true" => config.driver(Driver::Fred),
        _ => config,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::connect(config).await.unwrap();
        let worker = open(&client)
            .await
            .start(Remote(variable("REDKIT_TEST_DATABASE")));
        let gone =
            std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        while !gone.is_finished() {
            sleep(Duration::from_millis(200)).await;
        }
        drop(worker);
    });
}

/// Writes `updates` values of the keys whose number is `part` of `parts`; gives the last of each.
async fn update(
    stock: WriteBehind<u64>,
    part: usize,
    parts: usize,
    updates: u64,
) -> BTreeMap<String, (u64, Option<u64>)> {
    let keys: Vec<String> = (part..KEYS)
        .step_by(parts)
        .map(|n| format!("key-{n}"))
        .collect();
    let mut last = BTreeMap::new();
    for n in 0..updates {
        let key = &keys[rand::random_range(0..keys.len())];
        let value = (rand::random_range(0..20) != 0).then_some(n);
        // On a busy machine a reply may be late; the id makes a repetition harmless.
        let id = WriteId::random();
        let version = loop {
            let written = match &value {
                Some(value) => stock.put_as(id, key, value).await,
                None => stock.delete_as(id, key).await,
            };
            match written {
                Ok(version) => break version,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        };
        let before = last.insert(key.clone(), (version, value));
        assert!(
            before.is_none_or(|(older, _)| older < version),
            "versions grow"
        );
    }
    last
}

redkit_testkit::suite! {
    #[multi_thread]
    async fn every_last_value_arrives_in_order_whoever_is_killed(fixture: Fixture) {
        const WRITERS: usize = 32;
        let updates: u64 = match fixture.kind {
            BackendKind::Redis if std::env::var_os("REDKIT_TEST_FULL").is_some() => 100_000,
            _ => 10_000,
        };
        let start = std::time::Instant::now();
        let database = Arc::new(Database::default());
        let address = database.start().await;
        let stock = open(&fixture.client).await;
        let writers: Vec<_> = (0..WRITERS)
            .map(|part| tokio::spawn(update(stock.clone(), part, WRITERS, updates / WRITERS as u64)))
            .collect();
        let mut poisoned = BTreeMap::new();
        for n in 0..5 {
            for key in POISONS {
                poisoned.insert(key.to_owned(), stock.put(key, &n).await.unwrap());
            }
        }

        let mut crew = Vec::new();
        for _ in 0..CREW {
            crew.push(hire(&fixture, &address).await);
        }
        let written = Arc::new(AtomicBool::new(false));
        let work = {
            let (written, stock) = (Arc::clone(&written), stock.clone());
            tokio::spawn(async move {
                let mut last = BTreeMap::new();
                for writer in writers {
                    last.append(&mut writer.await.unwrap());
                }
                written.store(true, Ordering::SeqCst);
                stock.flush(LONG).await.unwrap();
                last
            })
        };
        let mut kills = 0;
        while !work.is_finished() {
            sleep(Duration::from_millis(rand::random_range(100..500))).await;
            // Some of the end is without kills, so that it comes.
            if !written.load(Ordering::SeqCst) || kills < 12 || rand::random_range(0..4) == 0 {
                let victim = rand::random_range(0..crew.len());
                fire(crew.swap_remove(victim)).await;
                crew.push(hire(&fixture, &address).await);
                kills += 1;
            }
        }
        let last = work.await.unwrap();

        let applied = database.applied.lock().clone();
        let mut rows: BTreeMap<String, (u64, Option<u64>)> = BTreeMap::new();
        for (key, version, value) in &applied {
            let before = rows.insert(key.clone(), (*version, *value));
            assert!(before.is_none_or(|(older, _)| older <= *version), "{key}: {version} after {before:?}");
        }
        assert_eq!(rows, last, "every key's last value, and no other");
        let letters = stock.dead_letters(None, 1000).await.unwrap().letters;
        let dead: BTreeMap<String, u64> = letters
            .iter()
            .map(|letter| (String::from_utf8_lossy(letter.key()).into_owned(), letter.version()))
            .collect();
        assert_eq!(dead, poisoned, "the newest of each poison, and nothing else");
        assert!(letters.iter().all(|letter| !letter.is_superseded()));
        assert_eq!(stock.stats().await.unwrap().pending, 0);
        let failures = database.failures.load(Ordering::Relaxed);
        let again = applied.len() - applied.iter().map(|row| (&row.0, row.1)).collect::<BTreeSet<_>>().len();
        let took = start.elapsed().as_secs_f64();
        println!("{}: {updates} updates in {took:.1} s, {kills} kills, {} applied ({again} of them again), {failures} failures of the database", fixture.kind, applied.len());
        assert!(kills > 0 && failures > 0, "it was as hard as it should be: {kills}, {failures}");
    }
}
