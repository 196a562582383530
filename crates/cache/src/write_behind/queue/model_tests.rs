//! The queue's scripts against a model of what they promise: random writes, batches, reports (also
//! of workers whose lease is over), redrives and passing time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use redkit_core::{Client, ClientConfig};
use redkit_embedded::Embedded;
use tokio::time::Instant;

use super::super::settings::Settings;
use super::super::write_id::WriteId;
use super::model::{Model, Newest, Place};
use super::{Ending, Item, Partition, Put, Queue, Take};

const MAX_AGE: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_millis(1000);
const MAX_BATCH: u32 = 4;
const MAX_PENDING: u32 = 6;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    /// An earlier write is sent once more.
    Repeat(prop::sample::Index),
    Take(u8),
    /// Of the worker's last batch, whether it still has the lease or not.
    Report(u8, Vec<u8>),
    Renew(u8),
    Advance(u16),
    Flush,
    Redrive(u8),
    Discard(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..8_u8;
    let worker = 0..3_u8;
    let step = prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => key.clone().prop_map(Step::Delete),
        1 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        5 => worker.clone().prop_map(Step::Take),
        5 => (worker.clone(), prop::collection::vec(0..6_u8, 4))
            .prop_map(|(worker, verdicts)| Step::Report(worker, verdicts)),
        1 => worker.prop_map(Step::Renew),
        4 => prop_oneof![0..30_u16, 90..130_u16, 900..1200_u16].prop_map(Step::Advance),
        1 => Just(Step::Flush),
        1 => key.clone().prop_map(Step::Redrive),
        1 => key.prop_map(Step::Discard),
    ];
    prop::collection::vec(step, 1..120)
}

fn number(item: &Item) -> u8 {
    item.key[0]
}

async fn run(steps: Vec<Step>) {
    let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default()).unwrap();
    let settings = Settings {
        partitions: 1,
        max_batch: MAX_BATCH,
        max_age: MAX_AGE,
        max_pending: MAX_PENDING,
        lease: LEASE,
        ..Settings::default()
    };
    let queue = Queue::new(client, "model", settings).unwrap();
    queue.open().await.unwrap();
    let partition = &queue.partitions[0];
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Put(key, value) => {
                let change = Bytes::from(format!("v{value} \0\n{value}"));
                write(&queue, &mut model, key, change).await;
            }
            Step::Delete(key) => write(&queue, &mut model, key, Bytes::from_static(b"d")).await,
            Step::Repeat(_) if model.writes.is_empty() => {}
            Step::Repeat(index) => {
                let (id, key, change, version) = index.get(&model.writes).clone();
                let put = partition.put(&[key], &change, id, &queue.settings).await;
                assert_eq!(put.unwrap(), Put::Repeated { version });
            }
            Step::Take(worker) => take(&queue, &mut model, worker).await,
            Step::Report(worker, verdicts) => {
                report(partition, &mut model, worker, &verdicts).await
            }
            Step::Renew(worker) => {
                let Some((token, _)) = model.batches.get(&worker) else {
                    continue;
                };
                let is_owner = model.lease.is_some_and(|(owner, _)| owner == worker);
                let renew = partition.lease_key().renew(token, LEASE);
                let renewed: bool = queue.client.eval(renew).await.unwrap();
                assert_eq!(renewed, is_owner);
                if is_owner {
                    model.lease = Some((worker, Instant::now() + LEASE));
                }
            }
            Step::Advance(ms) => tokio::time::advance(Duration::from_millis(ms.into())).await,
            Step::Flush => {
                model.flushed = partition.flush().await.unwrap();
                assert_eq!(model.flushed, model.last);
            }
            Step::Redrive(key) => redrive(partition, &mut model, key).await,
            Step::Discard(key) => {
                let discarded = partition.discard(&[Bytes::from(vec![key])]).await.unwrap();
                let letter = model.letters.remove(&key);
                assert_eq!(discarded, u64::from(letter.is_some()));
                if let Some(newest) = model.newest.get_mut(&key)
                    && newest.place == Place::Dead
                {
                    newest.place = Place::Discarded;
                }
            }
        }
        check(partition, &model).await;
    }
}

async fn write(queue: &Queue, model: &mut Model, key: u8, change: Bytes) {
    let is_pending = model
        .newest
        .get(&key)
        .is_some_and(|n| n.place == Place::Pending);
    let id = WriteId::random();
    let put = queue.partitions[0]
        .put(&[key], &change, id, &queue.settings)
        .await
        .unwrap();
    match put {
        Put::Full { pending } => {
            assert!(!is_pending, "a pending key can always be written");
            assert!(pending >= u64::from(MAX_PENDING));
            assert_eq!(pending, model.pending() as u64);
        }
        Put::Accepted {
            version,
            pending,
            coalesced,
        } => {
            assert_eq!(coalesced, is_pending);
            model.accepted(key, change.clone(), version);
            assert_eq!(pending, model.pending() as u64);
            // A redriven change does not count for the limit.
            assert!(coalesced || pending <= u64::from(MAX_PENDING));
            model.writes.push((id, key, change, version));
        }
        Put::Repeated { .. } => panic!("a new id"),
    }
}

async fn take(queue: &Queue, model: &mut Model, worker: u8) {
    let now = Instant::now();
    let token = format!("{worker}-{}", rand::random::<u64>());
    let taken = queue.partitions[0]
        .take(&token, &queue.settings)
        .await
        .unwrap();
    assert_eq!(taken.pending, model.pending() as u64);
    let is_leased = model.lease.is_some_and(|(_, ends)| now < ends);
    if let Take::Leased(left) = taken.take {
        assert!(is_leased);
        assert_eq!(left, model.lease.unwrap().1 - now);
        return;
    }
    assert!(!is_leased, "one worker at a time");
    // The lease of whoever had it is over: its batch failed with it.
    let lost = model.in_flight();
    let is_alone = lost.len() == 1;
    for item in &lost {
        let newest = model.newest.get_mut(&number(item)).unwrap();
        newest.behind = None;
        if newest.version == item.version && newest.place == Place::Pending {
            if is_alone {
                newest.own += 1
            } else {
                newest.shared += 1
            }
        }
    }
    model.lease = None;
    let rests = |newest: &Newest| newest.rests_until.is_some_and(|until| now < until);
    let ready: Vec<&Newest> = model
        .newest
        .values()
        .filter(|newest| newest.place == Place::Pending && !rests(newest))
        .collect();
    match taken.take {
        Take::Leased(_) => unreachable!(),
        Take::Nothing(_) => {
            assert!(ready.len() < MAX_BATCH as usize, "enough for a batch");
            // Versions may run a few microseconds ahead of the clock.
            let is_due = |n: &&Newest| now >= n.since.0 + MAX_AGE + Duration::from_millis(1);
            assert!(!ready.iter().any(is_due), "something was due");
            assert!(
                !ready.iter().any(|n| n.since.1 <= model.flushed),
                "a flush waits"
            );
        }
        Take::Batch(items) => {
            assert!(!items.is_empty() && items.len() <= MAX_BATCH as usize);
            let mut seen = HashSet::new();
            for item in &items {
                let key = number(item);
                assert!(seen.insert(key), "each key once");
                let newest = &model.newest[&key];
                assert_eq!(newest.place, Place::Pending);
                assert_eq!(
                    (item.version, &item.change),
                    (newest.version, &newest.change)
                );
                assert_eq!((item.own, item.shared), (newest.own, newest.shared));
                assert!(!rests(newest), "before its pause was over");
                let given = model.given.insert(key, item.version);
                assert!(
                    given <= Some(item.version),
                    "an older one after a newer one"
                );
                let room = (MAX_BATCH >> newest.shared.min(31)).max(1);
                assert!(items.len() <= room as usize, "smaller after failures");
            }
            for item in &items {
                model.newest.get_mut(&number(item)).unwrap().rests_until = None;
            }
            model.lease = Some((worker, now + LEASE));
            model.batches.insert(worker, (token, items));
        }
    }
}

async fn report(partition: &Partition, model: &mut Model, worker: u8, verdicts: &[u8]) {
    let Some((token, items)) = model.batches.get(&worker).cloned() else {
        return;
    };
    let now = Instant::now();
    let pause = Duration::from_millis(40);
    let endings: Vec<_> = items
        .iter()
        .zip(verdicts)
        .map(|(item, verdict)| {
            let ending = match verdict {
                0 | 1 => Ending::Written,
                2 => Ending::Failed(pause),
                3 => Ending::BatchFailed(pause),
                4 => Ending::Untried(Duration::ZERO),
                _ => Ending::Dead("no".into()),
            };
            (item.key.clone(), item.version, ending)
        })
        .collect();
    let is_owner = model.lease.is_some_and(|(owner, _)| owner == worker);
    let noted = partition.report(&token, &endings).await.unwrap();
    if !is_owner {
        // Taken over since, or reported already: whatever is said changes nothing, which `check`
        // sees to.
        return;
    }
    assert!(noted);
    assert!(
        partition.report(&token, &endings).await.unwrap(),
        "again, for a lost reply"
    );
    model.lease = None;
    for (item, (_, _, ending)) in items.iter().zip(endings) {
        let key = number(item);
        let newest = model.newest.get_mut(&key).unwrap();
        if newest.version == item.version {
            match &ending {
                Ending::Written => newest.place = Place::Written,
                Ending::Failed(_) => newest.own += 1,
                Ending::BatchFailed(_) => newest.shared += 1,
                Ending::Untried(_) => {}
                Ending::Dead(_) => {
                    newest.place = Place::Dead;
                    model.letters.insert(key, item.version);
                }
            }
        }
        let behind = newest.behind.take();
        if let (Some(behind), Ending::Written | Ending::Dead(_)) = (behind, &ending) {
            newest.since = behind;
        }
        if matches!(ending, Ending::Failed(_) | Ending::BatchFailed(_)) {
            newest.rests_until = Some(now + pause);
        }
    }
}

async fn redrive(partition: &Partition, model: &mut Model, key: u8) {
    let result = partition.redrive(&[Bytes::from(vec![key])]).await.unwrap();
    let Some(letter) = model.letters.get(&key) else {
        assert_eq!(result, [0, 0, 1]);
        return;
    };
    let newest = model.newest.get_mut(&key).unwrap();
    if newest.version != *letter {
        assert_eq!(result, [0, 1, 0], "written since");
        return;
    }
    assert_eq!(result, [1, 0, 0]);
    model.letters.remove(&key);
    newest.place = Place::Pending;
    (newest.own, newest.shared, newest.rests_until) = (0, 0, None);
    // A redrive counts as a version for the ages, though the change keeps its own.
    model.last = partition.flush().await.unwrap();
    model.flushed = model.last;
    model.newest.get_mut(&key).unwrap().since = (Instant::now(), model.last);
}

/// Nothing is lost and nothing comes back: what readers see, and what is counted.
async fn check(partition: &Partition, model: &Model) {
    for key in 0..8_u8 {
        let seen = partition.look(&[key]).await.unwrap();
        let pending = model
            .newest
            .get(&key)
            .filter(|newest| newest.place == Place::Pending);
        let expected = pending.map(|newest| (newest.version, newest.change.clone()));
        assert_eq!(seen, expected, "key {key}");
    }
    let contents = partition.contents().await.unwrap();
    assert_eq!(contents.pending, model.pending() as u64);
    let older = partition.older(model.flushed).await.unwrap();
    assert_eq!(older, model.older(model.flushed) as u64, "a flush waits");
    assert_eq!(contents.in_flight, model.in_flight().len() as u64);
    assert_eq!(contents.dead, model.letters.len() as u64);
    let letters = partition.letters(None, 100).await.unwrap();
    assert_eq!(letters.len(), model.letters.len());
    for letter in letters {
        let newest = &model.newest[&letter.key[0]];
        assert_eq!(Some(&letter.version), model.letters.get(&letter.key[0]));
        assert_eq!(letter.is_superseded, newest.version != letter.version);
        assert_eq!(letter.error, "no");
        if !letter.is_superseded {
            assert_eq!(letter.change, newest.change);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_it_promises(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test]
async fn a_copy_of_a_request_that_arrives_after_the_report_takes_nothing() {
    let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default()).unwrap();
    let settings = Settings {
        partitions: 1,
        max_age: Duration::ZERO,
        ..Settings::default()
    };
    let queue = Queue::new(client, "copies", settings).unwrap();
    queue.open().await.unwrap();
    let partition = &queue.partitions[0];
    let put = async || {
        let change = Bytes::from_static(b"d");
        let put = partition.put(b"k", &change, WriteId::random(), &queue.settings);
        assert!(matches!(put.await.unwrap(), Put::Accepted { .. }));
    };
    let take = async |token| partition.take(token, &queue.settings).await.unwrap().take;
    put().await;
    let Take::Batch(items) = take("a").await else {
        panic!("it is due")
    };
    let written = items
        .iter()
        .map(|item| (item.key.clone(), item.version, Ending::Written));
    let written: Vec<_> = written.collect();
    assert!(partition.report("a", &written).await.unwrap());
    put().await;
    let copy = take("a").await;
    assert!(matches!(copy, Take::Nothing(_)), "{copy:?}");
    assert!(
        partition.report("a", &written).await.unwrap(),
        "again, for a lost reply"
    );
    assert!(
        matches!(take("b").await, Take::Batch(_)),
        "nobody has the lease"
    );
}
