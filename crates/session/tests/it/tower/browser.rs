//! A real HTTP client with a cookie jar, over a socket.

use std::time::Duration;

use axum::Router;
use redkit_session::tower::SessionLayer;
use redkit_testkit::Fixture;
use reqwest::{Client, Response, StatusCode};
use tokio::time::timeout;

use super::app_with;
use crate::store;

/// Serves until the end of the test.
async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}")
}

struct Browser {
    client: Client,
    site: String,
}

impl Browser {
    fn new(site: &str) -> Self {
        let client = Client::builder()
            .cookie_store(true)
            .no_proxy()
            .build()
            .unwrap();
        Self {
            client,
            site: site.to_owned(),
        }
    }

    async fn get(&self, path: &str) -> String {
        let response = self
            .client
            .get(format!("{}{path}", self.site))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.unwrap()
    }

    async fn post(&self, path: &str) -> String {
        let request = self.client.post(format!("{}{path}", self.site));
        let response = request.header("origin", &self.site).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.unwrap()
    }

    /// A connection for events that has begun.
    async fn events(&self) -> Response {
        let mut response = self
            .client
            .get(format!("{}/events", self.site))
            .send()
            .await
            .unwrap();
        let first = response.chunk().await.unwrap().unwrap();
        assert!(first.starts_with(b"data: hello"));
        // Its watcher stands.
        tokio::time::sleep(Duration::from_millis(700)).await;
        response
    }
}

/// What comes until the connection ends, far before its watcher would ask by itself.
async fn rest(mut events: Response) -> String {
    let all = async {
        let mut text = String::new();
        while let Some(chunk) = events.chunk().await.unwrap() {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        text
    };
    timeout(Duration::from_secs(8), all)
        .await
        .expect("the connection goes on")
}

redkit_testkit::suite! {
    async fn a_browser_signs_in_rotates_ends_others_and_signs_out(fixture: Fixture) {
        let layer = SessionLayer::builder(&store(&fixture)).insecure_for_development();
        let site = serve(app_with(layer)).await;
        let (laptop, phone) = (Browser::new(&site), Browser::new(&site));
        assert_eq!(laptop.get("/shown").await, "None None");
        assert_eq!(laptop.post("/count").await, "1");
        for browser in [&laptop, &phone] {
            browser.post("/sign-in?user=user-7").await;
        }
        assert_eq!(laptop.post("/count").await, "2");
        laptop.post("/rotate").await;
        assert_eq!(laptop.get("/shown").await, "Some(\"user-7\") Some(2)");
        assert_eq!(laptop.get("/devices").await, "2");

        // A connection ends with its session.
        let (own, other) = (laptop.events().await, phone.events().await);
        laptop.post("/revoke-others").await;
        assert!(rest(other).await.contains("event: end"));
        assert_eq!(phone.get("/shown").await, "None None");
        assert_eq!(laptop.get("/devices").await, "1");
        assert_eq!(laptop.post("/sign-out").await, "true");
        assert!(rest(own).await.contains("data: Ended"));
        assert_eq!(laptop.get("/shown").await, "None None");
        assert_eq!(laptop.post("/sign-out").await, "false");
    }

    #[multi_thread]
    async fn requests_of_a_browser_at_once_keep_each_others_changes(fixture: Fixture) {
        let store = crate::patient_store(&fixture).await;
        let routes = Router::new()
            .route("/set/{name}", axum::routing::post(
                async |session: redkit_session::tower::CurrentSession, axum::extract::Path(name): axum::extract::Path<String>| {
                    session.insert(&name, &1).await
                },
            ));
        let layer = SessionLayer::builder(&store).insecure_for_development().build().unwrap();
        let site = serve(routes.layer(layer)).await;
        let browser = std::sync::Arc::new(Browser::new(&site));
        browser.post("/set/first").await;
        let mut requests = tokio::task::JoinSet::new();
        for number in 0..200 {
            let browser = std::sync::Arc::clone(&browser);
            requests.spawn(async move { browser.post(&format!("/set/entry-{number}")).await });
        }
        while let Some(request) = requests.join_next().await {
            request.unwrap();
        }
        assert_eq!(crate::round_trips::fields_of(&fixture).await.len(), 201);
    }
}

#[tokio::test]
async fn cookies_without_tls_are_warned_of_at_each_start() {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let backend = redkit_testkit::FaultyBackend::embedded();
    let store = crate::builder(&backend.client()).build().unwrap();
    // While there is but one subscriber, another thread may decide for all that nobody listens to a message.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let mut cookies = Vec::new();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..2 {
            cookies.push(SessionLayer::builder(&store).insecure_for_development());
            cookies.last().unwrap().clone().build().unwrap();
        }
        SessionLayer::builder(&store).build().unwrap();
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("for development only").count(), 2, "{text}");
    let answer = super::Visitor::default()
        .post(&app_with(cookies.remove(0)), "/count")
        .await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("id=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
}
