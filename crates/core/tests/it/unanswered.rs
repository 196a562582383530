//! What is sent again when no answer came: reads, and nothing that a newer value would suffer from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, Error,
    Expiry, Fault, FaultKind, Interest, PushStream, Topology, Value,
};
use tokio::sync::watch;

/// Takes everything and answers nothing.
#[derive(Default)]
struct Mute {
    sent: AtomicU32,
}

impl Mute {
    fn lost(&self) -> CallError {
        self.sent.fetch_add(1, Ordering::Relaxed);
        Fault::new(FaultKind::Disconnected, "the connection broke").maybe()
    }
}

#[async_trait]
impl Backend for Mute {
    async fn call(&self, _: &Command) -> Result<Value, CallError> {
        Err(self.lost())
    }

    async fn pipeline(&self, _: &[Command]) -> Result<Vec<Result<Value, CallError>>, CallError> {
        Err(self.lost())
    }

    async fn subscribe(&self, _: Interest) -> Result<PushStream, CallError> {
        Err(self.lost())
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Err(self.lost())
    }

    fn topology(&self) -> Topology {
        Topology::Standalone
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::UNKNOWN
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        watch::Sender::new(ConnectionState::Connected(1)).subscribe()
    }

    async fn shutdown(&self) {}
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_value_would_suffer_from_is_sent_once() {
    const MINUTE: Duration = Duration::from_secs(60);
    let backend = Arc::new(Mute::default());
    let shared: Arc<dyn Backend> = Arc::clone(&backend) as _;
    let client = Client::from_backend(shared, &ClientConfig::default()).unwrap();
    let sent = |outcome: Result<(), Error>, name: &str| {
        assert!(outcome.is_err_and(|error| error.is_maybe()), "{name}");
        backend.sent.swap(0, Ordering::Relaxed)
    };
    let outcome = client.exists("k").await.map(drop);
    assert!(sent(outcome, "EXISTS") > 1, "reads are repeated");
    let outcome = client.touch("k").await.map(drop);
    assert!(sent(outcome, "TOUCH") > 1, "it changes nothing");

    let outcome = client.expire("k", MINUTE).await.map(drop);
    assert_eq!(sent(outcome, "expire"), 1);
    let outcome = client.get_persist::<i32>("k").await.map(drop);
    assert_eq!(sent(outcome, "get_persist"), 1);
    let outcome = client.get_expire::<i32>("k", Expiry::In(MINUTE)).await;
    assert_eq!(sent(outcome.map(drop), "get_expire"), 1);
    let outcome = client.persist("k").await.map(drop);
    assert_eq!(sent(outcome, "persist"), 1);
    let outcome = client.get_delete::<i32>("k").await.map(drop);
    assert_eq!(sent(outcome, "get_delete"), 1);
    let outcome = client.set("k", &1).await.map(drop);
    assert_eq!(sent(outcome, "set"), 1);
}
