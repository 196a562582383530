//! [`Access`]: whom the dashboard shows what, and who may do what.

use std::collections::BTreeSet;

use async_trait::async_trait;
use axum::http::request::Parts;
use serde_json::{Value, json};

/// Resolves a request to a [`Viewer`]. The application knows its users: by a session, whose layer puts it into the
/// request's extensions, by a proxy's header, by a client certificate.
///
/// It is asked for every request, and at least every five minutes by a page that stays open.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// The viewer; `None` for nobody who may look, which is answered with 403.
    async fn viewer(&self, request: &Parts) -> Option<Viewer>;
}

#[async_trait]
impl<F> Access for F
where
    F: Fn(&Parts) -> Option<Viewer> + Send + Sync + 'static,
{
    async fn viewer(&self, request: &Parts) -> Option<Viewer> {
        self(request)
    }
}

/// A person or program that looks at the dashboard.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Viewer {
    /// The name that stands in the audit.
    pub name: String,
    /// What the viewer may do.
    pub rights: Rights,
}

impl Viewer {
    /// A viewer.
    pub fn new(name: impl Into<String>, rights: Rights) -> Self {
        Self {
            name: name.into(),
            rights,
        }
    }
}

/// What a viewer may do. The server holds every request to it, whatever the page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    look: bool,
    payloads: bool,
    analysis: bool,
    actions: Actions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Actions {
    All,
    Some(BTreeSet<(String, String)>),
}

impl Rights {
    /// Nothing at all.
    pub fn none() -> Self {
        Self {
            look: false,
            payloads: false,
            analysis: false,
            actions: Actions::Some(BTreeSet::new()),
        }
    }

    /// To look, without messages' payloads and without the analysis of the key space, and to do nothing.
    pub fn read_only() -> Self {
        Self {
            look: true,
            ..Self::none()
        }
    }

    /// Everything.
    pub fn all() -> Self {
        Self {
            look: true,
            payloads: true,
            analysis: true,
            actions: Actions::All,
        }
    }

    /// To see what may be personal: payloads and headers of messages, devices of sessions, arguments in the slow log.
    #[must_use]
    pub fn payloads(mut self) -> Self {
        self.payloads = true;
        self
    }

    /// To have the servers go through their keys.
    #[must_use]
    pub fn analysis(mut self) -> Self {
        self.analysis = true;
        self
    }

    /// To do one action on the objects of one kind: `("topic", "redrive")`, `("locks", "force_release")`.
    #[must_use]
    pub fn action(mut self, kind: &str, action: &str) -> Self {
        if let Actions::Some(actions) = &mut self.actions {
            actions.insert((kind.to_owned(), action.to_owned()));
        }
        self
    }

    pub(super) fn may_look(&self) -> bool {
        self.look
    }

    pub(super) fn may_see_payloads(&self) -> bool {
        self.look && self.payloads
    }

    pub(super) fn may_analyze(&self) -> bool {
        self.look && self.analysis
    }

    pub(super) fn may_act(&self, kind: &str, action: &str) -> bool {
        self.look
            && match &self.actions {
                Actions::All => true,
                Actions::Some(actions) => actions.contains(&(kind.to_owned(), action.to_owned())),
            }
    }

    /// For the page, which shows only what there is a right to.
    pub(super) fn to_json(&self) -> Value {
        let actions = match &self.actions {
            Actions::All => json!("all"),
            Actions::Some(actions) => {
                let names = actions.iter();
                json!(
                    names
                        .map(|(kind, action)| format!("{kind}/{action}"))
                        .collect::<Vec<_>>()
                )
            }
        };
        json!({ "payloads": self.payloads, "analysis": self.analysis, "actions": actions })
    }
}

/// Without a resolver everybody reads.
pub(super) struct Anonymous;

#[async_trait]
impl Access for Anonymous {
    async fn viewer(&self, _: &Parts) -> Option<Viewer> {
        Some(Viewer::new("anonymous", Rights::read_only()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_what_was_given_and_no_more() {
        let rights = Rights::read_only().action("topic", "redrive");
        assert!(rights.may_look() && rights.may_act("topic", "redrive"));
        assert!(!rights.may_act("topic", "pause") && !rights.may_act("locks", "redrive"));
        assert!(!rights.may_see_payloads() && !rights.may_analyze());
        let nobody = Rights::none()
            .payloads()
            .analysis()
            .action("topic", "redrive");
        assert!(!nobody.may_look() && !nobody.may_act("topic", "redrive"));
        assert!(!nobody.may_see_payloads() && !nobody.may_analyze());
        assert!(
            Rights::all()
                .action("a", "b")
                .may_act("locks", "force_release")
        );
    }
}
