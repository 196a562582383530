//! Inspection: what a client's users do, for a program's own eyes. Pattern objects register with their
//! client as [`Inspect`], and whatever shows or changes them (monitoring, a dashboard, a command line)
//! needs to know no pattern.

use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::error::Error;

/// Something that can be looked at, and acted on: a cache, a limiter, a lock manager, a breaker.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be inspected",
    label = "it has no snapshot",
    note = "implement `Inspect`: a kind, a name and a bounded snapshot"
)]
#[async_trait]
pub trait Inspect: Send + Sync {
    /// The sort of the object: `cache`, `limiter`, `locks`, …
    fn kind(&self) -> &'static str;

    /// Its name, which is unique among those of its kind and client in a well-made program.
    fn name(&self) -> String;

    /// How it stands now. Costs no round trip, and is bounded: at most [`Snapshot::MOST_ITEMS`] items.
    fn snapshot(&self) -> Snapshot;

    /// How it stands at the server, for all processes together: what a [`snapshot`](Self::snapshot) cannot know
    /// without asking. A few round trips at most, and bounded. By default nothing.
    ///
    /// # Errors
    /// [`InspectError`] when the server could not be asked.
    async fn measure(&self) -> Result<Snapshot, InspectError> {
        Ok(Snapshot::default())
    }

    /// The lists of what it keeps at the server, to be paged through. By default none.
    fn lists(&self) -> &'static [List] {
        &[]
    }

    /// A page of one of its [lists](Self::lists).
    ///
    /// # Errors
    /// [`InspectError`] for a list that it does not have, a filter or cursor that makes no sense, or a failure.
    async fn list(&self, list: &str, query: &Query) -> Result<Page, InspectError> {
        let _ = query;
        Err(InspectError::UnknownList {
            kind: self.kind(),
            list: list.into(),
        })
    }

    /// The actions that it offers. By default none.
    fn actions(&self) -> &'static [Action] {
        &[]
    }

    /// Does one of its [actions](Self::actions). Gives a sentence that says what was done.
    ///
    /// # Errors
    /// [`InspectError`] for an action that it does not have, an argument that makes no sense, or a failure.
    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        let _ = argument;
        Err(InspectError::UnknownAction {
            kind: self.kind(),
            action: action.into(),
        })
    }
}

/// An action on an inspected object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The name by which it is called.
    pub name: &'static str,
    /// A description of its argument; empty when it takes none.
    pub argument: &'static str,
    /// Its effect, in a sentence.
    pub description: &'static str,
    /// Whether something is lost by it that cannot be had back.
    pub is_destructive: bool,
}

/// A list of what an inspected object keeps at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    /// The name by which it is asked for.
    pub name: &'static str,
    /// A description of the filter that it needs; empty when it needs none.
    pub filter: &'static str,
    /// What it lists, in a sentence.
    pub description: &'static str,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// What the list is narrowed to, such as a user; empty for everything.
    pub filter: String,
    /// The [`next`](Page::next) of the page before; empty for the first page.
    pub cursor: String,
    /// About how many items are wanted: at most [`Query::MOST`].
    pub count: usize,
}

impl Query {
    /// The most items of a page. What a server gives beyond in one step is given as well.
    pub const MOST: usize = 200;

    /// The number of items that are wanted, within the bounds.
    pub fn wanted(&self) -> usize {
        self.count.clamp(1, Self::MOST)
    }
}

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The items.
    pub items: Vec<Item>,
    /// The cursor of the next page, when there may be one.
    pub next: Option<String>,
}

/// An item of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    /// Facts by name.
    pub facts: Vec<(&'static str, Fact)>,
    /// Facts that may be secrets or personal data, such as a message's payload and headers: for readers who may see
    /// them.
    pub payload: Vec<(&'static str, Fact)>,
    /// The actions that make sense for the item: their names, and the arguments that name it.
    pub actions: Vec<(&'static str, String)>,
}

impl Item {
    /// Adds a fact.
    #[must_use]
    pub fn fact(mut self, name: &'static str, fact: impl Into<Fact>) -> Self {
        self.facts.push((name, fact.into()));
        self
    }

    /// Adds a fact that not every reader may see.
    #[must_use]
    pub fn payload(mut self, name: &'static str, fact: impl Into<Fact>) -> Self {
        self.payload.push((name, fact.into()));
        self
    }

    /// Adds an action and its argument.
    #[must_use]
    pub fn action(mut self, name: &'static str, argument: impl Into<String>) -> Self {
        self.actions.push((name, argument.into()));
        self
    }
}

/// How an inspected object stands: numbers and words by name, and some of the things that it holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Facts by name, in the order in which they make sense.
    pub facts: Vec<(&'static str, Fact)>,
    /// The things that it holds: locks, waiters, nodes. Each has facts of its own.
    pub items: Vec<Vec<(&'static str, Fact)>>,
    /// How many further items there are.
    pub omitted: usize,
}

/// One fact.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fact {
    /// A number.
    Count(u64),
    /// A share, a rate or a time in seconds.
    Number(f64),
    /// A word: a state, a label.
    Text(String),
    /// Yes or no.
    Flag(bool),
}

impl Snapshot {
    /// How many items a snapshot has at most.
    pub const MOST_ITEMS: usize = 100;

    /// Adds a fact.
    #[must_use]
    pub fn fact(mut self, name: &'static str, fact: impl Into<Fact>) -> Self {
        self.facts.push((name, fact.into()));
        self
    }

    /// Adds an item, or counts it as omitted.
    pub fn push(&mut self, item: Vec<(&'static str, Fact)>) {
        match self.items.len() < Self::MOST_ITEMS {
            true => self.items.push(item),
            false => self.omitted += 1,
        }
    }

    /// The fact of this name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        let found = self.facts.iter().find(|(other, _)| *other == name);
        found.map(|(_, fact)| fact)
    }
}

impl From<u64> for Fact {
    fn from(count: u64) -> Self {
        Fact::Count(count)
    }
}

impl From<usize> for Fact {
    fn from(count: usize) -> Self {
        Fact::Count(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl From<f64> for Fact {
    fn from(number: f64) -> Self {
        Fact::Number(number)
    }
}

impl From<std::time::Duration> for Fact {
    fn from(time: std::time::Duration) -> Self {
        Fact::Number(time.as_secs_f64())
    }
}

impl From<bool> for Fact {
    fn from(flag: bool) -> Self {
        Fact::Flag(flag)
    }
}

impl From<String> for Fact {
    fn from(text: String) -> Self {
        Fact::Text(text)
    }
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Fact::Text(text.to_owned())
    }
}

/// Why an action was not done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no such action. Remedy: one of [`Inspect::actions`].
    #[error("a {kind} has no action `{action}`")]
    UnknownAction {
        /// The sort of the object.
        kind: &'static str,
        /// The name that was given.
        action: Box<str>,
    },
    /// There is no such list. Remedy: one of [`Inspect::lists`].
    #[error("a {kind} has no list `{list}`")]
    UnknownList {
        /// The sort of the object.
        kind: &'static str,
        /// The name that was given.
        list: Box<str>,
    },
    /// The argument makes no sense. The text says what is expected.
    #[error("{0}")]
    Argument(Box<str>),
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Core(#[from] Error),
    /// The pattern's own error.
    #[error("{0}")]
    Failed(Box<str>),
}

/// The objects of one client, held weakly.
#[derive(Default)]
pub(crate) struct Registry {
    objects: Mutex<Vec<Weak<dyn Inspect>>>,
}

impl Registry {
    pub(crate) fn register(&self, object: Weak<dyn Inspect>) {
        let mut objects = self.objects.lock();
        // Programs that make objects for every request must not fill memory.
        if objects.len() == objects.capacity() {
            objects.retain(|object| object.strong_count() > 0);
        }
        objects.push(object);
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn Inspect>> {
        let objects = self.objects.lock();
        objects.iter().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("objects", &self.objects.lock().len())
            .finish()
    }
}
