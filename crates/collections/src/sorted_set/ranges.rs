//! Ranges by rank, by score and by member.

use std::ops::RangeBounds;

use bytes::Bytes;
use redkit_core::Command;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SortedSet;
use super::bounds::{Ends, Order, Select};
use crate::error::Error;
use crate::handle::check_slots;
use crate::positions::positions;
use crate::write::Shape;

/// Ranges. What gives members holds all of them in memory: bound the range, or
/// [`scan`](SortedSet::scan).
///
/// Ranges by member go by the bytes of members as they are encoded, and make sense when all of
/// them have the same score: then the sorted set is an index. JSON texts are in the order of their
/// characters, but for characters before `"` and those that JSON escapes.
impl<T: Serialize + DeserializeOwned> SortedSet<T> {
    /// The members in a range of ranks, with their scores. Rank 0 is the first in the order,
    /// −1 the last.
    pub async fn range_by_rank(
        &self,
        range: impl RangeBounds<i64>,
        order: Order,
    ) -> Result<Vec<(T, f64)>, Error> {
        let Some((first, last)) = positions(&range) else {
            return Ok(Vec::new());
        };
        let command = ranked(self.handle.command("ZRANGE"), first, last, order);
        self.read_scored(command.arg("WITHSCORES")).await
    }

    /// The members whose scores are in a range, with their scores.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bound that is not a number.
    pub async fn range_by_score(
        &self,
        range: impl RangeBounds<f64>,
        select: Select,
    ) -> Result<Vec<(T, f64)>, Error> {
        let ends = Ends::by_score(&range)?;
        let command = ends.selected(self.handle.command("ZRANGE"), select);
        self.read_scored(command.arg("WITHSCORES")).await
    }

    /// The members in a range of members.
    pub async fn range_by_member(
        &self,
        range: impl RangeBounds<T>,
        select: Select,
    ) -> Result<Vec<T>, Error> {
        let ends = Ends::by_member(self, &range)?;
        let command = ends.selected(self.handle.command("ZRANGE"), select);
        let members: Vec<Bytes> = self.handle.call(command).await?;
        members.into_iter().map(|raw| self.open(raw)).collect()
    }

    /// How many members have scores in a range.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bound that is not a number.
    pub async fn count_by_score(&self, range: impl RangeBounds<f64>) -> Result<usize, Error> {
        let ends = Ends::by_score(&range)?;
        self.handle
            .call(ends.of(self.handle.command("ZCOUNT")))
            .await
    }

    /// How many members are in a range of members.
    pub async fn count_by_member(&self, range: impl RangeBounds<T>) -> Result<usize, Error> {
        let ends = Ends::by_member(self, &range)?;
        self.handle
            .call(ends.of(self.handle.command("ZLEXCOUNT")))
            .await
    }

    /// Removes the members in a range of ranks, of which 0 is the lowest score and −1 the highest;
    /// gives how many.
    pub async fn remove_by_rank(&self, range: impl RangeBounds<i64>) -> Result<usize, Error> {
        let Some((first, last)) = positions(&range) else {
            return Ok(0);
        };
        let command = self.handle.command("ZREMRANGEBYRANK");
        self.handle.call(command.arg(first).arg(last)).await
    }

    /// Removes the members whose scores are in a range; gives how many.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bound that is not a number.
    pub async fn remove_by_score(&self, range: impl RangeBounds<f64>) -> Result<usize, Error> {
        let ends = Ends::by_score(&range)?;
        self.handle
            .call(ends.of(self.handle.command("ZREMRANGEBYSCORE")))
            .await
    }

    /// Removes the members in a range of members; gives how many.
    pub async fn remove_by_member(&self, range: impl RangeBounds<T>) -> Result<usize, Error> {
        let ends = Ends::by_member(self, &range)?;
        self.handle
            .call(ends.of(self.handle.command("ZREMRANGEBYLEX")))
            .await
    }

    /// Makes this sorted set a range of ranks of another; gives its number of members. What was in
    /// it goes, its time to live included.
    ///
    /// # Errors
    /// [`Error::Core`] when the two lie on different slots of a cluster.
    pub async fn store_range_by_rank(
        &self,
        source: &SortedSet<T>,
        range: impl RangeBounds<i64>,
        order: Order,
    ) -> Result<usize, Error> {
        // What holds nothing whatever there is: a range that the server takes for empty.
        let (first, last) = positions(&range).unwrap_or((1, 0));
        let command = self.store_from(source)?;
        self.store_range(ranked(command, first, last, order)).await
    }

    /// Makes this sorted set a range of scores of another; gives its number of members. What was
    /// in it goes, its time to live included.
    ///
    /// # Errors
    /// [`Error::Core`] when the two lie on different slots of a cluster; [`Error::Invalid`]
    /// for a bound that is not a number.
    pub async fn store_range_by_score(
        &self,
        source: &SortedSet<T>,
        range: impl RangeBounds<f64>,
        select: Select,
    ) -> Result<usize, Error> {
        let ends = Ends::by_score(&range)?;
        let command = self.store_from(source)?;
        self.store_range(ends.selected(command, select)).await
    }

    /// Makes this sorted set a range of members of another; gives its number of members. What was
    /// in it goes, its time to live included.
    ///
    /// # Errors
    /// [`Error::Core`] when the two lie on different slots of a cluster.
    pub async fn store_range_by_member(
        &self,
        source: &SortedSet<T>,
        range: impl RangeBounds<T>,
        select: Select,
    ) -> Result<usize, Error> {
        let ends = Ends::by_member(self, &range)?;
        let command = self.store_from(source)?;
        self.store_range(ends.selected(command, select)).await
    }

    fn store_from(&self, source: &SortedSet<T>) -> Result<Command, Error> {
        self.handle.check_same_client(&source.handle)?;
        Ok(self.handle.command("ZRANGESTORE").key(source.key()))
    }

    async fn store_range(&self, command: Command) -> Result<usize, Error> {
        check_slots(&self.handle.client, &command)?;
        self.handle.write(command, Shape::Once).await
    }
}

fn ranked(command: Command, first: i64, last: i64, order: Order) -> Command {
    let command = command.arg(first).arg(last);
    match order {
        Order::Ascending => command,
        Order::Descending => command.arg("REV"),
    }
}
