//! What a program sees of its store, and can do to it: see [`Inspect`].

use std::time::SystemTime;

use async_trait::async_trait;
use redkit_core::inspection::{Action, Inspect, InspectError, Item, List, Page, Query, Snapshot};

use crate::error::Error;
use crate::store::{Inner, SessionHandle};

const ACTIONS: &[Action] = &[
    Action {
        name: "revoke_all",
        argument: "the user's name, as it was signed in",
        description: "Ends all sessions of a user.",
        is_destructive: true,
    },
    Action {
        name: "revoke",
        argument: "the session's handle, a space, and the user's name",
        description: "Ends one session of a user.",
        is_destructive: true,
    },
];

const LISTS: &[List] = &[List {
    name: "of_user",
    filter: "the user's name, as it was signed in",
    description: "The sessions of a user, the newest first: devices and times, and no id.",
}];

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
            .fact("given_up", metrics.given_up.get())
    }

    fn lists(&self) -> &'static [List] {
        LISTS
    }

    async fn list(&self, list: &str, query: &Query) -> Result<Page, InspectError> {
        if list != "of_user" {
            return Err(InspectError::UnknownList {
                kind: self.kind(),
                list: list.into(),
            });
        }
        let user = &query.filter;
        let sessions = self.sessions_of(user).await.map_err(failed)?;
        let now = SystemTime::now();
        let items = sessions.into_iter().take(Query::MOST).map(|session| {
            let since = |time: SystemTime| now.duration_since(time).unwrap_or_default();
            let until = |time: SystemTime| time.duration_since(now).unwrap_or_default();
            let handle = session.handle.as_str();
            Item::default()
                .fact("age", since(session.created_at))
                .fact("seen_before", since(session.last_seen))
                .fact("expires_in", until(session.expires_at))
                .fact("ends_in", until(session.ends_at))
                .payload("device", session.device)
                .action("revoke", format!("{handle} {user}"))
        });
        Ok(Page {
            items: items.collect(),
            next: None,
        })
    }

    fn actions(&self) -> &'static [Action] {
        ACTIONS
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        match action {
            "revoke_all" => {
                self.revoke_all(argument).await.map_err(failed)?;
                Ok("all sessions of the user have ended".to_owned())
            }
            "revoke" => {
                let Some((handle, user)) = argument.split_once(' ') else {
                    let expected = "give the session's handle, a space, and the user's name";
                    return Err(InspectError::Argument(expected.into()));
                };
                let handle = SessionHandle::from_text(handle);
                Ok(match self.revoke(user, &handle).await.map_err(failed)? {
                    true => "the session has ended".to_owned(),
                    false => "the user has no such session".to_owned(),
                })
            }
            _ => Err(InspectError::UnknownAction {
                kind: self.kind(),
                action: action.into(),
            }),
        }
    }
}

fn failed(error: Error) -> InspectError {
    match error {
        Error::Core(error) => error.into(),
        error @ Error::EmptyUser => InspectError::Argument(error.to_string().into()),
        error => InspectError::Failed(error.to_string().into()),
    }
}
