//! The other process: it holds locks when it is told to, and has the only consumer of a topic.

use std::process::Stdio;
use std::time::Duration;

use redkit_lock::{Guard, LockManager};
use redkit_monitor::dashboard::Dashboard;
use redkit_pubsub::Topic;
use redkit_pubsub::topic::{Delivery, Outcome};
use secrecy::SecretString;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, stdin};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::shop::{KEY, client};
use crate::Failure;

/// The process as the scenario has it.
pub(super) struct Worker {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    pub(super) async fn start(url: &str) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["dashboard-worker", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take().ok_or("the worker has no input")?;
        let output = process.stdout.take().ok_or("the worker has no output")?;
        let mut worker = Self {
            process,
            input,
            output: BufReader::new(output).lines(),
        };
        worker.answer().await?;
        Ok(worker)
    }

    /// Tells it something, and waits until it is done.
    pub(super) async fn tell(&mut self, line: &str) -> Result<(), Failure> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        self.answer().await
    }

    pub(super) async fn end(mut self) -> Result<(), Failure> {
        drop(self.input);
        let ended = timeout(Duration::from_secs(10), self.process.wait()).await?;
        match ended?.success() {
            true => Ok(()),
            false => Err("the worker failed".into()),
        }
    }

    async fn answer(&mut self) -> Result<(), Failure> {
        let line = timeout(Duration::from_secs(20), self.output.next_line()).await??;
        match line.as_deref() {
            Some("done") => Ok(()),
            other => Err(format!("the worker said {other:?}").into()),
        }
    }
}

/// The process follows its input, a line at a time, until it ends.
pub(crate) async fn run(url: &str) -> Result<(), Failure> {
    let client = client(url).await?;
    let locks = LockManager::builder(&client, "orders").build()?;
    let archive: Topic<Value> = Topic::builder(&client, "archive").build()?;
    let handler = |_: Delivery<Value>| async { Outcome::Ack };
    let archiver = archive.consumer("keepers").start(handler).await?;
    let dashboard = Dashboard::builder(&client)
        .program("worker")
        .command_key(SecretString::from(KEY))
        .start()?;
    println!("done");
    let mut held: Option<Guard> = None;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.split_once(' ') {
            Some(("lock", key)) => held = Some(locks.acquire(key, Duration::from_secs(5)).await?),
            _ if line == "release" => {
                if let Some(guard) = held.take() {
                    guard.release().await?;
                }
            }
            _ => return Err(format!("it makes no sense to tell `{line}`").into()),
        }
        println!("done");
    }
    archiver.shutdown(Duration::from_secs(1)).await;
    dashboard.shutdown().await;
    client.shutdown().await;
    Ok(())
}
