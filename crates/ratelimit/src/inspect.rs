//! Limiters as core's [`Inspect`]: what monitoring and the command line see of them, and can do.

use std::time::Duration;

use async_trait::async_trait;
use redkit_core::Inspect;
use redkit_core::inspection::{Action, Fact, InspectError, Snapshot};

use crate::core::Inner;
use crate::decision::DecidedBy;
use crate::error::Error;
use crate::limit::{Limit, Owner};

const ACTIONS: &[Action] = &[Action {
    name: "reset",
    argument: "the key, as calls name it",
    description: "Gives the key all its units back.",
    is_destructive: true,
}];

#[async_trait]
impl Inspect for Inner {
    fn kind(&self) -> &'static str {
        "limiter"
    }

    fn name(&self) -> String {
        self.name.as_ref().to_owned()
    }

    fn snapshot(&self) -> Snapshot {
        let stats = self.metrics.read();
        let snapshot = Snapshot::default()
            .fact("decisions", stats.allowed + stats.denied)
            .fact("allowed", stats.allowed)
            .fact("denied", stats.denied)
            .fact("errors", self.metrics.errors())
            .fact("is_outage", self.outage.is_on());
        let by = DecidedBy::ALL.into_iter();
        let snapshot = by.fold(snapshot, |snapshot, by| {
            snapshot.fact(fact_of(by), self.metrics.decided_by(by))
        });
        let mut snapshot = match &self.places {
            Some(places) => snapshot
                .fact("held", places.held())
                .fact("lost", places.lost()),
            None => snapshot,
        };
        for limit in &self.limits {
            snapshot.push(facts_of(limit));
        }
        snapshot
    }

    fn actions(&self) -> &'static [Action] {
        // Places come back with their permits.
        if self.places.is_some() { &[] } else { ACTIONS }
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        match action {
            "reset" if self.places.is_none() => {
                let user = argument.as_bytes();
                self.reset(Owner { user, tag: None }).await?;
                Ok("the key has all its units again".to_owned())
            }
            _ => Err(InspectError::UnknownAction {
                kind: self.kind(),
                action: action.into(),
            }),
        }
    }
}

/// The name of the fact that counts the decisions of this kind.
fn fact_of(by: DecidedBy) -> &'static str {
    match by {
        DecidedBy::Redis => "by_redis",
        DecidedBy::DenyCache => "by_deny_cache",
        DecidedBy::Open => "by_open",
        DecidedBy::Closed => "by_closed",
        DecidedBy::Local => "by_local",
    }
}

fn facts_of(limit: &Limit) -> Vec<(&'static str, Fact)> {
    let (quota, window): (_, Duration) = (limit.quota, limit.quota.window());
    let algorithm = limit.role();
    let mut facts = vec![
        ("policy", Fact::from(&*limit.name)),
        ("algorithm", algorithm.into()),
        ("limit", quota.limit().into()),
        ("window", window.into()),
    ];
    if let Some(burst) = quota.burst_size() {
        facts.push(("burst", burst.into()));
    }
    facts
}

impl From<Error> for InspectError {
    fn from(error: Error) -> Self {
        match error {
            Error::Core(error) => InspectError::Core(error),
            Error::EmptyKey => InspectError::Argument("a key is expected: the one to reset".into()),
            other => InspectError::Failed(other.to_string().into()),
        }
    }
}
