//! Unions, intersections and differences of sorted sets, and of sets as if their scores were 1.

use bytes::Bytes;
use redkit_core::ServerError;

use super::sorted_set_ranges::{reply, store};
use super::{Spec, Split, int, read, write};
use crate::args::{integer, is, parse_float};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::sorted_set::SortedSet;
use crate::value::{Data, Set};

pub(super) const COMMANDS: &[Spec] = &[
    read("ZUNION", -3, |s, a| show(s, a, Operation::Union, "zunion")),
    read("ZINTER", -3, |s, a| {
        show(s, a, Operation::Intersection, "zinter")
    }),
    read("ZDIFF", -3, |s, a| {
        show(s, a, Operation::Difference, "zdiff")
    }),
    write("ZUNIONSTORE", -4, |s, a| {
        keep(s, a, Operation::Union, "zunionstore")
    }),
    write("ZINTERSTORE", -4, |s, a| {
        keep(s, a, Operation::Intersection, "zinterstore")
    }),
    write("ZDIFFSTORE", -4, |s, a| {
        keep(s, a, Operation::Difference, "zdiffstore")
    }),
    read("ZINTERCARD", -3, zinter_card),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

#[derive(Debug, Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            // Infinities of both signs make zero, as on the server.
            Aggregate::Sum => Some(a + b).filter(|sum| !sum.is_nan()).unwrap_or(0.0),
            Aggregate::Min => a.min(b),
            Aggregate::Max => a.max(b),
        }
    }
}

/// Members and scores of an input.
type Input = Vec<(Bytes, f64)>;

fn show(state: &mut State, args: &[&[u8]], operation: Operation, command: &str) -> Reply {
    let (result, with_scores) = combine(state, args, operation, command, false)?;
    Ok(reply(state, result, with_scores))
}

fn keep(state: &mut State, args: &[&[u8]], operation: Operation, command: &str) -> Reply {
    let [target, args @ ..] = args else {
        return Err(error::syntax());
    };
    let (result, _) = combine(state, args, operation, command, true)?;
    Ok(store(state, target, result))
}

fn combine(
    state: &mut State,
    args: &[&[u8]],
    operation: Operation,
    command: &str,
    storing: bool,
) -> Result<(Input, bool), ServerError> {
    let (keys, options) = input_keys(args, command)?;
    let mut inputs = keys
        .iter()
        .map(|key| input(state, key))
        .collect::<Result<Vec<Input>, _>>()?;
    let (weights, aggregate, with_scores) = parse_options(options, keys.len(), operation, storing)?;
    for (input, weight) in inputs.iter_mut().zip(weights) {
        for (_, score) in input {
            *score *= weight;
        }
    }
    // The server goes through the inputs from the smallest to the largest, which decides how sums
    // are rounded, and for intersections minds only in the first that infinity times zero is NaN.
    if operation != Operation::Difference {
        inputs.sort_by_key(Vec::len);
    }
    let minded = match operation {
        Operation::Intersection => 1,
        _ => inputs.len(),
    };
    for (_, score) in inputs.iter_mut().take(minded).flatten() {
        if score.is_nan() {
            *score = 0.0;
        }
    }
    let mut inputs = inputs.into_iter();
    let mut result: SortedSet = inputs.next().unwrap_or_default().into_iter().collect();
    for input in inputs {
        result = fold(result, input, operation, aggregate);
    }
    let sorted = result.iter().map(|(m, s)| (m.clone(), s)).collect();
    Ok((sorted, with_scores))
}

/// Splits `numkeys key [key …]` from what follows.
fn input_keys<'a, 'b>(args: &'a [&'b [u8]], command: &str) -> Result<Split<'a, 'b>, ServerError> {
    let (number, rest) = args.split_first().ok_or_else(error::syntax)?;
    match usize::try_from(integer(number)?) {
        Ok(number) if number > 0 => rest.split_at_checked(number).ok_or_else(error::syntax),
        _ => Err(error::err(format!(
            "at least 1 input key is needed for '{command}' command"
        ))),
    }
}

fn fold(
    mut result: SortedSet,
    input: Input,
    operation: Operation,
    aggregate: Aggregate,
) -> SortedSet {
    match operation {
        Operation::Union => {
            for (member, score) in input {
                let score = match result.score(&member) {
                    Some(present) => aggregate.apply(present, score),
                    None => score,
                };
                result.insert(member, score);
            }
            result
        }
        Operation::Intersection => input
            .into_iter()
            .filter_map(|(member, score)| {
                let present = result.score(&member)?;
                Some((member, aggregate.apply(present, score)))
            })
            .collect(),
        Operation::Difference => {
            for (member, _) in input {
                result.remove(&member);
            }
            result
        }
    }
}

fn input(state: &mut State, key: &[u8]) -> Result<Input, ServerError> {
    match state.db.data(key) {
        None => Ok(Input::new()),
        Some(Data::SortedSet(set)) => Ok(set.iter().map(|(m, s)| (m.clone(), s)).collect()),
        Some(Data::Set(set)) => Ok(unit_scores(set)),
        Some(_) => Err(error::wrong_type()),
    }
}

fn unit_scores(set: &Set) -> Input {
    set.iter().map(|member| (member.clone(), 1.0)).collect()
}

fn parse_options(
    mut options: &[&[u8]],
    number: usize,
    operation: Operation,
    storing: bool,
) -> Result<(Vec<f64>, Aggregate, bool), ServerError> {
    let mut weights = Vec::new();
    let (mut aggregate, mut with_scores) = (Aggregate::Sum, false);
    let combines = operation != Operation::Difference;
    while let [option, rest @ ..] = options {
        if combines
            && is(option, "WEIGHTS")
            && let Some((given, rest)) = rest.split_at_checked(number)
        {
            weights = given
                .iter()
                .map(|weight| {
                    parse_float(weight).ok_or_else(|| error::err("weight value is not a float"))
                })
                .collect::<Result<_, _>>()?;
            options = rest;
        } else if combines
            && is(option, "AGGREGATE")
            && let [kind, rest @ ..] = rest
        {
            aggregate = if is(kind, "SUM") {
                Aggregate::Sum
            } else if is(kind, "MIN") {
                Aggregate::Min
            } else if is(kind, "MAX") {
                Aggregate::Max
            } else {
                return Err(error::syntax());
            };
            options = rest;
        } else if !storing && is(option, "WITHSCORES") {
            with_scores = true;
            options = rest;
        } else {
            return Err(error::syntax());
        }
    }
    Ok((weights, aggregate, with_scores))
}

fn zinter_card(state: &mut State, args: &[&[u8]]) -> Reply {
    let (keys, rest) = input_keys(args, "zintercard")?;
    let inputs = keys
        .iter()
        .map(|key| input(state, key))
        .collect::<Result<Vec<Input>, ServerError>>()?;
    let limit = super::set_algebra::limit(rest)?;
    let mut inputs = inputs.into_iter();
    let first: SortedSet = inputs.next().unwrap_or_default().into_iter().collect();
    let common = inputs.fold(first, |common, input| {
        fold(common, input, Operation::Intersection, Aggregate::Sum)
    });
    Ok(int(common.len().min(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_of_both_signs_sum_to_zero() {
        let sum = Aggregate::Sum.apply(f64::INFINITY, f64::NEG_INFINITY);
        assert_eq!(sum, 0.0);
    }
}
