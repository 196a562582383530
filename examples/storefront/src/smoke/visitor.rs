//! A visitor of the shop: sends requests over HTTP and keeps what matters of the answers.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use super::{Failure, ensure};
use crate::routes::CACHE_STATUS;

/// The longest that one answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Visits one shop. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    http: Client,
    address: SocketAddr,
    cookie: Option<String>,
}

impl Visitor {
    pub(super) fn new(address: SocketAddr) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            // The shop is on this machine, whatever proxy stands before the rest.
            .no_proxy()
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            address,
            cookie: None,
        })
    }

    /// The same visitor with the cookie that an answer has set.
    pub(super) fn with_cookie_of(&self, answer: &Answer) -> Self {
        Self {
            cookie: answer.cookie.clone(),
            ..self.clone()
        }
    }

    /// Sends a form.
    pub(super) async fn form(&self, path: &str, form: &str) -> Result<Answer, Failure> {
        let form = form.to_owned();
        self.post(path, "application/x-www-form-urlencoded", form)
            .await
    }

    /// Opens a stream of events, and gives what came when there is `text` in it.
    pub(super) async fn stream_until(&self, path: &str, text: &str) -> Result<String, Failure> {
        let url = format!("http://{}{path}", self.address);
        let mut request = self.http.get(url).header(ACCEPT, "text/event-stream");
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let mut answer = request.send().await?.error_for_status()?;
        let mut came = String::new();
        while let Some(chunk) = answer.chunk().await? {
            came.push_str(&String::from_utf8_lossy(&chunk));
            if came.contains(text) {
                return Ok(came);
            }
        }
        Err(Failure::Unexpected(format!("{path} ended with {came:?}")))
    }

    /// Reads a page as a person would.
    pub(super) async fn page(&self, path: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, path, |request| {
            request.header(ACCEPT, "text/html")
        })
        .await
    }

    /// Reads a page's data as a program would.
    pub(super) async fn json(&self, path: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, path, |request| {
            request.header(ACCEPT, "application/json")
        })
        .await
    }

    /// Sends a body of a type.
    pub(super) async fn post(
        &self,
        path: &str,
        kind: &'static str,
        body: impl Into<String>,
    ) -> Result<Answer, Failure> {
        let body = body.into();
        self.send(Method::POST, path, |request| {
            request.header(CONTENT_TYPE, kind).body(body)
        })
        .await
    }

    /// Sends a request that `with` completes.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, Failure> {
        let url = format!("http://{}{path}", self.address);
        let request = format!("{method} {path}");
        let mut sent = self.http.request(method, url);
        if let Some(cookie) = &self.cookie {
            sent = sent.header(COOKIE, cookie);
        }
        let response = with(sent).send().await?;
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(value.to_str().ok()?.to_owned())
        };
        Ok(Answer {
            request,
            status: response.status(),
            cache: header(CACHE_STATUS),
            kind: header(CONTENT_TYPE).unwrap_or_default(),
            location: header(LOCATION),
            retry_after: header(RETRY_AFTER),
            cookie: header(SET_COOKIE).and_then(|set| Some(set.split(';').next()?.to_owned())),
            body: response.text().await?,
        })
    }
}

/// An answer of the shop.
#[derive(Debug)]
pub(super) struct Answer {
    request: String,
    pub(super) status: StatusCode,
    /// The `Cache-Status` header.
    pub(super) cache: Option<String>,
    pub(super) kind: String,
    pub(super) location: Option<String>,
    /// The `Retry-After` header.
    pub(super) retry_after: Option<String>,
    /// Name and value of the cookie that it sets.
    cookie: Option<String>,
    pub(super) body: String,
}

impl Answer {
    /// Fails unless the status is this one.
    pub(super) fn with_status(self, status: StatusCode) -> Result<Self, Failure> {
        ensure(self.status == status, || {
            // Of a page, what it says and not its head.
            let said = self
                .body
                .split_once("<main")
                .map_or(self.body.as_str(), |(_, rest)| rest);
            let body: String = said.chars().take(200).collect();
            format!(
                "{} gave {} and not {status}: {body}",
                self.request, self.status
            )
        })?;
        Ok(self)
    }

    /// Fails unless the cache dealt with it like this.
    pub(super) fn with_cache(self, status: &str) -> Result<Self, Failure> {
        ensure(self.cache.as_deref() == Some(status), || {
            format!(
                "{} has Cache-Status {:?} and not {status:?}",
                self.request, self.cache
            )
        })?;
        Ok(self)
    }

    /// Fails unless the body has this text.
    pub(super) fn containing(self, text: &str) -> Result<Self, Failure> {
        ensure(self.body.contains(text), || {
            format!("{} does not show {text:?}", self.request)
        })?;
        Ok(self)
    }

    /// What stands between two marks of the body.
    pub(super) fn between(&self, before: &str, after: &str) -> Result<&str, Failure> {
        let found = self
            .body
            .split_once(before)
            .and_then(|(_, rest)| rest.split_once(after));
        found.map(|(found, _)| found).ok_or_else(|| {
            Failure::Unexpected(format!(
                "{} has nothing between {before} and {after}",
                self.request
            ))
        })
    }

    /// The body as JSON.
    pub(super) fn value<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(serde_json::from_str(&self.body)?)
    }
}
