//! A running storefront, ended with its test.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reqwest::{Client, Response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// The longest that anything may take.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Storefront {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: String,
    stderr: File,
    address: String,
    http: Client,
}

impl Storefront {
    /// The program with these arguments and no server; killed when it is dropped.
    pub(crate) fn command(args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storefront"));
        command
            .args(args)
            .env_remove("REDIS_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts the shop, and waits until it says its address.
    pub(crate) async fn start(args: &[&str], url: Option<&str>) -> Self {
        Self::start_logging(args, url, "warn").await
    }

    /// The same, with this filter of its log.
    pub(crate) async fn start_logging(args: &[&str], url: Option<&str>, filter: &str) -> Self {
        let mut command = Self::command(args);
        command.env("RUST_LOG", filter);
        if let Some(url) = url {
            command.env("REDIS_URL", url);
        }
        // A file, so that a shop that says much is never held up by nobody reading.
        let stderr = tempfile::tempfile().unwrap();
        let mut child = command.stderr(stderr.try_clone().unwrap()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        timeout(LIMIT, stdout.read_line(&mut said))
            .await
            .unwrap()
            .unwrap();
        let (_, rest) = said.split_once("http://").unwrap();
        let address = rest.split(' ').next().unwrap().to_owned();
        let http = Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        Self {
            child,
            stdout,
            said,
            stderr,
            address,
            http,
        }
    }

    /// The processor time that it has taken.
    #[allow(dead_code, reason = "for the scenario that measures")]
    pub(crate) fn processor_time(&self) -> Duration {
        let id = self.child.id().unwrap();
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        // Behind the name, which may hold blanks; user and system time are the 14th and 15th field, in 1/100 s.
        let (_, fields) = text.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Kills it, as a machine that fails does, and gives what it said in its log.
    pub(crate) async fn kill(mut self) -> String {
        self.child.kill().await.unwrap();
        let mut said = String::new();
        self.stderr.rewind().unwrap();
        self.stderr.read_to_string(&mut said).unwrap();
        said
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http
            .get(format!("http://{}{path}", self.address))
            .send()
            .await
            .unwrap()
    }

    /// Reads a page that must be there, and gives its `Cache-Status`.
    pub(crate) async fn read(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.headers()["cache-status"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) async fn post(&self, path: &str, json: &'static str) -> Response {
        let request = self.http.post(format!("http://{}{path}", self.address));
        request
            .header("content-type", "application/json")
            .body(json)
            .send()
            .await
            .unwrap()
    }

    /// Asks the shop to end as a supervisor would, and gives its status and all that it said, on both streams.
    pub(crate) async fn stop(&mut self) -> (ExitStatus, String) {
        let process = self.child.id().unwrap().to_string();
        let asked = Command::new("kill").args(["-TERM", &process]).status();
        assert!(timeout(LIMIT, asked).await.unwrap().unwrap().success());
        // Read first: a shop that says much must not wait for a reader.
        timeout(LIMIT, self.stdout.read_to_string(&mut self.said))
            .await
            .unwrap()
            .unwrap();
        let status = timeout(LIMIT, self.child.wait()).await.unwrap().unwrap();
        self.stderr.rewind().unwrap();
        self.stderr.read_to_string(&mut self.said).unwrap();
        (status, std::mem::take(&mut self.said))
    }
}
