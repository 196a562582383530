//! Distributed locks on Redis: fenced, renewed, woken on release, and certainly over at a deadline of the
//! process's own clock.

mod error;
mod fence;
mod idempotent;
mod keys;
mod latch;
mod redlock;
mod semaphore;
mod time;

pub use error::Error;
pub use fence::Fence;
pub use idempotent::{Executed, IdempotentError, IdempotentExecution, IdempotentExecutionBuilder};
pub use latch::{CountDownLatch, LatchManager, LatchManagerBuilder};
pub use redlock::{NodeOutcome, Redlock, RedlockBuilder, RedlockGuard};
pub use semaphore::{Permits, Semaphore, SemaphoreBuilder, SemaphoreState};

#[cfg(feature = "tower")]
pub use idempotent::tower;
