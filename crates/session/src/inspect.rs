//! What a program sees of its store, and can do to it: see [`Inspect`].

use async_trait::async_trait;
use redkit_core::inspection::{Action, Inspect, InspectError, Snapshot};

use crate::error::Error;
use crate::store::Inner;

#[async_trait]
impl Inspect for Inner {
    fn kind(&self) -> &'static str {
        "sessions"
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn snapshot(&self) -> Snapshot {
        let metrics = &self.metrics;
        Snapshot::default()
            .fact("idle_timeout", self.settings.lifetime.idle)
            .fact("absolute_timeout", self.settings.lifetime.absolute)
            .fact("found", metrics.found.get())
            .fact("malformed", metrics.malformed.get())
            .fact("absent", metrics.absent.get())
            .fact("past_deadline", metrics.past_deadline.get())
            .fact("revoked", metrics.revoked.get())
            .fact("committed", metrics.committed.get())
            .fact("gone", metrics.gone.get())
            .fact("rotated", metrics.rotated.get())
            .fact("left", metrics.left.get())
    }

    fn actions(&self) -> &'static [Action] {
        &[Action {
            name: "revoke_all",
            argument: "the user's name, as it was signed in",
            description: "Ends all sessions of a user.",
            is_destructive: true,
        }]
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        if action != "revoke_all" {
            return Err(InspectError::UnknownAction {
                kind: self.kind(),
                action: action.into(),
            });
        }
        match self.revoke_all(argument).await {
            Ok(()) => Ok("all sessions of the user have ended".to_owned()),
            Err(Error::Core(error)) => Err(error.into()),
            Err(error @ Error::EmptyUser) => Err(InspectError::Argument(error.to_string().into())),
            Err(error) => Err(InspectError::Failed(error.to_string().into())),
        }
    }
}
