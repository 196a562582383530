//! Elections: one leader, the order at the end of a term, succession, and observers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use redkit_core::{Client, Command, ErrorKind};
use redkit_lock::{Election, Error, Fence, Holder, LockManager, LockManagerBuilder, Role, Term};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::{LONG, SECOND, eventually};

const TTL: Duration = Duration::from_secs(10);

fn locks(client: &Client, label: &str) -> LockManagerBuilder {
    LockManager::builder(client, "schedulers").label(label)
}

/// A candidate of another process, as far as the data are concerned.
async fn candidate(fixture: &Fixture, label: &str) -> Election {
    let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
    election(&client, label)
}

fn election(client: &Client, label: &str) -> Election {
    Election::new(&locks(client, label).build().unwrap(), "nightly").unwrap()
}

fn label(leader: Option<Holder>) -> Option<String> {
    leader.and_then(|leader| leader.label).map(String::from)
}

/// Lets a candidate stand for as long as the test lasts.
fn stand(election: &Election) -> JoinHandle<Result<(), Error>> {
    let election = election.clone();
    tokio::spawn(async move { election.run(|_| std::future::pending::<()>()).await })
}

async fn leads(election: &Election) {
    let mut role = election.role();
    let leads = role.wait_for(|role| matches!(role, Role::Leader(_)));
    drop(timeout(LONG, leads).await.unwrap().unwrap());
}

/// Says when the work is dropped, and what it saw then.
struct Stopped<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Stopped<F> {
    fn drop(&mut self) {
        if let Some(say) = self.0.take() {
            say();
        }
    }
}

redkit_testkit::suite! {
    async fn one_candidate_leads_and_gives_what_its_work_gives(fixture: Fixture) {
        let election = candidate(&fixture, "one").await;
        assert!(!election.is_leader());
        let first = Mutex::new(None);
        let done = election
            .run(|term| {
                *first.lock() = Some(term.fence());
                let election = &election;
                async move { election.is_leader() && !term.is_over() }
            })
            .await;
        assert!(done.unwrap() && !election.is_leader());
        let second = election.run(async |term: Term| term.fence()).await.unwrap();
        assert!(Some(second) > *first.lock());
    }

    #[multi_thread]
    async fn candidates_lead_one_at_a_time_with_growing_fences(fixture: Fixture) {
        let terms = Arc::new(Mutex::new((false, Vec::new())));
        let mut candidates = JoinSet::new();
        for number in 0..5 {
            let election = candidate(&fixture, &format!("c{number}")).await;
            let terms = Arc::clone(&terms);
            candidates.spawn(async move {
                for _ in 0..4 {
                    let terms = Arc::clone(&terms);
                    let work = |term: Term| {
                        let terms = Arc::clone(&terms);
                        async move {
                            {
                                let (is_led, fences) = &mut *terms.lock();
                                assert!(!*is_led, "two leaders");
                                *is_led = true;
                                fences.push(term.fence());
                            }
                            sleep(Duration::from_millis(2)).await;
                            terms.lock().0 = false;
                        }
                    };
                    election.run(work).await.unwrap();
                }
            });
        }
        while let Some(ended) = candidates.join_next().await {
            ended.unwrap();
        }
        let (_, fences) = &*terms.lock();
        assert!(fences.len() == 20 && fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    }

    async fn a_resignation_is_followed_within_one_wake_up(fixture: Fixture) {
        let (one, other) = (candidate(&fixture, "one").await, candidate(&fixture, "other").await);
        let standing = stand(&one);
        leads(&one).await;
        let following = stand(&other);
        sleep(Duration::from_millis(300)).await;
        assert!(!other.is_leader() && !other.resign());
        let resigned = Instant::now();
        assert!(one.resign());
        leads(&other).await;
        // The lock's TTL is ten seconds. To the millisecond below, on a paused clock.
        let vacant = resigned.elapsed();
        assert!(vacant < 5 * SECOND, "{vacant:?}");
        assert!(!one.is_leader());
        // The candidate that resigned stands again.
        sleep(Duration::from_millis(1100)).await;
        other.resign();
        leads(&one).await;
        standing.abort();
        following.abort();
    }

    async fn the_work_stops_before_the_role_and_the_lock(fixture: Fixture) {
        let election = candidate(&fixture, "one").await;
        let manager = locks(&fixture.client, "test").build().unwrap();
        for end in ["resigns", "is dropped", "ends"] {
            let seen = Arc::new(Mutex::new(None));
            let begun = Arc::new(Notify::new());
            let standing = {
                let (election, seen, begun) = (election.clone(), Arc::clone(&seen), Arc::clone(&begun));
                tokio::spawn(async move {
                    let work = |term: Term| {
                        let (watched, seen) = (election.clone(), Arc::clone(&seen));
                        let begun = Arc::clone(&begun);
                        async move {
                            let over = term.clone();
                            let _stopped = Stopped(Some(move || {
                                *seen.lock() = Some((watched.is_leader(), over.is_over()));
                            }));
                            begun.notify_one();
                            match end {
                                "ends" => {}
                                "resigns" => {
                                    term.resign();
                                    std::future::pending().await
                                }
                                _ => std::future::pending().await,
                            }
                        }
                    };
                    election.run(work).await
                })
            };
            begun.notified().await;
            if end == "is dropped" {
                // While it works the lock is held.
                assert!(manager.inspect("nightly").await.unwrap().is_some());
                standing.abort();
            }
            eventually("the lock is given back", async || {
                let holder = manager.inspect("nightly").await.unwrap();
                // It is the last that happens.
                assert!(holder.is_some() || (seen.lock().is_some() && !election.is_leader()));
                holder.is_none()
            })
            .await;
            assert_eq!(*seen.lock(), Some((true, false)), "{end}: the work saw another role when it stopped");
            standing.abort();
            eventually("it stands no more", async || standing.is_finished()).await;
        }
    }

    async fn observers_see_every_leader_without_standing(fixture: Fixture) {
        let observing = candidate(&fixture, "observer").await;
        let mut observer = observing.observe();
        assert_eq!(label(observer.next().await.unwrap()), None);
        let (one, other) = (candidate(&fixture, "one").await, candidate(&fixture, "other").await);
        let standing = stand(&one);
        let begun = Instant::now();
        let leader = observer.next().await.unwrap().unwrap();
        assert_eq!(leader.label.as_deref(), Some("one"));
        assert_eq!(Role::Leader(leader.fence), *one.role().borrow());
        // Woken; its own look would be after five seconds.
        assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
        let following = stand(&other);
        sleep(Duration::from_millis(200)).await;
        one.resign();
        let changed = Instant::now();
        let mut seen = Vec::new();
        while seen.last() != Some(&Some("other".to_owned())) {
            seen.push(label(observer.next().await.unwrap()));
        }
        assert!(seen.len() <= 2 && changed.elapsed() < 4 * SECOND, "{seen:?} {:?}", changed.elapsed());
        standing.abort();
        following.abort();
        let mut stream = std::pin::pin!(observer.into_stream());
        assert_eq!(label(stream.next().await.unwrap().unwrap()), None);
        assert!(!observing.is_leader());
    }

    async fn a_candidate_stands_once_at_a_time(fixture: Fixture) {
        let election = candidate(&fixture, "one").await;
        let standing = stand(&election);
        leads(&election).await;
        let again = election.clone().run(async |_| ()).await.unwrap_err();
        assert!(matches!(again, Error::Standing) && again.kind() == ErrorKind::Usage);
        standing.abort();
        assert!(standing.await.unwrap_err().is_cancelled());
        election.run(async |_| ()).await.unwrap();
        let locks = locks(&fixture.client, "one").build().unwrap();
        assert!(matches!(Election::new(&locks, ""), Err(Error::EmptyKey)));
    }

    #[paused]
    async fn a_dead_leader_is_followed_within_the_ttl_and_seen(fixture: Fixture) {
        let backend = FaultyBackend::new(Arc::clone(fixture.client.backend()));
        let dying = election(&backend.client_with(&fixture.config().unwrap()), "dead");
        let stood = stand(&dying);
        leads(&dying).await;
        let mut observer = candidate(&fixture, "observer").await.observe().look_every(LONG);
        assert_eq!(label(observer.next().await.unwrap()), Some("dead".into()));
        sleep(LONG).await;
        backend.set(Rule::new(Injection::LoseRequest));
        let died = Instant::now();
        let next = candidate(&fixture, "next").await;
        let standing = stand(&next);
        let seen = async {
            let mut leader = observer.next().await.unwrap();
            while leader.is_none() {
                leader = observer.next().await.unwrap();
            }
            label(leader)
        };
        let (seen, ()) = tokio::join!(seen, leads(&next));
        assert_eq!(seen, Some("next".into()));
        assert!(died.elapsed() <= TTL + SECOND, "{:?}", died.elapsed());
        // The dead one has stopped its work by its own clock.
        assert!(!dying.is_leader());
        stood.abort();
        standing.abort();
    }

    #[paused]
    async fn a_resignation_is_followed_and_seen_at_once(fixture: Fixture) {
        let (one, other) = (candidate(&fixture, "one").await, candidate(&fixture, "other").await);
        let (standing, mut observer) = (stand(&one), one.observe());
        leads(&one).await;
        let following = stand(&other);
        // Whenever in between the follower looks by itself.
        sleep(Duration::from_millis(4_321)).await;
        assert_eq!(label(observer.next().await.unwrap()), Some("one".into()));
        let resigned = Instant::now();
        one.resign();
        leads(&other).await;
        while label(observer.next().await.unwrap()) != Some("other".into()) {}
        assert!(resigned.elapsed() < Duration::from_millis(20), "{:?}", resigned.elapsed());
        standing.abort();
        following.abort();
    }

    #[paused]
    async fn an_observer_sees_the_death_of_a_leader_whom_nobody_follows(fixture: Fixture) {
        let backend = FaultyBackend::new(Arc::clone(fixture.client.backend()));
        let dying = election(&backend.client_with(&fixture.config().unwrap()), "dead");
        let stood = stand(&dying);
        leads(&dying).await;
        let mut observer = candidate(&fixture, "observer").await.observe().look_every(LONG);
        assert_eq!(label(observer.next().await.unwrap()), Some("dead".into()));
        backend.set(Rule::new(Injection::LoseRequest));
        let died = Instant::now();
        assert_eq!(label(observer.next().await.unwrap()), None);
        assert!(died.elapsed() <= TTL + SECOND, "{:?}", died.elapsed());
        stood.abort();
    }

    #[paused]
    async fn work_is_stopped_at_the_local_deadline_while_redis_hangs(fixture: Fixture) {
        let _ = &fixture;
        let backend = FaultyBackend::embedded();
        let election = election(&backend.client(), "one");
        let stopped = Arc::new(Mutex::new(Vec::new()));
        let terms = Arc::clone(&stopped);
        let other = election.clone();
        let standing = tokio::spawn(async move {
            let work = |term: Term| {
                let terms = Arc::clone(&terms);
                async move {
                    let fence = term.fence();
                    let _stopped = Stopped(Some(move || terms.lock().push((fence, Instant::now()))));
                    std::future::pending::<()>().await;
                }
            };
            other.run(work).await
        });
        leads(&election).await;
        backend.set(Rule::new(Injection::HangBefore));
        let hung = Instant::now();
        let mut role = election.role();
        role.wait_for(|role| *role == Role::Follower).await.unwrap();
        assert!(hung.elapsed() <= TTL, "{:?}", hung.elapsed());
        assert_eq!(stopped.lock().len(), 1);
        // It stands again, and leads with a greater fence when Redis is back.
        backend.clear();
        leads(&election).await;
        let Role::Leader(fence) = *election.role().borrow() else {
            panic!("it leads");
        };
        assert!(fence > stopped.lock()[0].0 && fence > Fence::new(0));
        standing.abort();
    }

    /// As when the work blocks its thread, or the future of `run` lies behind another branch.
    #[paused]
    async fn a_term_is_over_for_others_at_the_deadline_though_the_leaders_task_is_not_polled(fixture: Fixture) {
        let _ = &fixture;
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let election = election(&client, "one");
        let begun = Mutex::new(None);
        let mut run = Box::pin(election.run(|term| {
            *begun.lock() = Some(term);
            std::future::pending::<()>()
        }));
        assert!(timeout(SECOND, &mut run).await.is_err());
        let term: Term = begun.lock().clone().unwrap();
        assert!(election.is_leader() && !term.is_over());
        assert!(term.remaining() > TTL / 2 && term.remaining() <= TTL);
        backend.set(Rule::new(Injection::HangBefore));
        let hung = Instant::now();
        timeout(2 * TTL, term.lost()).await.expect("a task that the work has spawned is told");
        assert!(hung.elapsed() <= TTL, "{:?}", hung.elapsed());
        assert!(term.is_over() && !election.is_leader() && !election.resign());
        assert!(term.remaining().is_zero());
        let inspected = client.inspect();
        let found = inspected.iter().find(|object| object.kind() == "election").unwrap();
        assert_eq!(found.snapshot().get("is_leader"), Some(&false.into()));
        drop(run);
    }

    #[paused]
    async fn a_candidate_that_resigned_once_leads_again_though_fences_went_back(fixture: Fixture) {
        let election = candidate(&fixture, "one").await;
        // The record that a server left whose clock was ahead, and that is lost later.
        let record = fixture.client.key("lock:schedulers:{nightly}:fence");
        let ahead = Command::new("SET").key(&record).arg("3000000000000000");
        let _: () = fixture.client.call(ahead).await.unwrap();
        let standing = stand(&election);
        leads(&election).await;
        let first = *election.role().borrow();
        assert!(matches!(first, Role::Leader(fence) if fence.get() > 3_000_000_000_000_000));
        assert!(election.resign());
        let lost: i64 = fixture.client.call(Command::new("DEL").key(&record)).await.unwrap();
        assert_eq!(lost, 1);
        sleep(5 * SECOND).await;
        let Role::Leader(fence) = *election.role().borrow() else {
            panic!("it leads");
        };
        assert!(fence.get() < 3_000_000_000_000_000);
        sleep(LONG).await;
        assert_eq!(*election.role().borrow(), Role::Leader(fence));
        standing.abort();
    }

    #[paused]
    async fn a_leader_a_follower_and_an_observer_send_what_the_docs_say(fixture: Fixture) {
        let backends = [(); 3].map(|()| FaultyBackend::new(Arc::clone(fixture.client.backend())));
        let config = fixture.config().unwrap();
        let [leader, follower, observer] = [0, 1, 2].map(|at| {
            let at: usize = at;
            election(&backends[at].client_with(&config), ["leader", "follower", "observer"][at])
        });
        let standing = [stand(&leader)];
        leads(&leader).await;
        let following = stand(&follower);
        let observing = tokio::spawn(async move {
            let mut observer = observer.observe();
            loop {
                observer.next().await.unwrap();
            }
        });
        sleep(LONG).await;
        for backend in &backends {
            backend.forget();
        }
        sleep(60 * LONG).await;
        let [leading, waiting, looking] = backends.map(|backend| backend.seen().len());
        // A third of a TTL of ten seconds, and a little more often at random.
        assert!((1000..=1300).contains(&leading), "{leading}");
        assert!(waiting <= 800, "{waiting}");
        assert!((650..=800).contains(&looking), "{looking}");
        standing[0].abort();
        following.abort();
        observing.abort();
    }
}
