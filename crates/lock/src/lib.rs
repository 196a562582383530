//! Distributed locks on Redis: fenced, renewed, woken on release, and certainly over at a deadline of the
//! process's own clock.
//!
//! ```
//! use std::time::Duration;
//! use redkit_lock::{Error, LockManager};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
//! # let client = redkit_core::Client::from_backend(backend, &Default::default())?;
//! let locks = LockManager::builder(&client, "orders").label("checkout").build()?;
//!
//! let guard = locks.acquire("order-7", Duration::from_secs(5)).await?;
//! match locks.try_acquire("order-7").await {
//!     Err(Error::Taken { holder: Some(holder) }) => println!("taken by {holder}"),
//!     other => panic!("{other:?}"),
//! }
//! drop(guard); // given back in the background
//!
//! // Work that is dropped when the lock is lost:
//! let total = locks.run("order-7", Duration::from_secs(5), |fence| async move {
//!     // … every write carries `fence` …
//!     42
//! });
//! assert_eq!(total.await?, 42);
//! # Ok(()) }
//! ```
//!
//! # What a lock is worth
//! A lock on one Redis keeps work from being done twice at the same time. It cannot be more than that, because a
//! process may be held up at any point, and a failover may lose the lock (replication is asynchronous): then two
//! processes believe that they hold it. What protects *data* is the [`Fence`]: a number that is greater for every
//! new holder, sent with every write, and compared by the storage.
//!
//! # When Redis is down
//! Locks cannot be taken: calls that wait outlive it while there is time, others fail. Locks that are held are
//! lost at their local deadline (`ttl` after the last renewal that succeeded was sent, less a hundredth for the
//! clocks), by this process's own clock.
//!
//! `docs/guarantees/lock.md` lists every promise with the test that fails when it is broken.

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod acquire;
mod builder;
mod confirmation;
mod election;
mod error;
mod fence;
mod guard;
mod held;
mod holder;
mod idempotent;
mod inspection;
mod keys;
mod latch;
mod line;
mod manager;
mod metrics;
mod read_write;
mod redlock;
mod register;
mod registry;
mod run;
mod scripts;
mod semaphore;
mod time;

pub use builder::LockManagerBuilder;
pub use election::{Election, LeaderObserver, Role, Term};
pub use error::Error;
pub use fence::Fence;
pub use guard::{Guard, SharedGuard};
pub use holder::Holder;
pub use idempotent::{Executed, IdempotentError, IdempotentExecution, IdempotentExecutionBuilder};
pub use latch::{CountDownLatch, LatchManager, LatchManagerBuilder};
pub use manager::LockManager;
pub use metrics::LockStats;
pub use read_write::{ReadGuard, ReadWriteLocks, ReadWriteState, WriteGuard};
pub use redlock::{NodeOutcome, Redlock, RedlockBuilder, RedlockGuard};
pub use register::{Fenced, FencedRegister};
pub use semaphore::{Permits, Semaphore, SemaphoreBuilder, SemaphoreState};

#[cfg(feature = "tower")]
pub use idempotent::tower;
