//! Ranges of sorted sets: by rank, by score, by member.

use std::ops::{Bound, Range};

use bytes::Bytes;
use redkit_core::{ServerError, Value};

use super::{Spec, int, read, write};
use crate::args::{LexBound, index_range, integer, is, lex_bound, score_bound};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::sorted_set::SortedSet;

pub(super) const COMMANDS: &[Spec] = &[
    read("ZRANGE", -4, zrange),
    write("ZRANGESTORE", -5, zrange_store),
    read("ZREVRANGE", -4, |s, a| legacy(s, a, By::Rank, true)),
    read("ZRANGEBYSCORE", -4, |s, a| legacy(s, a, By::Score, false)),
    read("ZREVRANGEBYSCORE", -4, |s, a| legacy(s, a, By::Score, true)),
    read("ZRANGEBYLEX", -4, |s, a| legacy(s, a, By::Lex, false)),
    read("ZREVRANGEBYLEX", -4, |s, a| legacy(s, a, By::Lex, true)),
    read("ZCOUNT", 4, |s, a| count(s, a, By::Score)),
    read("ZLEXCOUNT", 4, |s, a| count(s, a, By::Lex)),
    write("ZREMRANGEBYRANK", 4, |s, a| remove(s, a, By::Rank)),
    write("ZREMRANGEBYSCORE", 4, |s, a| remove(s, a, By::Score)),
    write("ZREMRANGEBYLEX", 4, |s, a| remove(s, a, By::Lex)),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range with its options.
struct Query<'a> {
    range: Wanted<'a>,
    reverse: bool,
    with_scores: bool,
    offset: i64,
    /// Negative for all.
    limit: i64,
}

enum Wanted<'a> {
    Rank(i64, i64),
    Score(Bound<f64>, Bound<f64>),
    Lex(LexBound<'a>, LexBound<'a>),
}

impl<'a> Wanted<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Self, ServerError> {
        Ok(match by {
            By::Rank => Wanted::Rank(integer(min)?, integer(max)?),
            By::Score => Wanted::Score(score_bound(min)?, score_bound(max)?),
            By::Lex => Wanted::Lex(lex_bound(min)?, lex_bound(max)?),
        })
    }

    /// The ranks that the range covers; ranks count from the top when `reverse` is set and the
    /// range is one of ranks.
    fn ranks(&self, set: &SortedSet, reverse: bool) -> Range<usize> {
        let len = set.len();
        match self {
            Wanted::Rank(start, stop) => match index_range(*start, *stop, len) {
                Some((first, last)) if reverse => len - 1 - last..len - first,
                Some((first, last)) => first..last + 1,
                None => 0..0,
            },
            Wanted::Score(min, max) => {
                let start = set.count_while(|score, _| match min {
                    Bound::Included(min) => score < *min,
                    Bound::Excluded(min) => score <= *min,
                    Bound::Unbounded => false,
                });
                let end = set.count_while(|score, _| match max {
                    Bound::Included(max) => score <= *max,
                    Bound::Excluded(max) => score < *max,
                    Bound::Unbounded => true,
                });
                start..end.max(start)
            }
            Wanted::Lex(min, max) => {
                let start = set.count_while(|_, member| match min {
                    LexBound::Least => false,
                    LexBound::Greatest => true,
                    LexBound::Included(min) => member < *min,
                    LexBound::Excluded(min) => member <= *min,
                });
                let end = set.count_while(|_, member| match max {
                    LexBound::Least => false,
                    LexBound::Greatest => true,
                    LexBound::Included(max) => member <= *max,
                    LexBound::Excluded(max) => member < *max,
                });
                start..end.max(start)
            }
        }
    }
}

impl<'a> Query<'a> {
    /// Reads `min max [options]`. With `fixed`, what the command's name says cannot be said again.
    fn parse(
        args: &[&'a [u8]],
        fixed: Option<(By, bool)>,
        storing: bool,
    ) -> Result<Self, ServerError> {
        let [min, max, options @ ..] = args else {
            return Err(error::syntax());
        };
        let (mut by, mut reverse) = fixed.unwrap_or((By::Rank, false));
        let (mut with_scores, mut limits) = (false, None);
        let mut rest = options;
        while let [option, tail @ ..] = rest {
            rest = tail;
            if !storing && is(option, "WITHSCORES") {
                with_scores = true;
            } else if is(option, "LIMIT")
                && let [offset, limit, tail @ ..] = tail
            {
                limits = Some((integer(offset)?, integer(limit)?));
                rest = tail;
            } else if fixed.is_none() && is(option, "REV") {
                reverse = true;
            } else if fixed.is_none() && is(option, "BYSCORE") {
                by = By::Score;
            } else if fixed.is_none() && is(option, "BYLEX") {
                by = By::Lex;
            } else {
                return Err(error::syntax());
            }
        }
        // A limit of -1 counts as none, as on the server.
        if by == By::Rank && limits.is_some_and(|(_, limit)| limit != -1) {
            return Err(error::err(
                "syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if by == By::Lex && with_scores {
            return Err(error::err(
                "syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (min, max) = match reverse && by != By::Rank {
            true => (max, min),
            false => (min, max),
        };
        let (offset, limit) = limits.unwrap_or((0, -1));
        Ok(Query {
            range: Wanted::parse(by, min, max)?,
            reverse,
            with_scores,
            offset,
            limit,
        })
    }

    fn run(&self, set: &SortedSet) -> Vec<(Bytes, f64)> {
        let ranks = self.range.ranks(set, self.reverse);
        // A negative offset skips everything.
        let skip = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let left = ranks.len().saturating_sub(skip);
        let take = usize::try_from(self.limit).map_or(left, |limit| limit.min(left));
        if take == 0 {
            return Vec::new();
        }
        let own = |(member, score): (&Bytes, f64)| (member.clone(), score);
        match self.reverse {
            true => set
                .iter_down_from(ranks.end - skip)
                .take(take)
                .map(own)
                .collect(),
            false => set
                .iter_from(ranks.start + skip)
                .take(take)
                .map(own)
                .collect(),
        }
    }
}

fn zrange(state: &mut State, args: &[&[u8]]) -> Reply {
    show(state, args, None)
}

fn legacy(state: &mut State, args: &[&[u8]], by: By, reverse: bool) -> Reply {
    show(state, args, Some((by, reverse)))
}

fn show(state: &mut State, args: &[&[u8]], fixed: Option<(By, bool)>) -> Reply {
    let [key, args @ ..] = args else {
        return Err(error::syntax());
    };
    let query = Query::parse(args, fixed, false)?;
    let set = state.db.view::<SortedSet>(key)?;
    let found = set.map(|set| query.run(set)).unwrap_or_default();
    let with_scores = query.with_scores;
    Ok(reply(state, found, with_scores))
}

/// Members, with or without their scores.
pub(super) fn reply(state: &State, members: Vec<(Bytes, f64)>, with_scores: bool) -> Value {
    let members = members.into_iter();
    match with_scores {
        true => state.pairs(members.map(|(m, s)| (Value::Bulk(m), Value::Double(s)))),
        false => Value::Array(members.map(|(member, _)| Value::Bulk(member)).collect()),
    }
}

fn zrange_store(state: &mut State, args: &[&[u8]]) -> Reply {
    let [target, source, args @ ..] = args else {
        return Err(error::syntax());
    };
    let query = Query::parse(args, None, true)?;
    let set = state.db.view::<SortedSet>(source)?;
    let found = set.map(|set| query.run(set)).unwrap_or_default();
    Ok(store(state, target, found))
}

/// Puts members under a key, or removes the key when there are none.
pub(super) fn store(state: &mut State, target: &[u8], members: Vec<(Bytes, f64)>) -> Value {
    let len = members.len();
    match len {
        0 => {
            state.db.remove(target);
        }
        _ => state.db.put(target, SortedSet::from_iter(members)),
    }
    int(len)
}

fn count(state: &mut State, args: &[&[u8]], by: By) -> Reply {
    let [key, min, max] = args else {
        return Err(error::syntax());
    };
    let range = Wanted::parse(by, min, max)?;
    let set = state.db.view::<SortedSet>(key)?;
    Ok(int(set.map_or(0, |set| range.ranks(set, false).len())))
}

fn remove(state: &mut State, args: &[&[u8]], by: By) -> Reply {
    let [key, min, max] = args else {
        return Err(error::syntax());
    };
    let range = Wanted::parse(by, min, max)?;
    let Some(set) = state.db.edit::<SortedSet>(key)? else {
        return Ok(Value::Int(0));
    };
    let ranks = range.ranks(set, false);
    let doomed: Vec<Bytes> = set
        .iter_from(ranks.start)
        .take(ranks.len())
        .map(|(member, _)| member.clone())
        .collect();
    for member in &doomed {
        set.remove(member);
    }
    if !doomed.is_empty() {
        state.db.shrunk(key);
    }
    Ok(int(doomed.len()))
}
