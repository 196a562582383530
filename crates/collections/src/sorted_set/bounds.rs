//! Bounds by score and by member, and what to take of a range.

use std::ops::{Bound, RangeBounds};

use redkit_core::{Command, ToArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SortedSet;
use crate::error::Error;
use crate::handle::bytes_of;

/// In which direction scores go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// From the lowest score to the highest.
    #[default]
    Ascending,
    /// From the highest score to the lowest.
    Descending,
}

impl Order {
    pub(super) fn rank_command(self) -> &'static str {
        match self {
            Order::Ascending => "ZRANK",
            Order::Descending => "ZREVRANK",
        }
    }
}

/// What to take of a range by score or member: the order, how many to leave out, how many at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "it is an argument of ranges"]
pub struct Select {
    pub(super) order: Order,
    offset: u32,
    limit: Option<u32>,
}

impl Select {
    /// From the lowest to the highest.
    pub fn ascending() -> Self {
        Self::default()
    }

    /// From the highest to the lowest.
    pub fn descending() -> Self {
        Self {
            order: Order::Descending,
            ..Self::default()
        }
    }

    /// Leaves out the first so many, which the server counts one by one.
    pub fn offset(mut self, offset: u32) -> Self {
        self.offset = offset;
        self
    }

    /// Takes so many at most.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    fn of(self, command: Command) -> Command {
        let command = match self.order {
            Order::Ascending => command,
            Order::Descending => command.arg("REV"),
        };
        match (self.offset, self.limit) {
            (0, None) => command,
            (offset, None) => command.arg("LIMIT").arg(offset).arg(-1),
            (offset, Some(limit)) => command.arg("LIMIT").arg(offset).arg(limit),
        }
    }
}

/// A range as its two ends are sent.
pub(super) struct Ends {
    min: Vec<u8>,
    max: Vec<u8>,
    by: &'static str,
}

impl Ends {
    pub(super) fn by_score(range: &impl RangeBounds<f64>) -> Result<Self, Error> {
        Ok(Self {
            min: score_end(range.start_bound(), "-inf")?,
            max: score_end(range.end_bound(), "+inf")?,
            by: "BYSCORE",
        })
    }

    pub(super) fn by_member<T: Serialize + DeserializeOwned>(
        set: &SortedSet<T>,
        range: &impl RangeBounds<T>,
    ) -> Result<Self, Error> {
        Ok(Self {
            min: member_end(set, range.start_bound(), "-")?,
            max: member_end(set, range.end_bound(), "+")?,
            by: "BYLEX",
        })
    }

    /// `min max`, for counts and removals.
    pub(super) fn of(&self, command: Command) -> Command {
        command.arg(&self.min).arg(&self.max)
    }

    /// `min max BYSCORE …`, for ranges.
    pub(super) fn selected(&self, command: Command, select: Select) -> Command {
        let command = match select.order {
            Order::Ascending => self.of(command),
            Order::Descending => command.arg(&self.max).arg(&self.min),
        };
        select.of(command.arg(self.by))
    }
}

fn score_end(bound: Bound<&f64>, unbounded: &str) -> Result<Vec<u8>, Error> {
    Ok(match bound {
        Bound::Included(score) => bytes_of(checked("bound", *score)?),
        Bound::Excluded(score) => {
            let mut end = vec![b'('];
            checked("bound", *score)?.write_to(&mut end);
            end
        }
        Bound::Unbounded => bytes_of(unbounded),
    })
}

fn member_end<T: Serialize + DeserializeOwned>(
    set: &SortedSet<T>,
    bound: Bound<&T>,
    unbounded: &str,
) -> Result<Vec<u8>, Error> {
    let (mark, member) = match bound {
        Bound::Included(member) => (b'[', member),
        Bound::Excluded(member) => (b'(', member),
        Bound::Unbounded => return Ok(bytes_of(unbounded)),
    };
    let mut end = vec![mark];
    end.extend_from_slice(&set.seal(member)?);
    Ok(end)
}

/// Refuses what is not a number.
pub(super) fn checked(what: &'static str, score: f64) -> Result<f64, Error> {
    match score.is_nan() {
        true => Err(Error::invalid(what, "it is not a number", "give a number")),
        false => Ok(score),
    }
}
