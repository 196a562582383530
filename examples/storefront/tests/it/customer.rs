//! A customer with a browser that keeps the shop's cookie.

use std::time::Duration;

use reqwest::header::{ACCEPT, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

/// The longest that anything may take.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) struct Customer {
    http: Client,
    address: String,
    cookie: Option<String>,
}

impl Customer {
    /// A stranger at a shop's door.
    pub(crate) fn new(address: &str) -> Self {
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        Self {
            http: http.build().unwrap(),
            address: address.to_owned(),
            cookie: None,
        }
    }

    /// One of the demonstration's customers.
    pub(crate) async fn signed_in(address: &str, name: &str) -> Self {
        let mut customer = Self::new(address);
        let form = format!("name={name}&password=teapot-and-two-cups");
        let answer = customer.post("/sign-in", &form).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        customer
    }

    /// The same browser at another door of the same shop.
    pub(crate) fn at(&self, address: &str) -> Self {
        Self {
            address: address.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response {
        let request = self.http.get(self.url(path)).header(ACCEPT, "text/html");
        self.send(request).await
    }

    pub(crate) async fn text(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.unwrap()
    }

    pub(crate) async fn post(&mut self, path: &str, form: &str) -> Response {
        let request = self
            .http
            .post(self.url(path))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        self.send(request).await
    }

    /// Sends what a page's script sends.
    pub(crate) async fn post_json(&mut self, path: &str, body: &Value) -> Value {
        let request = self
            .http
            .post(self.url(path))
            .header("content-type", "application/json")
            .header("sec-fetch-site", "same-origin")
            .body(body.to_string());
        let answer = self.send(request).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path} {body}");
        answer.json().await.unwrap()
    }

    /// The id of the session, which nobody else should ever see.
    pub(crate) fn session_id(&self) -> &str {
        let cookie = self.cookie.as_deref().unwrap();
        cookie.split_once('=').unwrap().1
    }

    /// Puts units of a product into the basket, and gives the reference of the order that its page would be.
    pub(crate) async fn fill(&mut self, product: i64, units: u32) -> String {
        let form = format!("product={product}&units={units}");
        let answer = self.post("/basket", &form).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let page = self.text("/basket").await;
        let (_, rest) = page.split_once("name=\"reference\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    /// Orders what is in the basket; gives whether it was taken.
    pub(crate) async fn order(&mut self, reference: &str) -> bool {
        let answer = self
            .post("/orders", &format!("reference={reference}"))
            .await;
        match answer.status() {
            StatusCode::SEE_OTHER => {
                let to = answer.headers()[LOCATION].to_str().unwrap();
                to.ends_with(reference)
            }
            StatusCode::CONFLICT => false,
            other => panic!("an order is answered with {other}"),
        }
    }

    /// Opens the stream of news behind an item.
    pub(crate) async fn follow(&self, after: &str) -> News {
        self.stream(&format!("/notifications/stream?after={after}"))
            .await
    }

    /// Opens a stream of events.
    pub(crate) async fn stream(&self, path: &str) -> News {
        let request = self
            .http
            .get(self.url(path))
            .header(ACCEPT, "text/event-stream");
        let answer = with_cookie(request, self.cookie.as_ref())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        News {
            answer,
            text: String::new(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Response {
        let request = with_cookie(request.timeout(LIMIT), self.cookie.as_ref());
        let answer = request.send().await.unwrap();
        if let Some(set) = answer.headers().get(SET_COOKIE) {
            let set = set.to_str().unwrap();
            for needed in [
                "__Host-shop=",
                "; Secure",
                "; HttpOnly",
                "; SameSite=Lax",
                "; Path=/",
            ] {
                assert!(set.contains(needed), "{set}");
            }
            self.cookie = Some(set.split(';').next().unwrap().to_owned());
        }
        answer
    }
}

fn with_cookie(
    request: reqwest::RequestBuilder,
    cookie: Option<&String>,
) -> reqwest::RequestBuilder {
    match cookie {
        Some(cookie) => request.header(COOKIE, cookie),
        None => request,
    }
}

/// An open stream of news.
pub(crate) struct News {
    answer: Response,
    text: String,
}

impl News {
    /// Reads until there is `text` in it, and gives all that came.
    pub(crate) async fn until(&mut self, text: &str) -> &str {
        let reading = async {
            while !self.text.contains(text) {
                let chunk = self.answer.chunk().await.unwrap();
                let chunk = chunk.unwrap_or_else(|| panic!("the stream ended: {}", self.text));
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
            // The rest of the event, with its id.
            while !self.text.ends_with("\n\n") {
                let chunk = self.answer.chunk().await.unwrap().unwrap();
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(LIMIT, reading).await.unwrap();
        &self.text
    }

    /// The next event; nothing when the stream has ended.
    pub(crate) async fn next_event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                return Some(self.text.drain(..end + 2).collect());
            }
            let chunk = self.answer.chunk().await.ok()??;
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Waits for the end of the stream.
    pub(crate) async fn ended(mut self) {
        let ending = async { while let Ok(Some(_)) = self.answer.chunk().await {} };
        tokio::time::timeout(LIMIT, ending).await.unwrap();
    }

    /// The id of the last event.
    pub(crate) fn last_id(&self) -> &str {
        let (_, rest) = self.text.rsplit_once("id:").unwrap();
        rest.lines().next().unwrap().trim()
    }
}
