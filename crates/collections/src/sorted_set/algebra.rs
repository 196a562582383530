//! Several sorted sets at once.

use redkit_core::{Command, Key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SortedSet;
use super::bounds::checked;
use crate::error::Error;
use crate::handle::check_slots;
use crate::write::Shape;

/// What becomes of a member's scores in several sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Aggregate {
    /// They are added up.
    #[default]
    Sum,
    /// The lowest counts.
    Min,
    /// The highest counts.
    Max,
}

/// How scores are combined: multiplied by a weight per set, then aggregated.
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use = "it is an argument of unions and intersections"]
pub struct Combine {
    aggregate: Aggregate,
    weights: Vec<f64>,
}

impl Combine {
    /// By aggregate, every set with the weight 1.
    pub fn by(aggregate: Aggregate) -> Self {
        Self {
            aggregate,
            weights: Vec::new(),
        }
    }

    /// The sum of the scores.
    pub fn sum() -> Self {
        Self::by(Aggregate::Sum)
    }

    /// The lowest score.
    pub fn min() -> Self {
        Self::by(Aggregate::Min)
    }

    /// The highest score.
    pub fn max() -> Self {
        Self::by(Aggregate::Max)
    }

    /// Multiplies scores by a weight per set, in the order of the sets; of `union` and
    /// `intersection` the first is that of the set itself.
    pub fn weights(mut self, weights: impl IntoIterator<Item = f64>) -> Self {
        self.weights = weights.into_iter().collect();
        self
    }

    fn of(&self, mut command: Command, sets: usize) -> Result<Command, Error> {
        if !self.weights.is_empty() {
            if self.weights.len() != sets {
                let problem = format!("{} weights for {sets} sets", self.weights.len());
                let fix = "give one weight for each set, the set itself included";
                return Err(Error::invalid("weights", problem, fix));
            }
            command = command.arg("WEIGHTS");
            for &weight in &self.weights {
                command = command.arg(checked("weight", weight)?);
            }
        }
        Ok(match self.aggregate {
            Aggregate::Sum => command,
            Aggregate::Min => command.arg("AGGREGATE").arg("MIN"),
            Aggregate::Max => command.arg("AGGREGATE").arg("MAX"),
        })
    }
}

/// Operations on several sorted sets. What stores replaces what was in the set, its time to live
/// included; without members in the result the set is gone. With a time to live it takes up to
/// 7,000 arguments, sets and weights together; more are refused before anything is sent.
impl<T: Serialize + DeserializeOwned> SortedSet<T> {
    /// The members of this set or of any of the others, in the order of their combined scores.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster; [`Error::Invalid`]
    /// for weights that do not fit.
    pub async fn union<'s>(
        &self,
        others: impl IntoIterator<Item = &'s SortedSet<T>>,
        combine: &Combine,
    ) -> Result<Vec<(T, f64)>, Error>
    where
        T: 's,
    {
        let command = self.with_others("ZUNION", others, Some(combine))?;
        self.read_scored(command.arg("WITHSCORES")).await
    }

    /// The members of this set that all of the others have too, in the order of their combined
    /// scores.
    ///
    /// # Errors
    /// As [`union`](Self::union).
    pub async fn intersection<'s>(
        &self,
        others: impl IntoIterator<Item = &'s SortedSet<T>>,
        combine: &Combine,
    ) -> Result<Vec<(T, f64)>, Error>
    where
        T: 's,
    {
        let command = self.with_others("ZINTER", others, Some(combine))?;
        self.read_scored(command.arg("WITHSCORES")).await
    }

    /// The members of this set that none of the others has, with their scores here.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster.
    pub async fn difference<'s>(
        &self,
        others: impl IntoIterator<Item = &'s SortedSet<T>>,
    ) -> Result<Vec<(T, f64)>, Error>
    where
        T: 's,
    {
        let command = self.with_others("ZDIFF", others, None)?;
        self.read_scored(command.arg("WITHSCORES")).await
    }

    /// How many members of this set all of the others have too, counted to `limit` at most.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster.
    pub async fn intersection_len<'s>(
        &self,
        others: impl IntoIterator<Item = &'s SortedSet<T>>,
        limit: Option<u32>,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        // To the server zero means without a limit.
        if limit == Some(0) {
            return Ok(0);
        }
        let command = self.with_others("ZINTERCARD", others, None)?;
        let command = command.arg("LIMIT").arg(limit.unwrap_or(0));
        self.handle.call(command).await
    }

    /// Makes this set the union of others, with combined scores; gives its number of members.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster; [`Error::Invalid`]
    /// when no set is named or too many are, or for weights that do not fit.
    pub async fn store_union<'s>(
        &self,
        sets: impl IntoIterator<Item = &'s SortedSet<T>>,
        combine: &Combine,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        self.store("ZUNIONSTORE", sets, Some(combine)).await
    }

    /// Makes this set the intersection of others, with combined scores; gives its number of
    /// members.
    ///
    /// # Errors
    /// As [`store_union`](Self::store_union).
    pub async fn store_intersection<'s>(
        &self,
        sets: impl IntoIterator<Item = &'s SortedSet<T>>,
        combine: &Combine,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        self.store("ZINTERSTORE", sets, Some(combine)).await
    }

    /// Makes this set the members of the first of others that no other of them has; gives its
    /// number of members.
    ///
    /// # Errors
    /// As [`store_union`](Self::store_union).
    pub async fn store_difference<'s>(
        &self,
        sets: impl IntoIterator<Item = &'s SortedSet<T>>,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        self.store("ZDIFFSTORE", sets, None).await
    }

    async fn store<'s>(
        &self,
        name: &str,
        sets: impl IntoIterator<Item = &'s SortedSet<T>>,
        combine: Option<&Combine>,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        let mut keys: Vec<&Key> = Vec::new();
        for set in sets {
            self.handle.check_same_client(&set.handle)?;
            keys.push(set.key());
        }
        if keys.is_empty() {
            return Err(Error::invalid("sets", "none is named", "name at least one"));
        }
        let command = self.handle.command(name);
        let command = self.combined(command, keys, combine)?;
        self.handle.write(command, Shape::Once).await
    }

    fn with_others<'s>(
        &self,
        name: &str,
        others: impl IntoIterator<Item = &'s SortedSet<T>>,
        combine: Option<&Combine>,
    ) -> Result<Command, Error>
    where
        T: 's,
    {
        let mut sets: Vec<&Key> = vec![self.key()];
        for other in others {
            self.handle.check_same_client(&other.handle)?;
            sets.push(other.key());
        }
        self.combined(Command::new(name), sets, combine)
    }

    fn combined(
        &self,
        command: Command,
        sets: Vec<&Key>,
        combine: Option<&Combine>,
    ) -> Result<Command, Error> {
        let count = sets.len();
        let command = command.arg(count).keys_from(sets);
        check_slots(&self.handle.client, &command)?;
        match combine {
            Some(combine) => combine.of(command, count),
            None => Ok(command),
        }
    }
}
