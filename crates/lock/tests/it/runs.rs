//! Work that stands on something which is held: it is dropped when that is lost, whatever the kind, and what is held is
//! given back after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redkit_core::{Client, Command};
use redkit_lock::{Error, LockManager, ReadWriteLocks, Redlock, Semaphore};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::{Instant, sleep, timeout};

use crate::SECOND;

const TTL: Duration = Duration::from_secs(3);

/// Everything that work can stand on.
struct Kinds {
    files: ReadWriteLocks,
    exports: Semaphore,
    jobs: Redlock,
    /// The servers of the last.
    nodes: [Arc<FaultyBackend>; 3],
}

const READER: usize = 0;
const WRITER: usize = 1;
const PERMITS: usize = 2;
const REDLOCK: usize = 3;
const ALL: [usize; 4] = [READER, WRITER, PERMITS, REDLOCK];

/// A future that may outlive what it watches.
type Lost = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Kinds {
    fn new(client: &Client) -> Self {
        let files = LockManager::builder(client, "files").ttl(TTL);
        let exports = Semaphore::builder(client, "exports").permits(1).lease(TTL);
        let nodes = [(); 3].map(|()| FaultyBackend::embedded());
        let clients = nodes.each_ref().map(|node| node.client());
        let jobs = Redlock::builder(&clients, "jobs").ttl(TTL);
        Self {
            files: files.build_read_write().unwrap(),
            exports: exports.build().unwrap(),
            jobs: jobs.build().unwrap(),
            nodes,
        }
    }

    /// All servers fail in this way.
    fn fail(&self, backend: &FaultyBackend, rule: impl Fn() -> Rule) {
        backend.set(rule());
        self.nodes.iter().for_each(|node| node.set(rule()));
    }

    /// Gives `None` where nothing was free.
    async fn run<T>(&self, kind: usize, work: impl Future<Output = T>) -> Result<Option<T>, Error> {
        let wait = Duration::ZERO;
        Ok(Some(match kind {
            READER => self.files.run_reading("k", wait, || work).await?,
            WRITER => self.files.run_writing("k", wait, |_| work).await?,
            PERMITS => return self.exports.run("k", 1, wait, || work).await,
            _ => self.jobs.run("k", wait, |_| work).await?,
        }))
    }

    async fn is_free(&self, kind: usize) -> bool {
        match kind {
            READER | WRITER => match self.files.try_write("k").await {
                Ok(writer) => writer.release().await.unwrap(),
                Err(_) => false,
            },
            PERMITS => match self.exports.try_acquire("k", 1).await.unwrap() {
                Some(permits) => permits.release().await.unwrap(),
                None => false,
            },
            _ => match self.jobs.try_acquire("k").await {
                Ok(guard) => guard.release().await,
                Err(_) => false,
            },
        }
    }

    /// A watch of something that is taken and then given back, by a release or by dropping it.
    async fn watched(&self, kind: usize, is_released: bool) -> Lost {
        macro_rules! watch {
            ($guard:expr) => {{
                let guard = $guard;
                let lost: Lost = Box::pin(guard.lost());
                match is_released {
                    true => drop(guard.release().await),
                    false => drop(guard),
                }
                lost
            }};
        }
        match kind {
            READER => watch!(self.files.try_read("k").await.unwrap()),
            WRITER => watch!(self.files.try_write("k").await.unwrap()),
            PERMITS => watch!(self.exports.try_acquire("k", 1).await.unwrap().unwrap()),
            _ => watch!(self.jobs.try_acquire("k").await.unwrap()),
        }
    }
}

fn begun() {
    panic!("work is begun that stands on nothing");
}

/// Sets a flag when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

redkit_testkit::suite! {
    async fn what_work_stood_on_is_free_after_it(fixture: Fixture) {
        let kinds = Kinds::new(&fixture.client);
        for kind in ALL {
            let work = async {
                assert!(!kinds.is_free(kind).await, "{kind}");
                kind
            };
            assert_eq!(kinds.run(kind, work).await.unwrap(), Some(kind));
            assert!(kinds.is_free(kind).await, "{kind}");
        }
        // What is not free is not begun.
        let held = kinds.exports.try_acquire("k", 1).await.unwrap().unwrap();
        let ran = kinds.run(PERMITS, async { begun() }).await;
        assert!(matches!(ran, Ok(None)), "{ran:?}");
        drop(held);
        let held = kinds.files.try_write("k").await.unwrap();
        for kind in [READER, WRITER] {
            let ran = kinds.run(kind, async { begun() }).await;
            assert!(matches!(ran, Err(Error::Taken { .. })), "{ran:?}");
        }
        drop(held);
        // Work that is begun by the guard itself.
        let exports = kinds.exports.acquire("guards", 1, SECOND).await.unwrap().unwrap();
        assert_eq!(exports.run(async { 1 }).await.unwrap(), 1);
        let writer = kinds.files.write("guards", SECOND).await.unwrap();
        let fence = writer.fence();
        assert_eq!(writer.run(async { fence }).await.unwrap(), fence);
        assert_eq!(kinds.files.try_read("guards").await.unwrap().run(async { 2 }).await.unwrap(), 2);
        assert_eq!(kinds.jobs.try_acquire("guards").await.unwrap().run(async { 3 }).await.unwrap(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_when_what_it_stands_on_is_lost() {
    for kind in ALL {
        let backend = FaultyBackend::embedded();
        let kinds = Kinds::new(&backend.client());
        let is_dropped = Arc::new(AtomicBool::new(false));
        let work = async {
            let _dropped = Dropped(Arc::clone(&is_dropped));
            kinds.fail(&backend, || Rule::new(Injection::HangBefore));
            std::future::pending::<()>().await;
        };
        let start = Instant::now();
        let ran = kinds.run(kind, work).await;
        assert!(matches!(ran, Err(Error::Lost)), "{kind}: {ran:?}");
        assert!(is_dropped.load(Ordering::SeqCst), "{kind}");
        let took = start.elapsed();
        assert!(took <= TTL && took > TTL - TTL / 10, "{kind}: {took:?}");
    }
}

/// It was taken away, and no renewal has told yet.
#[tokio::test(start_paused = true)]
async fn work_that_met_another_holder_is_not_said_to_be_done_whatever_it_stood_on() {
    for kind in [READER, WRITER, PERMITS] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let kinds = Kinds::new(&client);
        let work = async {
            let flush = Command::new("FLUSHALL");
            client.call::<()>(flush).await.unwrap();
        };
        let ran = kinds.run(kind, work).await;
        assert!(matches!(ran, Err(Error::Lost)), "{kind}: {ran:?}");
    }
}

/// The server gave them back, and the work is done: a second attempt finds nothing, and that is no loss.
#[tokio::test(start_paused = true)]
async fn work_whose_release_lost_its_reply_is_done() {
    for kind in ALL {
        let backend = FaultyBackend::embedded();
        let kinds = Kinds::new(&backend.client());
        // So that the server knows the scripts.
        kinds.run(kind, async {}).await.unwrap();
        let work = async { kinds.fail(&backend, || Rule::new(Injection::LoseReply).times(1)) };
        let ran = kinds.run(kind, work).await;
        assert!(matches!(ran, Ok(Some(()))), "{kind}: {ran:?}");
        sleep(Duration::from_millis(100)).await;
        assert!(kinds.is_free(kind).await, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_outlives_what_it_watches_and_tells_of_losses_only() {
    for kind in ALL {
        let backend = FaultyBackend::embedded();
        let kinds = Kinds::new(&backend.client());
        for is_released in [true, false] {
            let lost = kinds.watched(kind, is_released).await;
            let told = timeout(10 * TTL, lost).await;
            assert!(
                told.is_err(),
                "{kind} {is_released}: it was given back in time"
            );
        }
        // One that was lost, and is dropped before the watch is looked at.
        macro_rules! lost {
            ($guard:expr) => {{
                let guard = $guard;
                let lost: Lost = Box::pin(guard.lost());
                kinds.fail(&backend, || Rule::new(Injection::HangBefore));
                guard.lost().await;
                drop(guard);
                lost
            }};
        }
        let lost = match kind {
            READER => lost!(kinds.files.try_read("k").await.unwrap()),
            WRITER => lost!(kinds.files.try_write("k").await.unwrap()),
            PERMITS => lost!(kinds.exports.try_acquire("k", 1).await.unwrap().unwrap()),
            _ => lost!(kinds.jobs.try_acquire("k").await.unwrap()),
        };
        timeout(Duration::from_millis(1), lost)
            .await
            .expect("it is told");
    }
}

/// A watch of a lock on several servers holds none of their clients open.
#[tokio::test(start_paused = true)]
async fn a_watch_of_a_redlock_holds_no_client_open() {
    let nodes = [(); 3].map(|()| FaultyBackend::embedded());
    let clients = nodes.each_ref().map(|node| node.client());
    let jobs = Redlock::builder(&clients, "jobs").build().unwrap();
    let guard = jobs.try_acquire("k").await.unwrap();
    let mut lost = Box::pin(guard.lost());
    assert!(timeout(SECOND, &mut lost).await.is_err());
    assert!(guard.release().await);
    drop((jobs, clients));
    assert!(timeout(10 * TTL, &mut lost).await.is_err());
    let held = nodes.each_ref().map(Arc::strong_count);
    drop(lost);
    assert_eq!(held, nodes.each_ref().map(Arc::strong_count));
}
