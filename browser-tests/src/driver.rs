//! [`Driver`]: the process that drives browsers, and WebDriver's requests to it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Failure;

/// A driver of browsers, which ends with this value.
pub(crate) struct Driver {
    process: Child,
    url: String,
    http: reqwest::Client,
}

impl Driver {
    /// Starts it on a free port.
    pub(crate) fn start() -> Result<Self, Failure> {
        let program = variable("REDKIT_CHROMEDRIVER")?;
        let mut process = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = process.stdout.take().ok_or("the driver has no output")?;
        let mut lines = BufReader::new(output).lines();
        // `ChromeDriver was started successfully on port 43211.`
        let port = lines.by_ref().find_map(|line| {
            let line = line.ok()?;
            let port = line
                .split_once("successfully on port ")?
                .1
                .trim_end_matches('.')
                .to_owned();
            port.parse::<u16>().ok()
        });
        let port = port.ok_or("the driver does not say on which port it listens")?;
        // Its pipe must not fill.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(60))
                .build()?,
        })
    }

    /// Opens a browser with an empty profile; gives the session's path.
    pub(crate) async fn session(&self, profile: &str) -> Result<String, Failure> {
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
        ];
        let mut arguments: Vec<_> = arguments.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={profile}"));
        let options = json!({ "binary": variable("REDKIT_CHROMIUM")?, "args": arguments });
        let wanted = json!({
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" },
        });
        let body = json!({ "capabilities": { "alwaysMatch": wanted } });
        let session = self.post("/session", &body).await?;
        let id = session["sessionId"]
            .as_str()
            .ok_or("the driver opened no session")?;
        Ok(format!("/session/{id}"))
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let sent = self
            .http
            .post(format!("{}{path}", self.url))
            .json(body)
            .send();
        Self::read(path, sent.await?).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let sent = self.http.get(format!("{}{path}", self.url)).send();
        Self::read(path, sent.await?).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        let sent = self.http.delete(format!("{}{path}", self.url)).send();
        Self::read(path, sent.await?).await
    }

    async fn read(path: &str, response: reqwest::Response) -> Result<Value, Failure> {
        let is_good = response.status().is_success();
        let mut answer: Value = response.json().await?;
        match is_good {
            true => Ok(answer["value"].take()),
            false => Err(format!("{path}: {}", answer["value"]["message"]).into()),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| format!("{name} is not set: run `cargo xtask browser`").into())
}
