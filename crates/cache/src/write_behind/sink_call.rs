//! One call of the sink, in a task of its own: bounded, under a lease, and whatever it does, an
//! outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::lease::PartitionLease;
use super::sink::{Change, Sink, Verdict};
use super::sink_error::SinkError;

/// How a call of the sink has ended.
pub(super) enum Outcome {
    /// A verdict for each change.
    Verdicts(Vec<Verdict>),
    /// Nothing is known of any of them.
    Failed(SinkError),
    /// The lease was over before, and the call was not started.
    NotStarted,
    /// The lease was lost, and the call was dropped: nobody knows what it has done.
    LeaseLost,
}

pub(super) async fn call<V, S>(
    sink: &Arc<S>,
    batch: Vec<Change<V>>,
    limit: Duration,
    lease: &PartitionLease,
) -> Outcome
where
    V: Send + 'static,
    S: Sink<V>,
{
    if !lease.stands() {
        return Outcome::NotStarted;
    }
    let count = batch.len();
    // Dropping the set ends the task.
    let mut task = JoinSet::new();
    let sink = Arc::clone(sink);
    task.spawn(async move { sink.write(batch).await });
    let result = tokio::select! {
        biased;
        result = task.join_next() => result,
        () = tokio::time::sleep(limit) => {
            return Outcome::Failed(SinkError::new(format_args!("no answer within {limit:?} (`sink_timeout`)")));
        }
        () = lease.lost() => return Outcome::LeaseLost,
    };
    match result {
        Some(Ok(Ok(verdicts))) if verdicts.len() == count => Outcome::Verdicts(verdicts),
        Some(Ok(Ok(verdicts))) => Outcome::Failed(SinkError::new(format_args!(
            "the sink gave {} verdicts on {count} changes",
            verdicts.len()
        ))),
        Some(Ok(Err(error))) => Outcome::Failed(error),
        Some(Err(_)) | None => Outcome::Failed(SinkError::new("the sink panicked")),
    }
}
