//! A running shop: the example's own program, as anybody starts it.

use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Failure;
use crate::driver::variable;

/// Killed when it is dropped.
pub(super) struct Shop {
    process: Child,
    port: u16,
    /// Reads what it says, so that it never waits for a reader.
    _voice: JoinSet<()>,
}

impl Shop {
    /// On this server; on an engine in its own process without one.
    pub(super) async fn open(server: Option<&str>) -> Result<Self, Failure> {
        let mut command = Command::new(variable("REDKIT_STOREFRONT")?);
        command
            .args(["--listen", "127.0.0.1:0", "--ship-after", "3"])
            .env_remove("REDIS_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(server) = server {
            command.env("REDIS_URL", server);
        }
        let mut process = command.spawn()?;
        let output = process.stdout.take().ok_or("the shop has no output")?;
        let mut lines = BufReader::new(output).lines();
        // `storefront: open http://localhost:43211 (sign-in works at localhost, …)`
        let port = async {
            while let Some(line) = lines.next_line().await? {
                let address = line.split_once("open http://localhost:");
                let port = address.and_then(|(_, rest)| rest.split(' ').next());
                if let Some(port) = port {
                    return Ok::<u16, Failure>(port.parse()?);
                }
            }
            Err("the shop ended before it said where it is open".into())
        };
        let port = timeout(Duration::from_secs(60), port).await??;
        let mut voice = JoinSet::new();
        voice.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            process,
            port,
            _voice: voice,
        })
    }

    pub(super) fn at(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }

    /// Asks it to end, as a supervisor does; it must end in order although pages are open.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        let id = self.process.id().ok_or("the shop has ended by itself")?;
        let asked = StdCommand::new("kill")
            .args(["-TERM", &id.to_string()])
            .status()?;
        if !asked.success() {
            return Err("the shop could not be asked to end".into());
        }
        match timeout(Duration::from_secs(20), self.process.wait()).await?? {
            status if status.success() => Ok(()),
            status => Err(format!("the shop ended with {status}").into()),
        }
    }
}
