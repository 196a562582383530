//! Cases from the test lists of other lock libraries for which there is no test elsewhere: `docs/guarantees/lock.md`
//! has the table.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::Command;
use redkit_lock::{LockManager, Semaphore};
use redkit_testkit::Fixture;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{LONG, SECOND, builder, eventually, key_of, manager};

redkit_testkit::suite! {
    async fn names_that_differ_in_case_are_different_locks(fixture: Fixture) {
        let locks = manager(&fixture.client);
        let lower = locks.try_acquire("name").await.unwrap();
        let upper = locks.try_acquire("NAME").await.unwrap();
        assert!(locks.try_acquire("name").await.is_err());
        assert!(lower.release().await.unwrap() && upper.release().await.unwrap());
    }

    async fn a_watcher_that_comes_after_the_loss_is_told_at_once(fixture: Fixture) {
        let locks = manager(&fixture.client);
        let guard = locks.try_acquire("k").await.unwrap();
        assert!(locks.force_release("k", guard.fence()).await.unwrap());
        guard.extend().await.unwrap_err();
        timeout(Duration::from_millis(500), guard.lost()).await.expect("it is lost already");
        let ran = guard.run(std::future::pending::<()>()).await;
        assert!(matches!(ran, Err(redkit_lock::Error::Lost)), "{ran:?}");
    }

    /// Holders that never give the lock back: the queue moves on as their times run out.
    #[paused]
    async fn a_queue_keeps_its_order_as_holders_run_out_of_time(fixture: Fixture) {
        let locks = builder(&fixture.client).fair(true).hold_at_most(SECOND).build().unwrap();
        let first = locks.try_acquire("k").await.unwrap();
        let served: Arc<Mutex<Vec<usize>>> = Arc::default();
        let mut callers = JoinSet::new();
        for n in 0..8 {
            let (locks, served) = (locks.clone(), Arc::clone(&served));
            callers.spawn(async move {
                let guard = locks.acquire("k", LONG).await.unwrap();
                served.lock().push(n);
                std::mem::forget(guard);
            });
            let queue = Command::new("ZCARD").key(key_of(&fixture.client, "k", ":queue"));
            eventually("it has joined", async || {
                fixture.client.call::<usize>(queue.clone()).await.unwrap() == n + 1
            })
            .await;
        }
        let start = Instant::now();
        std::mem::forget(first);
        callers.join_all().await;
        assert_eq!(*served.lock(), (0..8).collect::<Vec<_>>());
        // Each is looked for once a second at the latest.
        assert!(start.elapsed() < 20 * SECOND, "{:?}", start.elapsed());
    }

    async fn all_readers_that_wait_for_a_writer_are_let_in_together(fixture: Fixture) {
        let documents = LockManager::builder(&fixture.client, "docs").build_read_write().unwrap();
        let writer = documents.write("k", Duration::ZERO).await.unwrap();
        let mut readers = JoinSet::new();
        for _ in 0..20 {
            let documents = documents.clone();
            readers.spawn(async move { documents.read("k", LONG).await.unwrap() });
        }
        eventually("they wait", async || documents.stats().waiting == 20).await;
        // And their subscription stands.
        sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        assert!(writer.release().await.unwrap());
        let readers = readers.join_all().await;
        // The writer's lease is ten seconds.
        assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
        assert_eq!(documents.inspect("k").await.unwrap().readers, 20);
        for reader in readers {
            assert!(reader.release().await.unwrap());
        }
        assert!(documents.write("k", SECOND).await.is_ok());
    }

    async fn permits_are_drained_and_given_back_in_any_order(fixture: Fixture) {
        let of = |name, permits| Semaphore::builder(&fixture.client, name).permits(permits).build().unwrap();
        let semaphore = of("drained", 10);
        for _ in 0..2 {
            let mut held = Vec::new();
            while let Some(permits) = semaphore.try_acquire("k", 1).await.unwrap() {
                held.push(permits);
            }
            assert_eq!(held.len(), 10);
            for n in [3, 7, 0, 5, 2, 2, 1, 0, 1, 0] {
                assert!(held.remove(n).release().await.unwrap());
            }
            assert_eq!(semaphore.state("k").await.unwrap().free(), 10);
        }
        // As many as there can be.
        let semaphore = of("many", 1_000_000);
        let most = semaphore.try_acquire("k", 999_999).await.unwrap().unwrap();
        let last = semaphore.try_acquire("k", 1).await.unwrap().unwrap();
        assert!(semaphore.try_acquire("k", 1).await.unwrap().is_none());
        assert!(most.release().await.unwrap() && last.release().await.unwrap());
    }
}
