//! A budget ends a call earlier than the command timeout would, and says nothing about the server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redkit_core::breaker::BreakerState;
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, Fault,
    FaultKind, Interest, PushStream, Script, Topology, Value,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Answers nothing, until every command's deadline.
struct Silent;

#[async_trait]
impl Backend for Silent {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        sleep_until(command.deadline_at().unwrap()).await;
        Err(Fault::new(FaultKind::Timeout, "no reply").maybe())
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let last = commands.iter().filter_map(Command::deadline_at).max();
        sleep_until(last.unwrap()).await;
        Err(Fault::new(FaultKind::Timeout, "no reply").maybe())
    }

    async fn subscribe(&self, _: Interest) -> Result<PushStream, CallError> {
        Err(Fault::new(FaultKind::Unsupported, "no").not_sent())
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        Err(Fault::new(FaultKind::Unsupported, "no").not_sent())
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

static ONE: Script = Script::new("return 1");

#[tokio::test(start_paused = true)]
async fn a_budget_ends_calls_pipelines_and_scripts_and_does_not_count_against_the_server() {
    let client = Client::from_backend(Arc::new(Silent), &ClientConfig::default()).unwrap();
    let hasty = client.with_budget(Duration::from_millis(60)).unwrap();
    for _ in 0..30 {
        let start = Instant::now();
        let ping = Command::new("PING").idempotent(true);
        assert!(hasty.call::<Value>(ping.clone()).await.is_err());
        assert!(hasty.pipeline(vec![ping.clone(), ping]).await.is_err());
        assert!(hasty.eval::<Value>(ONE.invoke(["k"])).await.is_err());
        let took = start.elapsed();
        let (least, most) = (Duration::from_millis(180), Duration::from_millis(190));
        assert!((least..=most).contains(&took), "three calls took {took:?}");
    }
    let status = client.breaker().status();
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));

    // The handle that it was made from has the whole command timeout.
    let start = Instant::now();
    assert!(
        client
            .call::<Value>(Command::new("INCR").key("n"))
            .await
            .is_err()
    );
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(client.breaker().status().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_deadline_timeout_and_budget_ends_a_call() {
    let client = Client::from_backend(Arc::new(Silent), &ClientConfig::default()).unwrap();
    let took = async |budget: u64, own: Option<u64>| {
        let client = client.with_budget(Duration::from_millis(budget)).unwrap();
        let start = Instant::now();
        let mut command = Command::new("INCR").key("n");
        if let Some(own) = own {
            command = command.deadline(start + Duration::from_millis(own));
        }
        assert!(client.call::<Value>(command).await.is_err());
        start.elapsed().as_millis()
    };
    assert_eq!(took(100, Some(40)).await / 10, 4);
    assert_eq!(took(100, Some(4000)).await / 10, 10);
    assert_eq!(took(5000, None).await / 10, 100, "the command timeout");
    let error = client.with_budget(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("budget"), "{error}");
}
