//! A hash is a map.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use redkit_collections::{Error, Hash};
use redkit_core::Pattern;

use super::on_embedded;

#[derive(Debug, Clone)]
enum Op {
    Set(String, i64),
    SetMany(Vec<(String, i64)>),
    SetIfAbsent(String, i64),
    Get(Vec<String>),
    Delete(Vec<String>),
    Incr(String, i64),
    Compare(String, Option<i64>, Option<i64>),
    Update(String, Option<i64>),
    All,
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof!["[abc]", Just(String::new()), Just("é\0*".to_owned())]
}

fn value() -> impl Strategy<Value = i64> {
    prop_oneof![-2..3_i64, Just(i64::MAX), Just(i64::MIN)]
}

fn op() -> impl Strategy<Value = Op> {
    let maybe = || proptest::option::of(value());
    prop_oneof![
        (field(), value()).prop_map(|(f, v)| Op::Set(f, v)),
        vec((field(), value()), 0..4).prop_map(Op::SetMany),
        (field(), value()).prop_map(|(f, v)| Op::SetIfAbsent(f, v)),
        vec(field(), 0..4).prop_map(Op::Get),
        vec(field(), 0..3).prop_map(Op::Delete),
        (field(), value()).prop_map(|(f, v)| Op::Incr(f, v)),
        (field(), maybe(), maybe()).prop_map(|(f, e, n)| Op::Compare(f, e, n)),
        (field(), maybe()).prop_map(|(f, n)| Op::Update(f, n)),
        Just(Op::All),
    ]
}

async fn step(hash: &Hash<i64>, model: &mut BTreeMap<String, i64>, op: Op) -> Result<(), Error> {
    match op {
        Op::Set(field, value) => {
            let is_new = model.insert(field.clone(), value).is_none();
            assert_eq!(hash.set(&field, &value).await?, is_new);
        }
        Op::SetMany(entries) => {
            let before = model.len();
            model.extend(entries.iter().cloned());
            let set = hash.set_many(entries.iter().map(|(f, v)| (f, v))).await?;
            assert_eq!(set, model.len() - before);
        }
        Op::SetIfAbsent(field, value) => {
            let set = hash.set_if_absent(&field, &value).await?;
            assert_eq!(set, !model.contains_key(&field));
            model.entry(field).or_insert(value);
        }
        Op::Get(fields) => {
            let expected: Vec<_> = fields.iter().map(|f| model.get(f).copied()).collect();
            assert_eq!(hash.get_many(&fields).await?, expected);
            for (field, expected) in fields.iter().zip(expected) {
                assert_eq!(hash.get(field).await?, expected);
                assert_eq!(hash.contains(field).await?, expected.is_some());
            }
        }
        Op::Delete(fields) => {
            let mut gone: Vec<_> = fields.iter().filter(|f| model.contains_key(*f)).collect();
            gone.sort();
            gone.dedup();
            assert_eq!(hash.delete(&fields).await?, gone.len());
            for field in fields {
                model.remove(&field);
            }
        }
        Op::Incr(field, by) => {
            let sum = model.get(&field).copied().unwrap_or(0).checked_add(by);
            match (hash.incr(&field, by).await, sum) {
                (Ok(got), Some(sum)) => {
                    assert_eq!(got, sum);
                    model.insert(field, sum);
                }
                (Err(Error::Overflow { .. }), None) => {}
                (got, sum) => panic!("{got:?} for {sum:?}"),
            }
        }
        Op::Compare(field, expected, new) => {
            let matches = model.get(&field).copied() == expected;
            let done = match (expected, new) {
                (expected, Some(new)) => {
                    hash.compare_and_set(&field, expected.as_ref(), &new)
                        .await?
                }
                (Some(expected), None) => hash.compare_and_delete(&field, &expected).await?,
                (None, None) => return Ok(()),
            };
            assert_eq!(done, matches);
            match new {
                _ if !matches => {}
                Some(new) => drop(model.insert(field, new)),
                None => drop(model.remove(&field)),
            }
        }
        Op::Update(field, new) => {
            let before = model.get(&field).copied();
            let updated = hash.update(&field, |seen| {
                assert_eq!(seen, before);
                new
            });
            assert_eq!(updated.await?, new);
            match new {
                Some(new) => drop(model.insert(field, new)),
                None => drop(model.remove(&field)),
            }
        }
        Op::All => {
            let all: BTreeMap<String, i64> = hash.get_all().await?.into_iter().collect();
            assert_eq!(all, *model);
            let scan = hash.scan(Pattern::all()).page(2).collect().await?;
            assert_eq!(scan.into_iter().collect::<BTreeMap<String, i64>>(), *model);
            let (mut values, mut expected) = (hash.values().await?, Vec::new());
            expected.extend(model.values().copied());
            values.sort_unstable();
            expected.sort_unstable();
            assert_eq!(values, expected);
        }
    }
    assert_eq!(hash.len().await?, model.len());
    assert_eq!(hash.exists().await?, !model.is_empty());
    Ok(())
}

proptest! {
    #[test]
    fn a_hash_is_a_map(ops in vec(op(), 1..60)) {
        on_embedded(|client| async move {
            let (hash, mut model) = (Hash::new(&client, "h"), BTreeMap::new());
            for op in ops {
                step(&hash, &mut model, op).await.unwrap();
            }
        });
    }
}
