//! [`Search`]: the search for an order.

use std::collections::HashSet;
use std::time::Duration;

use super::Model;
use crate::simulation::history::{Operation, Outcome};

/// More configurations than this are not looked at.
const MOST: usize = 1_000_000;

/// What a search has found.
pub(super) enum Found {
    /// There is an order.
    Order,
    /// There is none. The longest beginning of one, by indices.
    None { longest: Vec<usize> },
    /// There may be one.
    Undecided { longest: Vec<usize> },
}

/// Operations that are in order already, as bits.
type Set = Box<[u64]>;

pub(super) struct Search<'a, M: Model> {
    model: &'a M,
    /// By their start; those that were certainly not carried out are left out.
    operations: &'a [&'a Operation<M::Call, M::Reply>],
    seen: HashSet<(Set, M::State)>,
    order: Vec<usize>,
    longest: Vec<usize>,
}

/// A point of the search: the operations that may come next, and how many of them were tried.
struct Point<S> {
    ordered: Set,
    state: S,
    next: Vec<usize>,
    tried: usize,
}

impl<'a, M: Model> Search<'a, M>
where
    M::Call: PartialEq,
{
    pub(super) fn new(model: &'a M, operations: &'a [&'a Operation<M::Call, M::Reply>]) -> Self {
        Self {
            model,
            operations,
            seen: HashSet::new(),
            order: Vec::new(),
            longest: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Found {
        let none = vec![0; self.operations.len().div_ceil(64)].into_boxed_slice();
        let Some(first) = self.point(none, self.model.initial()) else {
            return Found::Order;
        };
        let mut points = vec![first];
        while let Some(point) = points.last_mut() {
            let Some(index) = point.next.get(point.tried).copied() else {
                points.pop();
                self.order.pop();
                continue;
            };
            point.tried += 1;
            let Some((ordered, state)) = self.step(&points, index) else {
                continue;
            };
            if self.seen.len() >= MOST {
                let longest = self.longest;
                return Found::Undecided { longest };
            }
            if !self.seen.insert((ordered.clone(), state.clone())) {
                continue;
            }
            self.order.push(index);
            if self.order.len() > self.longest.len() {
                self.longest.clone_from(&self.order);
            }
            match self.point(ordered, state) {
                Some(point) => points.push(point),
                None => return Found::Order,
            }
        }
        let longest = self.longest;
        Found::None { longest }
    }

    /// The set and the state with one more operation in order; `None` when its reply does not fit.
    fn step(&self, points: &[Point<M::State>], index: usize) -> Option<(Set, M::State)> {
        let point = points.last()?;
        let operation = self.operations.get(index)?;
        let reply = operation.outcome.reply();
        let state = self.model.step(&point.state, &operation.call, reply)?;
        // An operation of unknown outcome that changes nothing need not have been carried out.
        if reply.is_none() && state == point.state {
            return None;
        }
        let mut ordered = point.ordered.clone();
        *ordered.get_mut(index / 64)? |= 1 << (index % 64);
        Some((ordered, state))
    }

    /// What may come next; `None` when every operation that was certainly carried out is in order.
    fn point(&self, ordered: Set, state: M::State) -> Option<Point<M::State>> {
        let is_ordered = |index: usize| {
            let word = ordered.get(index / 64).copied().unwrap_or_default();
            word & (1 << (index % 64)) != 0
        };
        let mut next: Vec<usize> = Vec::new();
        // No operation can come next that began after another one, which is not in order, has ended.
        let mut horizon = Duration::MAX;
        let mut is_complete = true;
        for (index, operation) in self.operations.iter().enumerate() {
            if operation.start > horizon {
                break;
            }
            if is_ordered(index) {
                continue;
            }
            match operation.outcome {
                Outcome::Replied(_) => {
                    is_complete = false;
                    horizon = horizon.min(operation.end.unwrap_or(Duration::MAX));
                    next.push(index);
                }
                // Of equal calls of unknown outcome the first stands for all.
                _ if self.stands_for_another(&next, operation) => {}
                _ => next.push(index),
            }
        }
        if is_complete {
            return None;
        }
        let begins_in_time = |index: &usize| {
            let operation = self.operations.get(*index);
            operation.is_some_and(|operation| operation.start <= horizon)
        };
        next.retain(begins_in_time);
        // First what is certain, in the order of the ends: mostly that is the order.
        next.sort_by_key(|index| {
            let operation = self.operations.get(*index);
            let known = operation.filter(|operation| operation.outcome.reply().is_some());
            known
                .and_then(|operation| operation.end)
                .unwrap_or(Duration::MAX)
        });
        Some(Point {
            ordered,
            state,
            next,
            tried: 0,
        })
    }

    fn stands_for_another(&self, next: &[usize], operation: &Operation<M::Call, M::Reply>) -> bool {
        let mut next = next.iter().filter_map(|index| self.operations.get(*index));
        next.any(|other| other.outcome.reply().is_none() && other.call == operation.call)
    }
}
