//! [`Execution`]: work under way, and the lease that lets no other call begin it.

use std::sync::Arc;

use redkit_core::Key;
use redkit_core::coordination::{Lease, LeaseConfig, Release, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::scripts::{self, Begin, Renewal};
use super::{Fingerprint, Shared};
use crate::error::Error;

/// What a call finds.
pub(super) enum Begun<T> {
    /// It is to do the work.
    Execution(Execution),
    /// The work was done, with this result.
    Ended(T),
}

/// Work under way. When it is dropped the key is free for the next call.
pub(super) struct Execution {
    shared: Arc<Shared>,
    key: Key,
    token: Token,
    lease: Lease,
    /// What is left to be done for the key when this is dropped.
    farewell: Farewell,
}

#[derive(PartialEq, Eq)]
enum Farewell {
    Forget,
    Nothing,
}

/// # Errors
/// [`Error::InFlight`], [`Error::OtherFingerprint`], [`Error::NotKept`], [`Error::Lost`], [`Error::Core`].
pub(super) async fn begin<T: DeserializeOwned>(
    shared: &Arc<Shared>,
    key: Key,
    fingerprint: &Fingerprint,
) -> Result<Begun<T>, Error> {
    let (metrics, token, sent) = (&shared.metrics, Token::random(), Instant::now());
    // A call that is dropped, or that knows nothing of its reply, may have begun.
    let mut undo = Undo {
        shared,
        key: &key,
        token,
        is_needed: true,
    };
    let wire = shared.wire();
    let begun = scripts::begin(&wire, &key, token, &fingerprint.0, shared.lease).await;
    undo.is_needed = match &begun {
        Ok(begun) => *begun == Begin::Begun,
        Err(error) => error.is_maybe(),
    };
    if let Ok(Begin::Begun) = begun {
        if let Err(error) = wire.confirm().await {
            metrics.failed.increment(1);
            let call = scripts::forget(&key, Some(token));
            undo.is_needed = shared.client.eval::<i64>(call).await.is_err();
            return Err(error);
        }
        undo.is_needed = false;
    }
    drop(undo);
    match begun.inspect_err(|_| metrics.failed.increment(1))? {
        Begin::Begun => {}
        Begin::InFlight => {
            metrics.in_flight.increment(1);
            let retry_after = shared.retry_after;
            return Err(Error::InFlight { retry_after });
        }
        Begin::OtherFingerprint => {
            metrics.other_fingerprint.increment(1);
            return Err(Error::OtherFingerprint);
        }
        Begin::Ended(result) => {
            metrics.replayed.increment(1);
            let value = shared.client.codec().decode(key.as_bytes(), result)?;
            return Ok(Begun::Ended(value));
        }
        Begin::NotKept => {
            metrics.replayed.increment(1);
            return Err(Error::NotKept);
        }
    }
    metrics.begins();
    let config = LeaseConfig::new(shared.lease)
        .hold_at_most(shared.run_at_most)
        .counted_by(Arc::clone(&metrics.lost));
    let renewal = Renewal::new(&key, token);
    let execution = Execution {
        lease: shared.client.lease(renewal, config, sent),
        shared: Arc::clone(shared),
        key,
        token,
        farewell: Farewell::Forget,
    };
    // The answer may have taken longer than the lease: another call may have begun the work.
    match execution.lease.is_lost() {
        true => Err(Error::Lost),
        false => Ok(Begun::Execution(execution)),
    }
}

impl Execution {
    /// Waits until the lease is lost: then another call may begin the work.
    pub(super) async fn lost(&self) {
        self.lease.lost().await;
    }

    /// How large a result may be.
    #[cfg(feature = "tower")]
    pub(super) fn max_result_bytes(&self) -> usize {
        self.shared.max_result_bytes
    }

    /// Keeps the result. Gives whether the server keeps it; of one that is too large or cannot be encoded it
    /// keeps that the work was done.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease was lost: nothing is kept.
    pub(super) async fn finish<T: Serialize>(mut self, value: &T) -> Result<bool, Error> {
        let shared = Arc::clone(&self.shared);
        let name = &shared.name;
        let result = match shared.client.codec().encode(self.key.as_bytes(), value) {
            Ok(encoded) if encoded.len() <= shared.max_result_bytes => Some(encoded),
            Ok(_) => {
                tracing::warn!(target: "redkit::lock", execution = name, "a result is over `max_result_bytes`, or over the client's `max_value_bytes`, and not kept");
                None
            }
            Err(error) => {
                tracing::error!(target: "redkit::lock", execution = name, %error, "a result cannot be encoded, and is not kept");
                None
            }
        };
        if result.is_none() {
            shared.metrics.not_stored.add_one();
        }
        self.finish_with(result).await
    }

    /// Keeps that the work was done, and not its result.
    #[cfg(feature = "tower")]
    pub(super) async fn finish_without_result(mut self) -> Result<bool, Error> {
        self.shared.metrics.not_stored.add_one();
        self.finish_with(None).await
    }

    /// Lets the next call begin anew. Gives `false`: nothing is kept.
    pub(super) async fn forget(mut self) -> bool {
        self.lease.end();
        let call = scripts::forget(&self.key, Some(self.token));
        if self.shared.client.eval::<i64>(call).await.is_ok() {
            self.farewell = Farewell::Nothing;
        }
        false
    }

    async fn finish_with(&mut self, result: Option<bytes::Bytes>) -> Result<bool, Error> {
        let (shared, is_result) = (Arc::clone(&self.shared), result.is_some());
        let until = self.lease.valid_until();
        // The server decides as well: by the token, and by its own clock.
        if !self.lease.end() {
            return Err(Error::Lost);
        }
        self.farewell = Farewell::Nothing;
        let call = scripts::finish(&self.key, self.token, self.shared.keep_for, result);
        // Also when this is dropped before the answer: the work is done.
        let mut again = Again {
            execution: self,
            release: Some(Release::new([call.clone()]).patiently_until(until)),
        };
        let wire = shared.wire();
        match scripts::finished(wire.eval(call).await) {
            Ok(true) => {
                again.release = None;
                let Err(error) = wire.confirm().await else {
                    return Ok(is_result);
                };
                tracing::warn!(target: "redkit::lock", execution = shared.name, %error, "a result is kept, and not confirmed");
                shared.metrics.not_stored.add_one();
                Ok(false)
            }
            Ok(false) => {
                again.release = None;
                Err(Error::Lost)
            }
            Err(error) => {
                tracing::warn!(target: "redkit::lock", execution = shared.name, %error, "cannot keep a result; trying again in the background");
                shared.metrics.not_stored.add_one();
                Ok(false)
            }
        }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.shared.metrics.ends();
        let until = self.lease.valid_until();
        self.lease.end();
        if self.farewell == Farewell::Forget {
            let call = scripts::forget(&self.key, Some(self.token));
            let release = Release::new([call]).patiently_until(until);
            self.shared.client.release_later(release);
        }
    }
}

/// A result that the server does not have yet, sent in the background when this is dropped.
struct Again<'a> {
    execution: &'a Execution,
    release: Option<Release>,
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            self.execution.shared.client.release_later(release);
        }
    }
}

/// Frees the key of a call that may have begun.
struct Undo<'a> {
    shared: &'a Shared,
    key: &'a Key,
    token: Token,
    is_needed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.is_needed {
            let call = scripts::forget(self.key, Some(self.token));
            let until = Instant::now() + self.shared.lease;
            self.shared
                .client
                .release_later(Release::new([call]).patiently_until(until));
        }
    }
}
