//! [`IdempotentExecution`]: work that is done once for a key, however often it is asked for.

mod builder;
mod execution;
mod metrics;
mod scripts;
#[cfg(feature = "tower")]
pub mod tower;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::inspection::{Inspect, Snapshot};
use redkit_core::{Client, ConfigError, Keyspace, ToArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

pub use self::builder::IdempotentExecutionBuilder;
use self::execution::Begun;
use self::metrics::Metrics;
use crate::confirmation::{Confirmation, Connections, Wire};
use crate::error::Error;

/// Does work once for a key, however often it is asked for: one execution is in flight for a key, in all
/// processes, and its result is kept and given to the calls that come later. It is cheap to clone.
///
/// - A key belongs to a **scope**: the caller who chose it, such as the id of an account. Keys of different
///   scopes are different.
/// - The **fingerprint** says what is asked for: the request's content, or a hash of it. A key that comes
///   again with another fingerprint is a mistake of the caller, [`Error::OtherFingerprint`].
/// - While an execution is in flight, others with its key get [`Error::InFlight`]. The execution has a
///   lease on the server's clock, renewed by the client's one task; when it is lost the work is
///   dropped, and its result is not kept, whatever comes of it.
/// - A process that dies in the middle leaves the key to the next call after the
///   [lease](IdempotentExecutionBuilder::lease): **the work is then begun a second time.** Make it so that its
///   own steps bear this (a transaction, a fence, a key of its own at the payment service).
/// - All of it holds **while the server keeps its data**. A failover that loses the record of a key (replication is
///   asynchronous), an eviction (`maxmemory-policy` is to be `noeviction`) and a restart without data make the key a new
///   one: the work is then begun a second time as well. Where that is dear, have
///   [replicas confirm](IdempotentExecutionBuilder::confirmed_by_replicas) that they have it, which makes it less likely.
///
/// ```
/// # use std::sync::Arc;
/// use redkit_lock::{IdempotentError, IdempotentExecution};
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
/// # async fn pay(cents: u32) -> Result<String, std::io::Error> { Ok(format!("paid {cents}")) }
/// let payments = IdempotentExecution::builder(&client, "payments").build()?;
///
/// let first = payments.run("alice", "order-7", "9900", pay(9900)).await?;
/// let again = payments.run("alice", "order-7", "9900", pay(9900)).await?;
/// assert!(!first.is_replayed && again.is_replayed);
/// assert_eq!(first.value, again.value);
///
/// let other = payments.run("alice", "order-7", "1", pay(1)).await;
/// assert!(matches!(other, Err(IdempotentError::NotExecuted(redkit_lock::Error::OtherFingerprint))));
/// # Ok(()) }
/// ```
///
/// While Redis is down nothing is begun: calls fail with [`Error::Core`]. Work that is under way goes on until
/// its local deadline.
#[derive(Clone)]
pub struct IdempotentExecution {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    name: String,
    keyspace: Keyspace,
    lease: Duration,
    run_at_most: Duration,
    keep_for: Duration,
    max_result_bytes: usize,
    retry_after: Duration,
    confirmation: Option<Confirmation>,
    connections: Connections,
    metrics: Metrics,
}

impl Shared {
    fn wire(&self) -> Wire<'_> {
        Wire::new(&self.client, self.confirmation.as_ref(), &self.connections)
    }
}

/// What [`IdempotentExecution::run`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executed<T> {
    /// The work's result.
    pub value: T,
    /// Whether it is that of an earlier call.
    pub is_replayed: bool,
    /// Whether the server keeps it for later calls. It does not where the caller said so, where it is over
    /// [`max_result_bytes`](IdempotentExecutionBuilder::max_result_bytes) or cannot be encoded (later calls get
    /// [`Error::NotKept`]), and where the server did not answer: then it is told in the background for what is left of the
    /// lease (two thirds of it at least, when its renewals came through; a day at most), and if that fails as well the next
    /// call begins anew. Where it is [to be confirmed](IdempotentExecutionBuilder::confirmed_by_replicas) and was not in
    /// time, it is not said to be kept either, and is found all the same unless a failover loses it. With 8,192 releases of the client before it, it is told for a minute.
    pub is_kept: bool,
}

/// Why [`IdempotentExecution::run`] has no result.
#[derive(Debug, thiserror::Error)]
pub enum IdempotentError<E> {
    /// There is no result: the work was not begun, or its lease was lost ([`Error::Lost`]). Then the work was
    /// dropped, or was done to its end and is not kept; the next call begins it anew in either case.
    #[error(transparent)]
    NotExecuted(#[from] Error),
    /// The work's own error. It is not kept: the next call begins anew. While the server cannot be told,
    /// the key stays in flight for the rest of its lease.
    #[error("{0}")]
    Work(E),
}

impl IdempotentExecution {
    /// Starts executions named `name`, which stands in their keys and metrics.
    pub fn builder(client: &Client, name: &str) -> IdempotentExecutionBuilder {
        IdempotentExecutionBuilder::new(client, name)
    }

    /// Does the work, or gives the result of the call that did it. The work is not polled before it may
    /// begin. An error of the work is not kept, so that the next call begins anew; to keep one, let the work
    /// give it as a value.
    ///
    /// When this future is dropped while the work runs, the work is dropped with it, and the next call begins
    /// anew. Two round trips; one for a result that is kept already.
    ///
    /// # Errors
    /// [`IdempotentError::NotExecuted`] with [`Error::InFlight`], [`Error::OtherFingerprint`],
    /// [`Error::NotKept`], [`Error::EmptyKey`] (of the key or the scope), [`Error::Lost`],
    /// [`Error::NotConfirmed`] (the work was not begun), or [`Error::Core`]
    /// (also for a key or a scope over 255 bytes); [`IdempotentError::Work`].
    pub async fn run<T, E, F>(
        &self,
        scope: impl ToArg,
        key: impl ToArg,
        fingerprint: impl ToArg,
        work: F,
    ) -> Result<Executed<T>, IdempotentError<E>>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, E>>,
    {
        self.run_keeping(scope, key, fingerprint, work, |_| true)
            .await
    }

    /// The same, where `is_kept` decides for each result whether it is kept: for results that say that the
    /// work failed, and should be done by the next call.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_keeping<T, E, F>(
        &self,
        scope: impl ToArg,
        key: impl ToArg,
        fingerprint: impl ToArg,
        work: F,
        is_kept: impl FnOnce(&T) -> bool,
    ) -> Result<Executed<T>, IdempotentError<E>>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, E>>,
    {
        let digest = Fingerprint::of([fingerprint.to_bytes().as_ref()]);
        let execution = match self.begin(scope, key, &digest).await? {
            Begun::Ended(value) => {
                return Ok(Executed {
                    value,
                    is_replayed: true,
                    is_kept: true,
                });
            }
            Begun::Execution(execution) => execution,
        };
        let done = tokio::select! {
            biased;
            // First: a process that was stopped for long does no further step when it goes on.
            () = execution.lost() => return Err(Error::Lost.into()),
            done = work => done,
        };
        let value = match done {
            Ok(value) => value,
            Err(error) => {
                execution.forget().await;
                return Err(IdempotentError::Work(error));
            }
        };
        let is_kept = match is_kept(&value) {
            true => execution.finish(&value).await?,
            false => execution.forget().await,
        };
        Ok(Executed {
            value,
            is_replayed: false,
            is_kept,
        })
    }

    /// Forgets what is known of a key, so that the next call begins anew: for an operator. An execution
    /// that is in flight loses its lease. Gives whether there was anything.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::Core`] when the server could not be told.
    pub async fn forget(&self, scope: impl ToArg, key: impl ToArg) -> Result<bool, Error> {
        let key = self.key(scope, key)?;
        // Not idempotent: arriving late it would forget the next.
        let call = scripts::forget(&key, None).idempotent(false);
        let forgotten: i64 = self.shared.client.eval(call).await?;
        Ok(forgotten == 1)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// # Errors
    /// As [`run`](Self::run).
    async fn begin<T: DeserializeOwned>(
        &self,
        scope: impl ToArg,
        key: impl ToArg,
        fingerprint: &Fingerprint,
    ) -> Result<Begun<T>, Error> {
        let key = self.key(scope, key)?;
        execution::begin(&self.shared, key, fingerprint).await
    }

    /// Both in one: `<length of the scope>:<scope>:<key>`, so that no two pairs share it.
    fn key(&self, scope: impl ToArg, key: impl ToArg) -> Result<redkit_core::Key, Error> {
        let (scope, key) = (
            checked("scope", scope.to_bytes())?,
            checked("key", key.to_bytes())?,
        );
        let mut both = format!("{}:", scope.len()).into_bytes();
        both.extend_from_slice(&scope);
        both.push(b':');
        both.extend_from_slice(&key);
        Ok(self.shared.keyspace.key(both))
    }
}

/// What is asked for, as a hash.
struct Fingerprint(String);

impl Fingerprint {
    /// Of parts, each with its length before it, so that no two lists of parts are alike.
    fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The longest scope and key: what the draft of the header `Idempotency-Key` lets servers expect.
const LONGEST: usize = 255;

fn checked(what: &'static str, bytes: bytes::Bytes) -> Result<bytes::Bytes, Error> {
    if bytes.is_empty() {
        return Err(Error::EmptyKey);
    }
    if bytes.len() > LONGEST {
        let (problem, fix) = (
            "it is longer than 255 bytes",
            "give a short id, or a hash of it",
        );
        return Err(ConfigError::new(what, problem, fix).into());
    }
    Ok(bytes)
}

impl Inspect for Shared {
    fn kind(&self) -> &'static str {
        "idempotent"
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
            .fact("running", self.metrics.running())
            .fact("lost", self.metrics.lost.get())
            .fact("not_stored", self.metrics.not_stored.get())
    }
}

/// Without keys and scopes, which name people.
impl fmt::Debug for IdempotentExecution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotentExecution")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_parts_have_different_fingerprints() {
        let of = |parts: &[&str]| Fingerprint::of(parts.iter().map(|part| part.as_bytes())).0;
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert_ne!(of(&["ab", ""]), of(&["a", "b"]));
        assert_eq!(of(&[]).len(), 64);
    }
}
