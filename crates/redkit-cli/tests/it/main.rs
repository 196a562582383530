//! The program as its users have it: the binary, against an engine on a port and against real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod dashboard;
mod doctor;
mod keys;
mod limits;
mod locks;
mod sessions;
mod terminal;
mod topics;
mod topologies;
mod watch;

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redkit_core::{Client, ClientConfig};
use redkit_embedded::{Embedded, Listener};
use serde_json::Value;
use tokio::process::Command;

/// The namespace of the tests' programs.
const NAMESPACE: &str = "shop";

/// A run that has ended.
#[derive(Debug)]
struct Done {
    code: i32,
    out: String,
    err: String,
    took: Duration,
}

impl Done {
    /// Standard output as JSON, of a run that succeeded.
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.document()
    }

    fn document(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it failed with this code, and that cause and remedy hold these texts.
    fn failed(&self, code: i32, cause: &str, remedy: &str) {
        assert_eq!(self.code, code, "{self:?}");
        let line = |start: &str| {
            let found = self.err.lines().find(|line| line.starts_with(start));
            found
                .unwrap_or_else(|| panic!("no {start} {self:?}"))
                .to_owned()
        };
        assert!(line("error: ").contains(cause), "{cause}: {self:?}");
        assert!(line("remedy: ").contains(remedy), "{remedy}: {self:?}");
    }
}

/// The program in an environment without settings.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redkit"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("REDKIT_") || text == "REDIS_URL" {
            command.env_remove(&name);
        }
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn ended(mut command: Command) -> Done {
    let start = Instant::now();
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.expect("it ends").unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        took: start.elapsed(),
    }
}

/// Runs the program on a server.
async fn redkit(url: &str, args: &[&str]) -> Done {
    let mut command = program(args);
    command
        .env("REDIS_URL", url)
        .env("REDKIT_NAMESPACE", NAMESPACE);
    ended(command).await
}

/// An engine on a port, and a client of a program that uses it.
struct Engine {
    listener: Listener,
    client: Client,
}

async fn engine() -> Engine {
    let engine = Embedded::new();
    let listener = engine.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let config = ClientConfig::from_url("embedded://")
        .unwrap()
        .namespace(NAMESPACE);
    let client = Client::from_backend(Arc::new(engine), &config).unwrap();
    Engine { listener, client }
}

impl Engine {
    fn url(&self) -> String {
        format!("redis://{}", self.listener.addr())
    }

    async fn redkit(&self, args: &[&str]) -> Done {
        redkit(&self.url(), args).await
    }

    /// The program with JSON.
    async fn json(&self, args: &[&str]) -> Value {
        self.redkit(&[&["--json"], args].concat()).await.json()
    }
}
