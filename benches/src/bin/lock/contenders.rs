//! The locks that are compared, behind one trait.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use distributed_lock_redis::{RedisLockHandle, RedisLockProvider};
use redkit_core::{Client, ClientConfig};
use redkit_lock::{Guard, LockManager};
use redkit_testkit::Server;

const TTL: Duration = Duration::from_secs(10);
/// Nobody gives up: what is measured is all calls.
const PATIENT: Duration = Duration::from_secs(120);
/// `distributed-lock` does not wait for a lock on one server that is taken, so its callers try again by themselves.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// A crate's locks.
pub(crate) trait Locks: Clone + Send + Sync + 'static {
    /// A lock that is held.
    type Held: Send;

    /// Waits for the lock for as long as it takes.
    fn acquire(&self, key: &str) -> impl Future<Output = Self::Held> + Send;

    /// Gives the lock back, and waits until that is done.
    fn release(&self, held: Self::Held) -> impl Future<Output = ()> + Send;
}

#[derive(Clone)]
pub(crate) struct Redkit(pub(crate) LockManager);

impl Redkit {
    /// With a connection of its own.
    pub(crate) async fn connect(server: &Server, is_fair: bool) -> Self {
        let config = ClientConfig::from_url(&server.url()).unwrap();
        let client = Client::connect(config).await.unwrap();
        // All managers of a name have one mode.
        let name = if is_fair { "fair" } else { "bench" };
        let locks = LockManager::builder(&client, name).ttl(TTL).fair(is_fair);
        Self(locks.build().unwrap())
    }
}

impl Locks for Redkit {
    type Held = Guard;

    async fn acquire(&self, key: &str) -> Guard {
        self.0.acquire(key, PATIENT).await.unwrap()
    }

    async fn release(&self, held: Guard) {
        assert!(held.release().await.unwrap());
    }
}

#[derive(Clone)]
pub(crate) struct Rslock(rslock::LockManager);

impl Rslock {
    pub(crate) fn new(server: &Server) -> Self {
        Self(rslock::LockManager::new(vec![server.url()]))
    }
}

impl Locks for Rslock {
    type Held = rslock::Lock;

    async fn acquire(&self, key: &str) -> rslock::Lock {
        self.0.acquire_no_guard(key, TTL).await.unwrap()
    }

    async fn release(&self, held: rslock::Lock) {
        self.0.unlock(&held).await;
    }
}

#[derive(Clone)]
pub(crate) struct Distributed(Arc<RedisLockProvider>);

impl Distributed {
    pub(crate) async fn connect(server: &Server) -> Self {
        let provider = RedisLockProvider::builder().url(server.url()).expiry(TTL);
        // Nine tenths, as by default. It has to be below the expiry: what is left between is its timeout of an
        // acquisition, and one that it gives up at once leaves the lock taken until it expires.
        let provider = provider.min_validity(TTL * 9 / 10);
        Self(Arc::new(provider.build().await.unwrap()))
    }
}

impl Locks for Distributed {
    type Held = RedisLockHandle;

    async fn acquire(&self, key: &str) -> RedisLockHandle {
        let lock = self.0.create_lock(key);
        loop {
            if let Some(held) = lock.try_acquire().await.unwrap() {
                return held;
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    async fn release(&self, held: RedisLockHandle) {
        held.release().await.unwrap();
    }
}
