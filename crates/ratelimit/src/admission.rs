//! Limiters as core's [`Admission`]: for consumers and other workers that begin work and know no
//! limiter.

use std::time::Duration;

use async_trait::async_trait;
use redkit_core::{Admission, AdmissionPermit, Admitted, ConfigError};

use crate::concurrency::ConcurrencyLimiter;
use crate::error::Error;
use crate::limiter::RateLimiter;

/// How long a worker pauses at most before it asks for a place again: a lease that would still run for
/// half a minute is released long before that as a rule.
const MOST_PAUSE_FOR_PLACES: Duration = Duration::from_secs(1);

/// How long a worker pauses that found the queue of waiters full: until most of them have visited it
/// once more.
const PAUSE_WHEN_FULL: Duration = Duration::from_secs(1);

/// By a rate: one unit of the key, waited for in the queue of
/// [`acquire`](RateLimiter::acquire), first come, first served among all processes.
#[async_trait]
impl Admission for RateLimiter {
    async fn admit(&self, key: &[u8], max_wait: Duration) -> Result<Admitted, redkit_core::Error> {
        match self.acquire(key, max_wait).await {
            Ok(decision) if decision.is_allowed() => Ok(Admitted::Now(AdmissionPermit::free())),
            Ok(decision) => Ok(Admitted::Later(decision.retry_after())),
            Err(error) => not_admitted(error),
        }
    }
}

/// By how much runs at the same time: a place of the key, given back when the permit is dropped.
///
/// A permit of core says nothing of its loss. Where work must end when its place is lost, use
/// [`acquire`](ConcurrencyLimiter::acquire) and [`Permit::lost`](crate::Permit::lost).
#[async_trait]
impl Admission for ConcurrencyLimiter {
    async fn admit(&self, key: &[u8], max_wait: Duration) -> Result<Admitted, redkit_core::Error> {
        match self.acquire_or_decision(key, max_wait).await {
            Ok(Ok(permit)) => Ok(Admitted::Now(AdmissionPermit::holding(permit))),
            Ok(Err(denial)) => {
                let retry_after = denial.retry_after().min(MOST_PAUSE_FOR_PLACES);
                Ok(Admitted::Later(retry_after))
            }
            Err(error) => not_admitted(error),
        }
    }
}

/// A full queue is a reason to come again; everything else means that the work must not begin.
fn not_admitted(error: Error) -> Result<Admitted, redkit_core::Error> {
    match error {
        Error::QueueFull(_) => Ok(Admitted::Later(PAUSE_WHEN_FULL)),
        Error::Core(error) => Err(error),
        _ => Err(ConfigError::new(
            "key",
            "it is empty, and would stand for everybody whose key is unknown",
            "give the name of the work, its customer or its topic",
        )
        .into()),
    }
}
