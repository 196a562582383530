//! A sorted set is a map from members to scores, sorted by score and member.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use proptest::collection::vec;
use proptest::prelude::*;
use redkit_collections::{Add, AddIf, Aggregate, Combine, Error, Order, Select, SortedSet};
use redkit_core::Pattern;

use super::on_embedded;

type Model = BTreeMap<u8, f64>;
type Range<T> = (Bound<T>, Bound<T>);

#[derive(Debug, Clone)]
enum Op {
    Add(usize, AddIf, bool, Vec<(u8, f64)>),
    Increment(usize, AddIf, u8, f64),
    Remove(usize, Vec<u8>),
    Look(usize, u8),
    Pop(usize, bool, u32),
    ByRank(usize, Range<i64>, Order),
    ByScore(usize, Range<f64>, bool, u32, Option<u32>),
    RemoveByScore(usize, Range<f64>),
    RemoveByRank(usize, Range<i64>),
    Combine(usize, usize, Aggregate, Vec<f64>),
    Store(usize, usize, usize),
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-4..5_i8).prop_map(f64::from),
        Just(0.5),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
    ]
}

fn bound<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Bound<T>> {
    prop_oneof![
        value.clone().prop_map(Bound::Included),
        value.prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

fn condition() -> impl Strategy<Value = AddIf> {
    prop_oneof![
        Just(AddIf::Always),
        Just(AddIf::Absent),
        Just(AddIf::Present),
        Just(AddIf::Greater),
        Just(AddIf::Less),
        Just(AddIf::PresentAndGreater),
        Just(AddIf::PresentAndLess),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let (set, member, flag) = (|| 0..2_usize, || 0..9_u8, any::<bool>);
    let ranks = || (bound(-5..6_i64), bound(-5..6_i64));
    let scores = || {
        let one = (-5..6_i8).prop_map(f64::from).boxed();
        (bound(one.clone()), bound(one))
    };
    let order = prop_oneof![Just(Order::Ascending), Just(Order::Descending)];
    let aggregate = prop_oneof![
        Just(Aggregate::Sum),
        Just(Aggregate::Min),
        Just(Aggregate::Max)
    ];
    let weights = prop_oneof![Just(Vec::new()), vec((1..4_u8).prop_map(f64::from), 2)];
    let finite = || (-4..5_i8).prop_map(f64::from);
    prop_oneof![
        (set(), condition(), flag(), vec((member(), score()), 0..5))
            .prop_map(|(s, c, f, m)| Op::Add(s, c, f, m)),
        (set(), condition(), member(), finite())
            .prop_map(|(s, c, m, by)| Op::Increment(s, c, m, by)),
        (set(), vec(member(), 0..3)).prop_map(|(s, m)| Op::Remove(s, m)),
        (set(), member()).prop_map(|(s, m)| Op::Look(s, m)),
        (set(), flag(), 0..3_u32).prop_map(|(s, f, n)| Op::Pop(s, f, n)),
        (set(), ranks(), order).prop_map(|(s, r, o)| Op::ByRank(s, r, o)),
        (
            set(),
            scores(),
            flag(),
            0..4_u32,
            proptest::option::of(0..4_u32)
        )
            .prop_map(|(s, r, f, o, l)| Op::ByScore(s, r, f, o, l)),
        (set(), scores()).prop_map(|(s, r)| Op::RemoveByScore(s, r)),
        (set(), ranks()).prop_map(|(s, r)| Op::RemoveByRank(s, r)),
        (set(), set(), aggregate, weights).prop_map(|(a, b, g, w)| Op::Combine(a, b, g, w)),
        (set(), set(), set()).prop_map(|(t, a, b)| Op::Store(t, a, b)),
    ]
}

/// In the order of scores, then of members, which have one digit.
fn sorted(model: &Model) -> Vec<(u8, f64)> {
    let mut all: Vec<(u8, f64)> = model.iter().map(|(m, s)| (*m, *s)).collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    all
}

fn ranked(model: &Model, (start, end): Range<i64>, order: Order) -> Vec<(u8, f64)> {
    let mut all = sorted(model);
    if order == Order::Descending {
        all.reverse();
    }
    let len = i64::try_from(all.len()).unwrap();
    let from_first = |n: i64| if n < 0 { n + len } else { n };
    let first = match start {
        Bound::Included(n) => from_first(n),
        Bound::Excluded(n) => from_first(n) + 1,
        Bound::Unbounded => 0,
    };
    let behind = match end {
        Bound::Included(n) => from_first(n) + 1,
        Bound::Excluded(n) => from_first(n),
        Bound::Unbounded => len,
    };
    let within = (0..).zip(all).filter(|(n, _)| (first..behind).contains(n));
    within.map(|(_, entry)| entry).collect()
}

/// What becomes of one member: its score then, if the condition held.
fn added(condition: AddIf, before: Option<f64>, score: f64) -> Option<f64> {
    let holds = match (condition, before) {
        (AddIf::Always, _) => true,
        (AddIf::Absent, before) => before.is_none(),
        (AddIf::Present, before) => before.is_some(),
        (AddIf::Greater | AddIf::Less, None) => true,
        (AddIf::PresentAndGreater | AddIf::PresentAndLess, None) => false,
        (AddIf::Greater | AddIf::PresentAndGreater, Some(before)) => score > before,
        (AddIf::Less | AddIf::PresentAndLess, Some(before)) => score < before,
    };
    holds.then_some(score)
}

fn combined(a: &Model, b: &Model, aggregate: Aggregate, weights: &[f64]) -> (Model, Model) {
    let weight = |n: usize| weights.get(n).copied().unwrap_or(1.0);
    let join = |x: f64, y: f64| match aggregate {
        // The server takes what is not a number for zero.
        Aggregate::Sum if (x + y).is_nan() => 0.0,
        Aggregate::Sum => x + y,
        Aggregate::Min => x.min(y),
        Aggregate::Max => x.max(y),
    };
    let mut union: Model = a.iter().map(|(m, s)| (*m, s * weight(0))).collect();
    let mut common = Model::new();
    for (member, score) in b {
        let score = score * weight(1);
        let joined = match union.get(member) {
            Some(first) => {
                let joined = join(*first, score);
                common.insert(*member, joined);
                joined
            }
            None => score,
        };
        union.insert(*member, joined);
    }
    (union, common)
}

async fn step(sets: &[SortedSet<u8>], models: &mut [Model], op: Op) -> Result<(), Error> {
    match op {
        Op::Add(n, condition, counts_changed, members) => {
            let (mut new, mut changed) = (0, 0);
            for (member, score) in &members {
                let before = models[n].get(member).copied();
                if let Some(score) = added(condition, before, *score) {
                    new += usize::from(before.is_none());
                    changed += usize::from(before.is_some_and(|before| before != score));
                    models[n].insert(*member, score);
                }
            }
            let add = Add::when(condition);
            let add = if counts_changed {
                add.count_changed()
            } else {
                add
            };
            let count = sets[n]
                .add_with(add, members.iter().map(|(m, s)| (m, *s)))
                .await?;
            assert_eq!(count, if counts_changed { new + changed } else { new });
        }
        Op::Increment(n, condition, member, by) => {
            let before = models[n].get(&member).copied();
            let expected = added(condition, before, before.unwrap_or(0.0) + by);
            assert_eq!(
                sets[n].increment_if(condition, &member, by).await?,
                expected
            );
            if let Some(score) = expected {
                models[n].insert(member, score);
            }
        }
        Op::Remove(n, members) => {
            let before = models[n].len();
            models[n].retain(|member, _| !members.contains(member));
            assert_eq!(
                sets[n].remove_many(&members).await?,
                before - models[n].len()
            );
        }
        Op::Look(n, member) => {
            let score = models[n].get(&member).copied();
            assert_eq!(sets[n].score(&member).await?, score);
            assert_eq!(sets[n].scores([&member, &99]).await?, [score, None]);
            for order in [Order::Ascending, Order::Descending] {
                let rank = ranked(&models[n], (Bound::Unbounded, Bound::Unbounded), order)
                    .iter()
                    .position(|(present, _)| *present == member);
                assert_eq!(sets[n].rank(&member, order).await?, rank);
                let both = rank.zip(score);
                assert_eq!(sets[n].rank_with_score(&member, order).await?, both);
            }
        }
        Op::Pop(n, max, count) => {
            let order = if max {
                Order::Descending
            } else {
                Order::Ascending
            };
            let range = (Bound::Unbounded, Bound::Excluded(i64::from(count)));
            let expected = ranked(&models[n], range, order);
            let taken = match max {
                true => sets[n].pop_max_many(count).await?,
                false => sets[n].pop_min_many(count).await?,
            };
            assert_eq!(taken, expected);
            for (member, _) in taken {
                models[n].remove(&member);
            }
        }
        Op::ByRank(n, range, order) => {
            let expected = ranked(&models[n], range, order);
            assert_eq!(
                sets[n].range_by_rank(range, order).await?,
                expected,
                "{range:?}"
            );
        }
        Op::ByScore(n, range, descending, offset, limit) => {
            let mut expected = sorted(&models[n]);
            expected.retain(|(_, score)| range.contains(score));
            assert_eq!(sets[n].count_by_score(range).await?, expected.len());
            let mut select = Select::ascending();
            if descending {
                expected.reverse();
                select = Select::descending();
            }
            let most = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
            let skip = usize::try_from(offset).unwrap();
            let expected: Vec<_> = expected.into_iter().skip(skip).take(most).collect();
            let select = select.offset(offset);
            let select = limit.map_or(select, |limit| select.limit(limit));
            assert_eq!(sets[n].range_by_score(range, select).await?, expected);
        }
        Op::RemoveByScore(n, range) => {
            let before = models[n].len();
            models[n].retain(|_, score| !range.contains(score));
            let removed = sets[n].remove_by_score(range).await?;
            assert_eq!(removed, before - models[n].len());
        }
        Op::RemoveByRank(n, range) => {
            let gone = ranked(&models[n], range, Order::Ascending);
            assert_eq!(sets[n].remove_by_rank(range).await?, gone.len());
            for (member, _) in gone {
                models[n].remove(&member);
            }
        }
        Op::Combine(a, b, aggregate, weights) => {
            let combine = Combine::by(aggregate).weights(weights.clone());
            let (union, common) = combined(&models[a], &models[b], aggregate, &weights);
            assert_eq!(sets[a].union([&sets[b]], &combine).await?, sorted(&union));
            assert_eq!(
                sets[a].intersection([&sets[b]], &combine).await?,
                sorted(&common)
            );
            assert_eq!(
                sets[a].intersection_len([&sets[b]], None).await?,
                common.len()
            );
            let mut rest = models[a].clone();
            rest.retain(|member, _| !models[b].contains_key(member));
            assert_eq!(sets[a].difference([&sets[b]]).await?, sorted(&rest));
        }
        Op::Store(target, a, b) => {
            let (union, _) = combined(&models[a], &models[b], Aggregate::Max, &[]);
            let of = [&sets[a], &sets[b]];
            let stored = sets[target].store_union(of, &Combine::max()).await?;
            assert_eq!(stored, union.len());
            models[target] = union;
        }
    }
    for (set, model) in sets.iter().zip(models) {
        assert_eq!(
            set.range_by_rank(.., Order::Ascending).await?,
            sorted(model)
        );
        let scan = set.scan(Pattern::all()).page(2).collect().await?;
        assert_eq!(scan.into_iter().collect::<Model>(), *model);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_sorted_set_is_a_sorted_map(ops in vec(op(), 1..50)) {
        on_embedded(|client| async move {
            let sets: Vec<SortedSet<u8>> = ["{z}a", "{z}b"].map(|key| SortedSet::new(&client, key).unwrap()).into();
            let mut models = vec![Model::new(); 2];
            for op in ops {
                step(&sets, &mut models, op).await.unwrap();
            }
        });
    }
}
