//! No client's clock takes part in any decision: nothing that is sent is a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, Interest,
    PushStream, Topology, Value,
};
use redkit_embedded::Embedded;
use redkit_ratelimit::{ConcurrencyLimiter, RateLimiter, Together};
use tokio::sync::watch;

use crate::model::policies;

/// Passes everything on, and keeps the arguments.
pub(crate) struct Recorder {
    inner: Embedded,
    pub(crate) seen: Mutex<Vec<Vec<u8>>>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            inner: Embedded::new(),
            seen: Mutex::default(),
        }
    }

    fn keep(&self, command: &Command) {
        self.seen.lock().extend(command.iter().map(<[u8]>::to_vec));
    }
}

#[async_trait]
impl Backend for Recorder {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        self.keep(command);
        self.inner.call(command).await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        commands.iter().for_each(|command| self.keep(command));
        self.inner.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.inner.subscribe(interest).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        self.inner.dedicated().await
    }

    fn topology(&self) -> Topology {
        self.inner.topology()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.state()
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

/// A client whose clock is off by an hour, in either direction, sends the same bytes as one whose
/// clock is right, because it sends no time at all.
#[tokio::test(start_paused = true)]
async fn nothing_that_is_sent_is_a_time() {
    let recorder = Arc::new(Recorder {
        inner: Embedded::new(),
        seen: Mutex::default(),
    });
    let client = Client::from_backend(recorder.clone(), &ClientConfig::default()).unwrap();
    let places = ConcurrencyLimiter::builder(&client, "places")
        .limit(100)
        .build()
        .unwrap();
    let permit = places.try_acquire("k").await.unwrap();
    for (n, policy) in policies(3, Duration::from_secs(60), 3)
        .into_iter()
        .enumerate()
    {
        let limiter = RateLimiter::builder(&client, &format!("l{n}"))
            .policy(policy)
            .build()
            .unwrap();
        for _ in 0..4 {
            drop(limiter.check("k").await.unwrap());
        }
        drop(limiter.acquire("k", Duration::from_secs(70)).await.unwrap());
        let joint = Together::new()
            .limit(&limiter, "j")
            .lease(&places, "j")
            .check()
            .await
            .unwrap();
        assert!(joint.decision.is_allowed());
        limiter.reset("k").await.unwrap();
    }
    drop(permit);
    tokio::time::sleep(Duration::from_secs(60)).await;

    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let seen = recorder.seen.lock();
    assert!(seen.len() > 200, "{}", seen.len());
    for argument in &*seen {
        let number = std::str::from_utf8(argument)
            .ok()
            .and_then(|text| text.parse::<f64>().ok());
        for unit in [1.0, 1e3, 1e6, 1e9] {
            let is_time = number.is_some_and(|number| (number / unit - now).abs() < 7.0 * 86_400.0);
            assert!(!is_time, "{}", String::from_utf8_lossy(argument));
        }
    }
}
