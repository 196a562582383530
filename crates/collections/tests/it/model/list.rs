//! A list is a deque.

use std::collections::VecDeque;
use std::ops::Bound;

use proptest::collection::vec;
use proptest::prelude::*;
use redkit_collections::{End, Error, List, Occurrences};

use super::on_embedded;

type Range = (Bound<i64>, Bound<i64>);

#[derive(Debug, Clone)]
enum Op {
    Push(bool, Vec<u8>),
    PushIfExists(bool, u8),
    PushCapped(bool, Vec<u8>, u32),
    Pop(bool, u32),
    Range(Range),
    Trim(Range),
    Get(i64),
    Set(i64, u8),
    Insert(bool, u8, u8),
    Remove(u8, Occurrences),
    Positions(u8, Occurrences),
    Rotate(bool, bool),
    Stream(u32),
}

fn bound() -> impl Strategy<Value = Bound<i64>> {
    prop_oneof![
        (-6..7_i64).prop_map(Bound::Included),
        (-6..7_i64).prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let (flag, item) = (any::<bool>, || 0..4_u8);
    let items = || vec(0..4_u8, 0..4);
    let which = || {
        prop_oneof![
            Just(Occurrences::All),
            (0..3_u32).prop_map(Occurrences::First),
            (0..3_u32).prop_map(Occurrences::Last),
        ]
    };
    prop_oneof![
        (flag(), items()).prop_map(|(f, i)| Op::Push(f, i)),
        (flag(), item()).prop_map(|(f, i)| Op::PushIfExists(f, i)),
        (flag(), items(), 1..6_u32).prop_map(|(f, i, m)| Op::PushCapped(f, i, m)),
        (flag(), 0..4_u32).prop_map(|(f, n)| Op::Pop(f, n)),
        (bound(), bound()).prop_map(Op::Range),
        (bound(), bound()).prop_map(Op::Trim),
        (-6..6_i64).prop_map(Op::Get),
        (-6..6_i64, item()).prop_map(|(p, i)| Op::Set(p, i)),
        (flag(), item(), item()).prop_map(|(f, p, i)| Op::Insert(f, p, i)),
        (item(), which()).prop_map(|(i, w)| Op::Remove(i, w)),
        (item(), which()).prop_map(|(i, w)| Op::Positions(i, w)),
        (flag(), flag()).prop_map(|(f, t)| Op::Rotate(f, t)),
        (0..5_u32).prop_map(Op::Stream),
    ]
}

/// What is in a range, by its definition: each position counted from both ends.
fn within(model: &VecDeque<u8>, (start, end): Range) -> Vec<u8> {
    let len = i64::try_from(model.len()).unwrap();
    let from_front = |n: i64| if n < 0 { n + len } else { n };
    // Excluded −1 is behind the last as a start; excluded 0 before the first as an end.
    let first = match start {
        Bound::Included(n) => from_front(n),
        Bound::Excluded(n) => from_front(n) + 1,
        Bound::Unbounded => 0,
    };
    let behind = match end {
        Bound::Included(n) => from_front(n) + 1,
        Bound::Excluded(n) => from_front(n),
        Bound::Unbounded => len,
    };
    let inside = |n: &usize| (first..behind).contains(&i64::try_from(*n).unwrap());
    (0..model.len()).filter(inside).map(|n| model[n]).collect()
}

/// The positions of an item, in the order in which they count.
fn found(model: &VecDeque<u8>, item: u8, which: Occurrences) -> Vec<usize> {
    let all = (0..model.len()).filter(|&n| model[n] == item);
    match which {
        Occurrences::All => all.collect(),
        Occurrences::First(n) => all.take(usize::try_from(n).unwrap()).collect(),
        Occurrences::Last(n) => all.rev().take(usize::try_from(n).unwrap()).collect(),
    }
}

fn at(model: &VecDeque<u8>, position: i64) -> Option<usize> {
    let len = i64::try_from(model.len()).unwrap();
    let position = if position < 0 {
        position + len
    } else {
        position
    };
    usize::try_from(position).ok().filter(|n| *n < model.len())
}

fn push(model: &mut VecDeque<u8>, front: bool, item: u8) {
    match front {
        true => model.push_front(item),
        false => model.push_back(item),
    }
}

fn pop(model: &mut VecDeque<u8>, front: bool) -> Option<u8> {
    match front {
        true => model.pop_front(),
        false => model.pop_back(),
    }
}

async fn step(list: &List<u8>, model: &mut VecDeque<u8>, op: Op) -> Result<(), Error> {
    match op {
        Op::Push(front, items) => {
            for &item in &items {
                push(model, front, item);
            }
            let len = match front {
                true => list.push_front_many(&items).await?,
                false => list.push_back_many(&items).await?,
            };
            assert_eq!(len, model.len());
        }
        Op::PushIfExists(front, item) => {
            if !model.is_empty() {
                push(model, front, item);
            }
            let len = match front {
                true => list.push_front_if_exists(&item).await?,
                false => list.push_back_if_exists(&item).await?,
            };
            assert_eq!(len, model.len());
        }
        Op::PushCapped(front, items, most) => {
            for &item in &items {
                push(model, front, item);
            }
            while !items.is_empty() && model.len() > usize::try_from(most).unwrap() {
                pop(model, !front);
            }
            let len = match front {
                true => list.push_front_capped(&items, most).await?,
                false => list.push_back_capped(&items, most).await?,
            };
            assert_eq!(len, model.len());
        }
        Op::Pop(front, count) => {
            let expected: Vec<u8> = (0..count).map_while(|_| pop(model, front)).collect();
            let taken = match front {
                true => list.pop_front_many(count).await?,
                false => list.pop_back_many(count).await?,
            };
            assert_eq!(taken, expected);
        }
        Op::Range(range) => assert_eq!(list.range(range).await?, within(model, range), "{range:?}"),
        Op::Trim(range) => {
            list.trim(range).await?;
            *model = within(model, range).into();
        }
        Op::Get(position) => {
            let expected = at(model, position).map(|n| model[n]);
            assert_eq!(list.get(position).await?, expected);
        }
        Op::Set(position, item) => {
            let place = at(model, position);
            assert_eq!(list.set(position, &item).await?, place.is_some());
            if let Some(place) = place {
                model[place] = item;
            }
        }
        Op::Insert(before, pivot, item) => {
            let place = model.iter().position(|present| *present == pivot);
            if let Some(place) = place {
                model.insert(if before { place } else { place + 1 }, item);
            }
            let len = match before {
                true => list.insert_before(&pivot, &item).await?,
                false => list.insert_after(&pivot, &item).await?,
            };
            assert_eq!(len, place.map(|_| model.len()));
        }
        Op::Remove(item, which) => {
            let mut gone = found(model, item, which);
            assert_eq!(list.remove(&item, which).await?, gone.len());
            gone.sort_unstable();
            for place in gone.into_iter().rev() {
                model.remove(place);
            }
        }
        Op::Positions(item, which) => {
            assert_eq!(
                list.positions(&item, which).await?,
                found(model, item, which)
            );
            let first = model.iter().position(|present| *present == item);
            assert_eq!(list.position(&item).await?, first);
        }
        Op::Rotate(from_front, to_front) => {
            let moved = pop(model, from_front);
            if let Some(item) = moved {
                push(model, to_front, item);
            }
            let end = |front| if front { End::Front } else { End::Back };
            assert_eq!(
                list.move_to(list, end(from_front), end(to_front)).await?,
                moved
            );
        }
        Op::Stream(page) => {
            let expected: Vec<u8> = model.iter().copied().collect();
            assert_eq!(list.stream().page(page).collect().await?, expected);
        }
    }
    assert_eq!(*model, list.range(..).await?);
    Ok(())
}

proptest! {
    #[test]
    fn a_list_is_a_deque(ops in vec(op(), 1..60)) {
        on_embedded(|client| async move {
            let (list, mut model) = (List::new(&client, "l"), VecDeque::new());
            for op in ops {
                step(&list, &mut model, op).await.unwrap();
            }
        });
    }
}
