//! One shopper.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use reqwest::header::{ACCEPT, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Method, Response, StatusCode};

use super::{Deeds, PASSWORD};

/// The longest that one answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Something that a shopper searches for.
const WORDS: [&str; 8] = [
    "knife",
    "oak",
    "lamp",
    "tea",
    "linen",
    "garden",
    "brightwell",
    "set",
];

pub(super) struct Shopper {
    http: Client,
    name: String,
    /// An address of its own, from a range that is for documentation.
    address: String,
    doors: Vec<SocketAddr>,
    cookie: Option<String>,
    deeds: Arc<Deeds>,
}

impl Shopper {
    pub(super) fn new(
        number: u16,
        name: String,
        doors: Vec<SocketAddr>,
        deeds: Arc<Deeds>,
    ) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("Firefox/140.0 (a shopper of the demonstration; Linux)");
        Ok(Self {
            http: http.build()?,
            name,
            address: format!("198.51.100.{}", number % 256),
            doors,
            cookie: None,
            deeds,
        })
    }

    /// Walks about until this is dropped.
    pub(super) async fn walk(mut self) {
        loop {
            if let Err(error) = self.step().await {
                Deeds::count(&self.deeds.failures);
                tracing::info!(error = &error as &dyn std::error::Error, "not served");
            }
            let pause = rand::rng().random_range(200..1200);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Does one thing.
    async fn step(&mut self) -> Result<(), reqwest::Error> {
        if self.cookie.is_none() {
            return self.sign_in().await;
        }
        let chance: u32 = rand::rng().random_range(0..100);
        match chance {
            0..45 => self.look().await,
            45..60 => self.search().await,
            60..85 => self.order().await,
            85..95 => self.read_news().await,
            95..98 => {
                self.cookie = None;
                Ok(())
            }
            _ => self.mistype().await,
        }
    }

    async fn sign_in(&mut self) -> Result<(), reqwest::Error> {
        let form = format!("name={}&password={}", self.name, PASSWORD.replace(' ', "+"));
        self.post("/sign-in", form).await.map(|_| ())
    }

    async fn mistype(&mut self) -> Result<(), reqwest::Error> {
        let form = format!("name={}&password=somethingelse", self.name);
        self.post("/sign-in", form).await.map(|_| ())
    }

    async fn look(&mut self) -> Result<(), reqwest::Error> {
        // Most look at a few.
        let product = match rand::rng().random_bool(0.7) {
            true => rand::rng().random_range(1..=30),
            false => rand::rng().random_range(1..=1000),
        };
        let path = match rand::rng().random_range(0..4) {
            0 => "/".to_owned(),
            1 => format!("/categories/{}", rand::rng().random_range(1..=20)),
            _ => format!("/products/{product}"),
        };
        self.get(&path).await.map(|_| ())
    }

    async fn search(&mut self) -> Result<(), reqwest::Error> {
        let word = WORDS[rand::rng().random_range(0..WORDS.len())];
        self.get(&format!("/search?q={word}")).await.map(|_| ())
    }

    /// Puts something into the basket, orders it, sometimes twice, and sometimes thinks better of it.
    async fn order(&mut self) -> Result<(), reqwest::Error> {
        let product = rand::rng().random_range(1..=60);
        self.post("/basket", format!("product={product}&add=1"))
            .await?;
        let page = self.get("/basket").await?.text().await?;
        let Some(reference) = between(&page, "name=\"reference\" value=\"", "\"") else {
            return Ok(());
        };
        let form = format!("reference={reference}");
        let mut answer = self.post("/orders", form.clone()).await?;
        if answer.status().is_server_error() || rand::rng().random_bool(0.2) {
            // The same form once more: nobody knows whether the first one was taken, or a finger slipped.
            answer = self.post("/orders", form).await?;
        }
        let to = answer
            .headers()
            .get(LOCATION)
            .and_then(|to| to.to_str().ok());
        if to.is_some_and(|to| to.ends_with(reference)) {
            Deeds::count(&self.deeds.orders);
            tracing::info!(order = reference, shopper = self.name, "ordered");
            if rand::rng().random_bool(0.15) {
                let cancelled = self
                    .post(&format!("/orders/{reference}/cancel"), String::new())
                    .await?;
                if cancelled.status() == StatusCode::SEE_OTHER {
                    Deeds::count(&self.deeds.cancelled);
                }
            }
        } else if answer.status() == StatusCode::CONFLICT {
            Deeds::count(&self.deeds.sold_out);
            self.post("/basket", format!("product={product}&units=0"))
                .await?;
        }
        Ok(())
    }

    async fn read_news(&mut self) -> Result<(), reqwest::Error> {
        let page = self.get("/notifications").await?.text().await?;
        if let Some(last) = between(&page, "name=\"last\" value=\"", "\"") {
            Deeds::count(&self.deeds.news);
            // Told before it is taken out, so that a shopper that is killed in between has lost nothing.
            for news in page.split("data-note=\"").skip(1) {
                let id = news.split('"').next().unwrap_or_default();
                tracing::info!(news = id, "read");
            }
            self.post("/notifications", format!("last={last}")).await?;
        }
        Ok(())
    }

    async fn get(&mut self, path: &str) -> Result<Response, reqwest::Error> {
        self.send(Method::GET, path, String::new()).await
    }

    async fn post(&mut self, path: &str, form: String) -> Result<Response, reqwest::Error> {
        self.send(Method::POST, path, form).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        form: String,
    ) -> Result<Response, reqwest::Error> {
        let door = self.doors[rand::rng().random_range(0..self.doors.len())];
        let mut request = self
            .http
            .request(method.clone(), format!("http://{door}{path}"))
            .timeout(LIMIT)
            .header("x-forwarded-for", &self.address)
            .header(ACCEPT, "text/html");
        if method == Method::POST {
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let answer = request.send().await?;
        Deeds::count(&self.deeds.pages);
        match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => Deeds::count(&self.deeds.limited),
            status if status.is_server_error() => {
                Deeds::count(&self.deeds.failures);
                tracing::info!(status = status.as_u16(), path, "not served");
            }
            _ => {}
        }
        let set = answer
            .headers()
            .get(SET_COOKIE)
            .and_then(|set| set.to_str().ok());
        if let Some(set) = set {
            let cookie = set.split(';').next().unwrap_or_default();
            self.cookie = Some(cookie.to_owned()).filter(|cookie| !cookie.ends_with('='));
        }
        Ok(answer)
    }
}

/// What stands between two marks of a page.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?
        .1
        .split_once(after)
        .map(|(found, _)| found)
}
