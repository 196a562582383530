//! [`Admission`]: how much work is begun, in all processes together, for crates that begin work and
//! know no limiter.

use std::any::Any;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Error;

/// Decides when a piece of work may begin: by a rate, by how much runs at the same time, or both, in all
/// processes together. Rate limiters implement it; consumers of topics and other workers take it.
///
/// ```
/// use std::time::Duration;
/// use redkit_core::{Admission, Admitted, Error};
///
/// async fn consume(admission: &dyn Admission) -> Result<(), Error> {
///     match admission.admit(b"emails", Duration::from_secs(5)).await? {
///         Admitted::Now(permit) => {
///             // work, and then
///             drop(permit);
///         }
///         Admitted::Later(retry_after) => tokio::time::sleep(retry_after).await,
///     }
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot admit work",
    label = "not a limit",
    note = "`RateLimiter` and `ConcurrencyLimiter` of `redkit-ratelimit` are ones; give them in an `Arc`"
)]
#[async_trait]
pub trait Admission: Send + Sync {
    /// Asks to begin one piece of work for `key`, and waits for `max_wait` at most. When the future is
    /// dropped nothing is taken.
    ///
    /// # Errors
    /// [`Error`] when nobody can decide. What happens without a decision is the implementor's setting;
    /// an error means that the work must not begin.
    async fn admit(&self, key: &[u8], max_wait: Duration) -> Result<Admitted, Error>;
}

/// The answer of an [`Admission`].
#[derive(Debug)]
pub enum Admitted {
    /// The work may begin. Keep the permit until it has ended.
    Now(AdmissionPermit),
    /// It may not begin within `max_wait`; asking makes sense again after this time.
    Later(Duration),
}

/// Held while the admitted work runs; whatever it stands for is given back when it is dropped.
pub struct AdmissionPermit {
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl AdmissionPermit {
    /// A permit that holds nothing, of a limit on the rate alone.
    pub fn free() -> Self {
        Self { _held: None }
    }

    /// A permit that holds something until it is dropped.
    pub fn holding(guard: impl Any + Send + Sync) -> Self {
        Self {
            _held: Some(Box::new(guard)),
        }
    }
}

impl std::fmt::Debug for AdmissionPermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdmissionPermit").finish_non_exhaustive()
    }
}
