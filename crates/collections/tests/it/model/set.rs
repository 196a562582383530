//! A set is a set.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use redkit_collections::{Error, Set};
use redkit_core::Pattern;

use super::on_embedded;

type Model = BTreeSet<u8>;

#[derive(Debug, Clone)]
enum Op {
    Add(usize, Vec<u8>),
    Remove(usize, Vec<u8>),
    Contains(usize, Vec<u8>),
    Move(usize, usize, u8),
    Pop(usize, u32),
    Combine(usize, usize),
    Store(usize, usize, usize, u8),
    Scan(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (set, members) = (|| 0..3_usize, || vec(0..8_u8, 0..5));
    prop_oneof![
        (set(), members()).prop_map(|(s, m)| Op::Add(s, m)),
        (set(), members()).prop_map(|(s, m)| Op::Remove(s, m)),
        (set(), members()).prop_map(|(s, m)| Op::Contains(s, m)),
        (set(), set(), 0..8_u8).prop_map(|(a, b, m)| Op::Move(a, b, m)),
        (set(), 0..3_u32).prop_map(|(s, n)| Op::Pop(s, n)),
        (set(), set()).prop_map(|(a, b)| Op::Combine(a, b)),
        (set(), set(), set(), 0..3_u8).prop_map(|(t, a, b, how)| Op::Store(t, a, b, how)),
        set().prop_map(Op::Scan),
    ]
}

fn same(members: Vec<u8>, expected: Model) {
    assert_eq!(members.len(), expected.len(), "each once");
    assert_eq!(members.into_iter().collect::<Model>(), expected);
}

async fn step(sets: &[Set<u8>], models: &mut [Model], op: Op) -> Result<(), Error> {
    match op {
        Op::Add(n, members) => {
            let before = models[n].len();
            models[n].extend(&members);
            assert_eq!(sets[n].add_many(&members).await?, models[n].len() - before);
        }
        Op::Remove(n, members) => {
            let before = models[n].len();
            models[n].retain(|member| !members.contains(member));
            assert_eq!(
                sets[n].remove_many(&members).await?,
                before - models[n].len()
            );
        }
        Op::Contains(n, members) => {
            let expected: Vec<bool> = members.iter().map(|m| models[n].contains(m)).collect();
            assert_eq!(sets[n].contains_many(&members).await?, expected);
            for (member, expected) in members.iter().zip(expected) {
                assert_eq!(sets[n].contains(member).await?, expected);
            }
        }
        Op::Move(from, to, member) => {
            let was_there = models[from].remove(&member);
            if was_there {
                models[to].insert(member);
            }
            assert_eq!(sets[from].move_to(&sets[to], &member).await?, was_there);
        }
        Op::Pop(n, count) => {
            let taken = sets[n].pop_many(count).await?;
            let expected = models[n].len().min(usize::try_from(count).unwrap());
            assert_eq!(taken.len(), expected);
            for member in taken {
                assert!(models[n].remove(&member));
            }
        }
        Op::Combine(a, b) => {
            same(sets[a].union([&sets[b]]).await?, &models[a] | &models[b]);
            let common = &models[a] & &models[b];
            assert_eq!(
                sets[a].intersection_len([&sets[b]], None).await?,
                common.len()
            );
            assert_eq!(
                sets[a].intersection_len([&sets[b]], Some(2)).await?,
                common.len().min(2)
            );
            same(sets[a].intersection([&sets[b]]).await?, common);
            same(
                sets[a].difference([&sets[b]]).await?,
                &models[a] - &models[b],
            );
        }
        Op::Store(target, a, b, how) => {
            let of = [&sets[a], &sets[b]];
            let (len, result) = match how {
                0 => (sets[target].store_union(of).await?, &models[a] | &models[b]),
                1 => (
                    sets[target].store_intersection(of).await?,
                    &models[a] & &models[b],
                ),
                _ => (
                    sets[target].store_difference(of).await?,
                    &models[a] - &models[b],
                ),
            };
            assert_eq!(len, result.len());
            models[target] = result;
        }
        Op::Scan(n) => {
            let scan = sets[n].scan(Pattern::all()).page(2).collect().await?;
            assert_eq!(scan.into_iter().collect::<Model>(), models[n]);
            let chosen = sets[n].random_many(3).await?;
            assert!(chosen.iter().all(|member| models[n].contains(member)));
        }
    }
    for (set, model) in sets.iter().zip(models) {
        same(set.members().await?, model.clone());
        assert_eq!(set.len().await?, model.len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_set_is_a_set(ops in vec(op(), 1..60)) {
        on_embedded(|client| async move {
            let sets: Vec<Set<u8>> = ["{s}a", "{s}b", "{s}c"].map(|key| Set::new(&client, key).unwrap()).into();
            let mut models = vec![Model::new(); 3];
            for op in ops {
                step(&sets, &mut models, op).await.unwrap();
            }
        });
    }
}
