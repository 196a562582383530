//! An invalidation that overtakes a fill on its way to the server: the fill is refused.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redkit_cache::Cache;
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, Interest,
    PushStream, Topology, Value,
};
use redkit_embedded::Embedded;
use tokio::sync::{Notify, watch};

/// An engine on which every fill arrives late: when it is let through.
struct LateFills {
    engine: Embedded,
    held: Arc<Notify>,
    go: Arc<Notify>,
}

#[async_trait]
impl Backend for LateFills {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        self.engine.call(command).await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let is_fill = |command: &Command| command.iter().any(|arg| arg.starts_with(b"rk1 "));
        if commands.iter().any(is_fill) {
            self.held.notify_one();
            self.go.notified().await;
        }
        self.engine.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.engine.subscribe(interest).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.engine.dedicated().await
    }

    fn topology(&self) -> Topology {
        self.engine.topology()
    }

    fn capabilities(&self) -> Capabilities {
        self.engine.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.engine.state()
    }

    async fn shutdown(&self) {
        self.engine.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_arrives_after_an_invalidation_is_refused() {
    let (held, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let backend = LateFills {
        engine: Embedded::new(),
        held: Arc::clone(&held),
        go: Arc::clone(&go),
    };
    let client = Client::from_backend(Arc::new(backend), &ClientConfig::default()).unwrap();
    let numbers: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_secs(60))
        .build()
        .unwrap();

    let load = tokio::spawn({
        let numbers = numbers.clone();
        async move {
            numbers
                .get_or_load("k", || async { Ok::<_, std::io::Error>(1) })
                .await
        }
    });
    held.notified().await; // the fill has left, and is not there yet
    numbers.invalidate("k").await.unwrap();
    go.notify_one();
    assert_eq!(*load.await.unwrap().unwrap(), 1);
    let left = numbers.get("k").await.unwrap();
    assert!(left.is_none(), "it is as old as before the invalidation");
    assert_eq!(numbers.stats().fenced, 1);
}
