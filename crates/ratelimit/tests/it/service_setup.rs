//! Mistakes in how a service was put together are the programmer's, and not the client's.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use parking_lot::Mutex;
use redkit_ratelimit::tower::{ByHeader, ClientAddress, OnMissingKey, RateLimitLayer};
use redkit_ratelimit::{Policy, Quota};
use tokio::net::TcpListener;

use crate::http::{ask, engine, hello, limiter};

/// As the first page of axum's documentation has it: without the peers' addresses.
async fn serve_plainly(layer: RateLimitLayer) -> SocketAddr {
    let app = Router::new().route("/", get(hello)).layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// Keeps the messages of errors.
#[derive(Clone, Default)]
struct ErrorLog(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for ErrorLog {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message<'m>(&'m mut Vec<String>);
        impl tracing::field::Visit for Message<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0.push(format!("{value:?}"));
                }
            }
        }
        event.record(&mut Message(&mut self.0.lock()));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_server_that_hides_its_peers_is_told_what_to_change() {
    // While there is but one subscriber, another thread may decide for all that nobody listens to a message.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let log = ErrorLog::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    let client = engine();
    let api = limiter(&client, "api", Policy::gcra(Quota::per_minute(100)));
    let layer = RateLimitLayer::new(&api, ClientAddress::new());

    let address = serve_plainly(layer.clone()).await;
    for _ in 0..5 {
        let answer = ask(address, "/", &[]).await;
        assert_eq!(answer.status, 500, "{answer:?}");
        assert!(!answer.body.contains("request does not say"), "{answer:?}");
    }
    let messages = std::mem::take(&mut *log.0.lock());
    assert_eq!(messages.len(), 3, "of requests 1, 2 and 4: {messages:?}");
    for message in messages {
        let names_the_remedy = message.contains("into_make_service_with_connect_info");
        assert!(names_the_remedy, "{message}");
    }
    let headers = [("content-type", "application/grpc")];
    let over_grpc = ask(address, "/", &headers).await;
    assert_eq!(over_grpc.header("grpc-status"), "13", "INTERNAL");

    // Whoever asks for it lets the requests through, and is still told.
    let lenient = layer.on_missing_key(OnMissingKey::Allow);
    let address = serve_plainly(lenient).await;
    for _ in 0..3 {
        assert_eq!(ask(address, "/", &[]).await.status, 200);
    }
    assert!(!log.0.lock().is_empty());

    let nowhere = ClientAddress::new().peer_from(|_| None);
    let address = serve_plainly(RateLimitLayer::new(&api, nowhere)).await;
    assert_eq!(ask(address, "/", &[]).await.status, 500);
    assert!(log.0.lock().iter().any(|m| m.contains("peer_from")));

    // A header that a client leaves out is still the client's fault.
    log.0.lock().clear();
    let by_header = ByHeader::new(::http::HeaderName::from_static("x-api-key"));
    let address = serve_plainly(RateLimitLayer::new(&api, by_header)).await;
    assert_eq!(ask(address, "/", &[]).await.status, 400);
    assert_eq!(*log.0.lock(), Vec::<String>::new());
}
