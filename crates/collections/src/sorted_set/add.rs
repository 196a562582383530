//! Adding members, and what becomes of those that are there.

use std::borrow::Borrow;

use redkit_core::Command;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SortedSet;
use super::bounds::checked;
use crate::error::Error;
use crate::write::Shape;

/// When a member is given a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AddIf {
    /// Always.
    #[default]
    Always,
    /// When it is not in the set.
    Absent,
    /// When it is in the set.
    Present,
    /// When it is not in the set, or with a lower score.
    Greater,
    /// When it is not in the set, or with a higher score.
    Less,
    /// When it is in the set with a lower score.
    PresentAndGreater,
    /// When it is in the set with a higher score.
    PresentAndLess,
}

impl AddIf {
    fn of(self, command: Command) -> Command {
        let words: &[&str] = match self {
            AddIf::Always => &[],
            AddIf::Absent => &["NX"],
            AddIf::Present => &["XX"],
            AddIf::Greater => &["GT"],
            AddIf::Less => &["LT"],
            AddIf::PresentAndGreater => &["XX", "GT"],
            AddIf::PresentAndLess => &["XX", "LT"],
        };
        command.args(words)
    }
}

/// How members are added, for [`SortedSet::add_with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "it is an argument of `add_with`"]
pub struct Add {
    condition: AddIf,
    counts_changed: bool,
}

impl Add {
    /// Under a condition, which holds for each member by itself.
    pub fn when(condition: AddIf) -> Self {
        Self {
            condition,
            counts_changed: false,
        }
    }

    /// Counts members whose score changed, too, not only new ones.
    pub fn count_changed(mut self) -> Self {
        self.counts_changed = true;
        self
    }
}

impl<T: Serialize + DeserializeOwned> SortedSet<T> {
    /// Adds a member, or changes its score; says whether it is new.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a score that is not a number.
    pub async fn add<Q>(&self, member: &Q, score: f64) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        Ok(self.add_many([(member, score)]).await? > 0)
    }

    /// Adds members, or changes their scores; gives how many of them are new. All of them or none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a score that is not a number; nothing was sent.
    pub async fn add_many<'q, Q>(
        &self,
        members: impl IntoIterator<Item = (&'q Q, f64)>,
    ) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        self.add_with(Add::default(), members).await
    }

    /// Adds members, or changes their scores, under a condition; gives how many of them are new,
    /// or with [`count_changed`](Add::count_changed) also how many have another score than before.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a score that is not a number; nothing was sent.
    pub async fn add_with<'q, Q>(
        &self,
        add: Add,
        members: impl IntoIterator<Item = (&'q Q, f64)>,
    ) -> Result<usize, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized + 'q,
    {
        let mut command = add.condition.of(self.handle.command("ZADD"));
        let is_conditional = add.condition != AddIf::Always;
        // With a time to live what changed is counted in any case: whether anything did decides
        // about the time.
        let decides = is_conditional && self.handle.ttl.is_some();
        if add.counts_changed || decides {
            command = command.arg("CH");
        }
        let head = command.arg_count();
        for (member, score) in members {
            let score = checked("score", score)?;
            command = command.arg(score).arg(self.seal(member)?);
        }
        if command.arg_count() == head {
            return Ok(0);
        }
        // The name stands before the arguments.
        let head = head + 1;
        let shape = match (is_conditional, add.counts_changed) {
            (false, _) => Shape::Sum(head),
            (true, true) => Shape::Changed(head),
            (true, false) => Shape::Grown(head),
        };
        self.handle.write(command, shape).await
    }

    /// Adds to a member's score, which is 0 when it is not there; gives the sum.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `by` is not a number. Adding opposite infinities is an error of the
    /// server's.
    pub async fn increment<Q>(&self, member: &Q, by: f64) -> Result<f64, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let by = checked("by", by)?;
        let command = self.handle.command("ZINCRBY").arg(by);
        let command = command.arg(self.seal(member)?);
        self.handle.write(command, Shape::Once).await
    }

    /// The same under a condition, in which the sum is the new score; `None` when it did not hold.
    ///
    /// # Errors
    /// As [`increment`](Self::increment).
    pub async fn increment_if<Q>(
        &self,
        condition: AddIf,
        member: &Q,
        by: f64,
    ) -> Result<Option<f64>, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let by = checked("by", by)?;
        let command = condition.of(self.handle.command("ZADD")).arg("INCR");
        let command = command.arg(by).arg(self.seal(member)?);
        self.handle.write(command, Shape::Refusable).await
    }
}
