//! [`Browser`]: one browser and its page, for scenarios.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::Failure;
use crate::driver::{Driver, variable};

/// How long a page has to come to a state.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser with an empty profile. Close it by [`close`](Self::close).
pub(crate) struct Browser<'d> {
    driver: &'d Driver,
    session: String,
    _profile: TempDir,
}

impl<'d> Browser<'d> {
    pub(crate) async fn open(driver: &'d Driver) -> Result<Self, Failure> {
        let profile = TempDir::new()?;
        let path = profile.path().to_string_lossy().into_owned();
        Ok(Self {
            driver,
            session: driver.session(&path).await?,
            _profile: profile,
        })
    }

    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.driver.delete(&self.session).await.map(drop)
    }

    pub(crate) async fn go(&self, url: &str) -> Result<(), Failure> {
        self.post("url", &json!({ "url": url })).await.map(drop)
    }

    /// Sets a cookie of the page's host.
    pub(crate) async fn cookie(&self, name: &str, value: &str) -> Result<(), Failure> {
        let cookie = json!({ "cookie": { "name": name, "value": value } });
        self.post("cookie", &cookie).await.map(drop)
    }

    /// Runs a script in the page, with `arguments[0]` and so on; gives what it returns. A promise is awaited.
    pub(crate) async fn run(&self, script: &str, arguments: &[Value]) -> Result<Value, Failure> {
        let body = json!({ "script": script, "args": arguments });
        self.post("execute/sync", &body).await
    }

    /// Waits until a script returns something true; gives it.
    pub(crate) async fn wait(
        &self,
        what: &str,
        script: &str,
        arguments: &[Value],
    ) -> Result<Value, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.run(script, arguments).await?;
            if value != Value::Null && value != json!(false) && value != json!("") {
                return Ok(value);
            }
            if Instant::now() > end {
                let text = self
                    .run("return document.body.innerText.slice(0, 3000)", &[])
                    .await?;
                return Err(format!(
                    "in vain waited for: {what}\nthe page:\n{}",
                    text.as_str().unwrap_or_default()
                )
                .into());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until an element holds a text.
    pub(crate) async fn wait_for(&self, selector: &str, text: &str) -> Result<(), Failure> {
        let script = "return [...document.querySelectorAll(arguments[0])].some((e) => e.textContent.includes(arguments[1]))";
        let what = format!("`{text}` in `{selector}`");
        self.wait(&what, script, &[json!(selector), json!(text)])
            .await
            .map(drop)
    }

    /// Waits until no element holds a text.
    pub(crate) async fn wait_gone(&self, selector: &str, text: &str) -> Result<(), Failure> {
        let script = "return ![...document.querySelectorAll(arguments[0])].some((e) => e.textContent.includes(arguments[1]))";
        let what = format!("no `{text}` in `{selector}`");
        self.wait(&what, script, &[json!(selector), json!(text)])
            .await
            .map(drop)
    }

    /// Waits for an element with a text (any, when it is empty), and clicks it as a person does: where it is seen.
    pub(crate) async fn click(&self, selector: &str, text: &str) -> Result<(), Failure> {
        let script = "return [...document.querySelectorAll(arguments[0])].find((e) => e.textContent.includes(arguments[1]) && !e.disabled)";
        let what = format!("something to click: `{selector}` with `{text}`");
        let found = self
            .wait(&what, script, &[json!(selector), json!(text)])
            .await?;
        let id = found
            .as_object()
            .and_then(|found| found.values().next())
            .and_then(Value::as_str);
        let id = id.ok_or("the driver gave no element")?;
        self.run(
            "arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })",
            std::slice::from_ref(&found),
        )
        .await?;
        self.post(&format!("element/{id}/click"), &json!({}))
            .await
            .map(drop)
    }

    /// Writes a text into a field.
    pub(crate) async fn fill(&self, selector: &str, text: &str) -> Result<(), Failure> {
        let script = "const field = document.querySelector(arguments[0]); if (!field) return false; \
            field.focus(); field.value = arguments[1]; return true";
        let what = format!("a field `{selector}`");
        self.wait(&what, script, &[json!(selector), json!(text)])
            .await
            .map(drop)
    }

    /// Looks at the one other window, closes it, and comes back.
    pub(crate) async fn in_the_other_window(
        &self,
        look: impl AsyncFnOnce(&Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let own = self.get("window").await?;
        let all = self.get("window/handles").await?;
        let other = all
            .as_array()
            .and_then(|all| all.iter().find(|one| **one != own));
        let other = other.ok_or("there is no other window")?;
        self.post("window", &json!({ "handle": other })).await?;
        look(self).await?;
        let path = format!("{}/window", self.session);
        self.driver.delete(&path).await?;
        self.post("window", &json!({ "handle": own }))
            .await
            .map(drop)
    }

    /// Presses keys, in turn, on what has the focus.
    pub(crate) async fn press(&self, keys: &str) -> Result<(), Failure> {
        let mut actions = Vec::new();
        for key in keys.chars() {
            for kind in ["keyDown", "keyUp"] {
                actions.push(json!({ "type": kind, "value": key.to_string() }));
            }
        }
        let body = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.post("actions", &body).await.map(drop)
    }

    /// The page as wide as a device, in its colours.
    pub(crate) async fn device(
        &self,
        width: u32,
        height: u32,
        is_dark: bool,
    ) -> Result<(), Failure> {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await?;
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await?;
        // The page is laid out anew.
        let drawn = "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))";
        self.run(drawn, &[]).await.map(drop)
    }

    /// A command of the browser's own protocol.
    pub(crate) async fn devtools(
        &self,
        command: &str,
        parameters: Value,
    ) -> Result<Value, Failure> {
        let body = json!({ "cmd": command, "params": parameters });
        self.post("goog/cdp/execute", &body).await
    }

    /// Fails when the page is wider than its window.
    pub(crate) async fn check_width(&self) -> Result<(), Failure> {
        let script = "const wide = document.documentElement.scrollWidth; const have = innerWidth; \
            if (wide <= have) return null; \
            return `${wide} of ${have}: ` + [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > have + 1 && !e.closest('nav')) \
                .slice(0, 5).map((e) => `${e.tagName}.${e.className.baseVal ?? e.className}`).join(', ')";
        match self.run(script, &[]).await? {
            Value::Null => Ok(()),
            wide => Err(format!("the page is wider than its window: {wide}").into()),
        }
    }

    /// Fails on serious findings of axe.
    pub(crate) async fn check_accessibility(&self) -> Result<(), Failure> {
        if self.run("return !!window.axe", &[]).await? != json!(true) {
            let axe = std::fs::read_to_string(variable("REDKIT_AXE")?)?;
            self.run(&format!("{axe};return true"), &[]).await?;
        }
        let script = "return axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations \
            .filter(({ impact }) => impact === 'serious' || impact === 'critical') \
            .map(({ id, help, nodes }) => `${id}: ${help}: ` + nodes.slice(0, 4).map((n) => `${n.target} ${n.failureSummary}`).join(' | ')))";
        let found = self.run(script, &[]).await?;
        match found.as_array().is_some_and(Vec::is_empty) {
            true => Ok(()),
            false => Err(format!("axe: {found:#}").into()),
        }
    }

    /// Fails on errors in the console since the last call; those with `expected` in their text are passed over.
    pub(crate) async fn check_console(&self, expected: &[&str]) -> Result<(), Failure> {
        let entries = self.post("se/log", &json!({ "type": "browser" })).await?;
        let errors = entries.as_array().into_iter().flatten().filter(|entry| {
            let text = entry["message"].as_str().unwrap_or_default();
            entry["level"] == "SEVERE" && !expected.iter().any(|expected| text.contains(expected))
        });
        let errors: Vec<_> = errors.map(|entry| entry["message"].to_string()).collect();
        match errors.is_empty() {
            true => Ok(()),
            false => Err(format!("errors in the console: {errors:#?}").into()),
        }
    }

    /// The visible part of the page, as PNG.
    pub(crate) async fn screenshot(&self, path: &Path) -> Result<(), Failure> {
        let shot = self.get("screenshot").await?;
        let bytes = STANDARD.decode(shot.as_str().unwrap_or_default())?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, bytes)?)
    }

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.driver.get(&format!("{}/{path}", self.session)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.driver
            .post(&format!("{}/{path}", self.session), body)
            .await
    }
}
