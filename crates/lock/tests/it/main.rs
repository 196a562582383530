//! Locks and what stands on them, on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod basics;
mod elections;
mod fences;
mod fleet;
#[cfg(feature = "tower")]
mod idempotency_layer;
mod idempotent;
mod latches;
mod loss;
mod many;
mod memory;
mod peers;
mod processes;
mod readers_and_writers;
mod redlock;
mod replicas;
mod runs;
mod semaphore_faults;
mod semaphores;
mod server_calls;
mod several;
mod waiting;

use std::time::Duration;

use redkit_core::{Client, Command};
use redkit_lock::{LockManager, LockManagerBuilder};
use redkit_testkit::Fixture;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Longer than anything here is to take.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn builder(client: &Client) -> LockManagerBuilder {
    LockManager::builder(client, "jobs")
}

pub(crate) fn manager(client: &Client) -> LockManager {
    builder(client).build().unwrap()
}

/// A manager of another process, as far as the data are concerned.
pub(crate) async fn another(fixture: &Fixture) -> LockManager {
    let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
    manager(&client)
}

/// The full name of a lock's key, with a role or without.
pub(crate) fn key_of(client: &Client, key: &str, role: &str) -> redkit_core::Key {
    client.key(format!("lock:jobs:{{{key}}}{role}"))
}

pub(crate) async fn exists(client: &Client, key: redkit_core::Key) -> bool {
    client.call(Command::new("EXISTS").key(&key)).await.unwrap()
}

/// Waits until it holds, for ten seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
