//! Queues as core's [`Inspect`]: what monitoring and the command line see of them, and can do.

use async_trait::async_trait;
use bytes::Bytes;
use redkit_core::Inspect;
use redkit_core::inspection::{Action, InspectError, Snapshot};

use super::queue::Queue;

const ACTIONS: &[Action] = &[Action {
    name: "redrive",
    argument: "the key of a dead letter; nothing for all of them",
    description: "Puts dead letters back into the queue, unless their keys were written since.",
    is_destructive: false,
}];

#[async_trait]
impl Inspect for Queue {
    fn kind(&self) -> &'static str {
        "write_behind"
    }

    fn name(&self) -> String {
        self.name.clone().into()
    }

    /// Pending changes and dead letters are counted as the workers of this process saw them last; a
    /// process without a worker knows of neither.
    fn snapshot(&self) -> Snapshot {
        let stats = self.metrics.last_seen();
        Snapshot::default()
            .fact("pending", stats.pending)
            .fact("oldest", stats.oldest)
            .fact("dead_letters", stats.dead_letters)
            .fact("accepted", stats.accepted)
            .fact("coalesced", stats.coalesced)
            .fact("refused", stats.refused)
            .fact("written", stats.written)
            .fact("retries", stats.retries)
            .fact("given_up", stats.given_up)
            .fact("leases_lost", stats.leases_lost)
            .fact("partitions", u64::from(self.settings.partitions))
    }

    fn actions(&self) -> &'static [Action] {
        ACTIONS
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        if action != "redrive" {
            return Err(InspectError::UnknownAction {
                kind: self.kind(),
                action: action.into(),
            });
        }
        let redriven = match argument {
            "" => self.redrive_all().await?,
            key => self.redrive(Bytes::copy_from_slice(key.as_bytes())).await?,
        };
        Ok(format!(
            "{} put back, {} written since, {} not there",
            redriven.redriven, redriven.superseded, redriven.missing
        ))
    }
}
