//! Semaphores: what lost replies, late replies and outages leave.

use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use redkit_lock::Error;
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::sleep;

use crate::SECOND;
use crate::semaphores::{builder, free, semaphore, warm_up};

const MOMENT: Duration = Duration::from_millis(10);

/// The reply to the call that takes is lost: the call is repeated by its token, and takes once.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_takes_no_permits_twice() {
    let backend = FaultyBackend::embedded();
    let config = redkit_core::ClientConfig::default().retry(3, MOMENT, MOMENT);
    let semaphore = semaphore(&backend.client_with(&config), 3);
    warm_up(&semaphore).await;
    backend.add(Rule::new(Injection::LoseReply).times(1));
    let permits = semaphore.try_acquire("k", 2).await.unwrap().unwrap();
    assert_eq!(free(&semaphore).await, 1);
    // The same for a part that is given back, and for the rest.
    let mut permits = permits;
    backend.add(Rule::new(Injection::LoseReply).times(1));
    permits.release_some(1).await.unwrap();
    assert_eq!(free(&semaphore).await, 2);
    backend.add(Rule::new(Injection::LoseReply).times(1));
    permits.release().await.unwrap();
    assert_eq!(free(&semaphore).await, 3);
}

/// Without a retry a caller that knows nothing of its call gets an error, and what the call may have
/// taken is given back.
#[tokio::test(start_paused = true)]
async fn what_a_failed_call_took_is_given_back() {
    let backend = FaultyBackend::embedded();
    let semaphore = semaphore(&backend.client(), 2);
    warm_up(&semaphore).await;
    backend.add(Rule::new(Injection::LoseReply).times(1));
    let error = semaphore.try_acquire("k", 2).await.unwrap_err();
    assert!(
        matches!(&error, Error::Core(core) if core.is_maybe()),
        "{error}"
    );
    sleep(Duration::from_millis(100)).await;
    assert_eq!(free(&semaphore).await, 2);
}

/// The reply comes when the lease is over: another caller may have the permits.
#[tokio::test(start_paused = true)]
async fn permits_that_come_later_than_their_lease_are_not_handed_out() {
    let backend = FaultyBackend::embedded();
    let lease = Duration::from_millis(200);
    let recorder = DebuggingRecorder::new();
    let semaphore = metrics::with_local_recorder(&recorder, || {
        builder(&backend.client(), 2).lease(lease).build().unwrap()
    });
    warm_up(&semaphore).await;
    // Since they were last asked for: a snapshot begins all counters anew.
    let counted = || {
        let snapshot = recorder.snapshotter().snapshot().into_vec();
        ["acquired", "failed"].map(|outcome| {
            let count = snapshot.iter().find_map(|(key, _, _, value)| {
                let key = key.key();
                let is_it = key.name() == "redkit_semaphore_acquires_total"
                    && key.labels().any(|label| label.value() == outcome);
                match value {
                    DebugValue::Counter(count) if is_it => Some(*count),
                    _ => None,
                }
            });
            count.unwrap()
        })
    };
    assert_eq!(counted(), [1, 0]);
    backend.add(Rule::new(Injection::DelayReply(2 * lease)).times(1));
    assert!(matches!(
        semaphore.try_acquire("k", 1).await,
        Err(Error::Lost)
    ));
    assert_eq!((semaphore.held(), semaphore.lost()), (0, 1));
    assert_eq!(counted(), [0, 1]);
    sleep(SECOND).await;
    assert_eq!(free(&semaphore).await, 2);
}

/// The caller has no more than it certainly has, whatever became of the call.
#[tokio::test(start_paused = true)]
async fn a_part_of_whose_release_nothing_is_known_is_not_held_any_more() {
    let backend = FaultyBackend::embedded();
    let semaphore = semaphore(&backend.client(), 5);
    warm_up(&semaphore).await;
    let mut permits = semaphore.try_acquire("k", 5).await.unwrap().unwrap();
    backend.add(Rule::new(Injection::LoseReply).times(1));
    assert!(permits.release_some(2).await.is_err());
    assert_eq!((permits.count(), semaphore.held()), (3, 3));
    permits.release_some(1).await.unwrap();
    assert_eq!((permits.count(), free(&semaphore).await), (2, 3));
    // What was not sent is sent in the background; and after a further call it takes nothing back.
    backend.add(Rule::new(Injection::NotSent).times(1));
    assert!(permits.release_some(1).await.is_err());
    sleep(3 * SECOND).await;
    assert_eq!((permits.count(), free(&semaphore).await), (1, 4));
    assert!(permits.release().await.unwrap());
    assert_eq!((semaphore.held(), free(&semaphore).await), (0, 5));
}

/// A dropped guard whose release fails is released later, and once.
#[tokio::test(start_paused = true)]
async fn permits_dropped_in_an_outage_are_given_back_after_it() {
    let backend = FaultyBackend::embedded();
    let semaphore = semaphore(&backend.client(), 2);
    let permits = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
    let other = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
    backend.set(Rule::new(Injection::LoseReply));
    drop(permits);
    sleep(3 * SECOND).await;
    backend.clear();
    sleep(3 * SECOND).await;
    let state = semaphore.state("k").await.unwrap();
    assert_eq!((state.taken, state.free()), (1, 1));
    other.release().await.unwrap();
}
