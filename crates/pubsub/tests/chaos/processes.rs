//! The consumer processes of a fleet: what they do, and how they are started and troubled.

use std::process::Stdio;
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command, Error};
use redkit_pubsub::topic::{Delivery, Outcome, Topic};
use tokio::process::Child;
use tokio::time::sleep;

pub(crate) const GROUP: &str = "g";
pub(crate) const CONCURRENCY: usize = 4;
pub(crate) const PARTITIONS: u32 = 8;
pub(crate) const LEASE: Duration = Duration::from_millis(1_000);
/// One of so many messages can never be handled.
const POISON: u64 = 1_000;

pub(crate) fn is_poison(message: u64) -> bool {
    message % POISON == POISON / 2
}

pub(crate) async fn connect(url: &str) -> Client {
    Client::connect(ClientConfig::from_url(url).unwrap())
        .await
        .unwrap()
}

pub(crate) fn topic(client: &Client) -> Topic<u64> {
    Topic::builder(client, "fleet")
        .partitions(PARTITIONS)
        .build()
        .unwrap()
}

/// What happened, line by line: the message, the attempt, the process, `begun`, `failed` or `done`.
pub(crate) const JOURNAL: &str = "journal";

fn variable(name: &str) -> String {
    std::env::var(name).expect("it is started by a scenario")
}

/// A consumer: works until it is killed, drains when its input ends.
#[test]
#[ignore = "a process that the scenarios start"]
fn a_worker_process() {
    let url = variable("REDKIT_TEST_URL");
    let is_ordered = variable("REDKIT_TEST_ORDERED") == "true";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let client = connect(&url).await;
        let consumer = topic(&client)
            .consumer(GROUP)
            .concurrency(CONCURRENCY)
            .lease(LEASE)
            .max_attempts(12)
            .backoff(Duration::from_millis(5), Duration::from_millis(50));
        let consumer = match is_ordered {
            true => consumer.ordered(),
            false => consumer,
        };
        let worker = consumer.start(move |delivery: Delivery<u64>| {
            let client = client.clone();
            async move {
                handle(&client, &delivery)
                    .await
                    .unwrap_or(Outcome::HandBack)
            }
        });
        let worker = worker.await.unwrap();
        let end = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        while !end.is_finished() {
            sleep(Duration::from_millis(20)).await;
        }
        worker.shutdown(Duration::from_secs(5)).await;
    });
}

async fn handle(client: &Client, delivery: &Delivery<u64>) -> Result<Outcome, Error> {
    let note = async |what: &str| {
        let pid = std::process::id();
        let line = format!("{} {} {pid} {what}", delivery.payload, delivery.attempt);
        let push = Command::new("RPUSH").key(client.key(JOURNAL)).arg(line);
        client.call::<u64>(push).await
    };
    note("begun").await?;
    sleep(Duration::from_millis(rand::random_range(1..20))).await;
    if is_poison(delivery.payload) || rand::random_range(0..100) < 5 {
        note("failed").await?;
        return Ok(Outcome::retry("no luck"));
    }
    note("done").await?;
    Ok(Outcome::Ack)
}

/// A process of the fleet.
pub(crate) struct Worker {
    child: Child,
    pub(crate) pid: u32,
}

impl Worker {
    pub(crate) fn start(url: &str, is_ordered: bool) -> Self {
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "processes::a_worker_process",
                "--ignored",
                "--nocapture",
            ])
            .env("REDKIT_TEST_URL", url)
            .env("REDKIT_TEST_ORDERED", is_ordered.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            pid: child.id().unwrap(),
            child,
        }
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) async fn signal(&self, signal: &str) {
        let sent = tokio::process::Command::new("kill")
            .args([signal, &self.pid.to_string()])
            .status()
            .await;
        assert!(sent.unwrap().success());
    }

    /// Ends it in order.
    pub(crate) async fn drain(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().await.unwrap().success());
    }
}
