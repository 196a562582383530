//! The processes of a history.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use super::worker::{ORDER, Order, Seen};

pub(super) struct Member {
    order: Order,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Member {
    pub(super) fn start(order: Order) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "history::worker::child",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(ORDER, serde_json::to_string(&order).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            order,
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    pub(super) async fn ready(&mut self) {
        self.hear("ready").await.expect("it comes up");
    }

    /// Kills it in the middle of whatever it does, and starts its successor.
    pub(super) async fn replace(&mut self) {
        self.child.kill().await.unwrap();
        let order = Order {
            is_successor: true,
            ..self.order.clone()
        };
        *self = Self::start(order);
    }

    /// Stops it for a while: it does not notice, and its leases end.
    pub(super) async fn pause(&self, time: Duration) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw).expect("it runs");
        kill_process(id, Signal::STOP).unwrap();
        sleep(time).await;
        kill_process(id, Signal::CONT).unwrap();
    }

    /// Tells it that it is over; gives what it has done, if it got so far as to begin.
    pub(super) async fn finish(mut self) -> Seen {
        // One that was started last may not have begun to read.
        let _ = self.stdin.write_all(b"stop\n").await;
        let seen = self.hear("seen").await;
        seen.map_or_else(Seen::default, |seen| serde_json::from_str(&seen).unwrap())
    }

    /// Waits for a line that begins so, and gives the rest of it.
    async fn hear(&mut self, what: &str) -> Option<String> {
        let heard = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix("> ").and_then(|l| l.strip_prefix(what)) {
                    return Some(rest.trim().to_owned());
                }
            }
            let ended = self.child.wait().await.unwrap();
            assert!(ended.success(), "a process failed: see above");
            None
        };
        let heard = timeout(Duration::from_secs(60), heard).await;
        heard.expect("nothing is stuck")
    }
}
