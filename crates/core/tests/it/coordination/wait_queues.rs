//! A queue on the server serves first come, first served, and forgets waiters that died.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::coordination::{QueueStatus, QueuedCaller, Token, WaitQueue, lua};
use redkit_core::{Client, Command, Error, Key, Script, ToArg};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::{Instant, sleep, timeout};

const LONG: Duration = Duration::from_secs(60);

/// Takes one of ARGV[4] places, which are the members of the set KEYS[3].
static VISIT: Script = Script::of_parts(&[
    lua::CLOCK,
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    "local id, alive, channel = ARGV[1], tonumber(ARGV[2]), ARGV[5]
     local before = queue_look(KEYS[1], KEYS[2], channel, id, alive)
     local free = tonumber(ARGV[4]) - redis.call('SCARD', KEYS[3])
     if before == 0 and free > 0 then
       queue_leave(KEYS[1], KEYS[2], id)
       redis.call('SADD', KEYS[3], id)
       if free > 1 then queue_wake(KEYS[1], channel, id) end
       return {1, before}
     end
     if ARGV[3] == '0' then queue_leave(KEYS[1], KEYS[2], id) return {2, before} end
     queue_join(KEYS[1], KEYS[2], id, alive)
     return {0, before}",
]);

/// Gives a place back.
static GIVE_BACK: Script = Script::of_parts(&[
    lua::WAKE_UP,
    "local now = 0",
    lua::WAIT_QUEUE,
    "redis.call('SREM', KEYS[3], ARGV[1]) queue_wake(KEYS[1], ARGV[2], ARGV[1])",
]);

#[derive(Clone)]
struct Places {
    client: Client,
    queue: WaitQueue,
    taken: Key,
    places: u32,
}

struct Caller {
    places: Places,
    id: Bytes,
}

impl Places {
    fn new(client: &Client, places: u32) -> Self {
        let queue = WaitQueue {
            queue: client.key("{q}:queue"),
            heartbeats: client.key("{q}:heartbeats"),
            channel: client.key("q:wake").to_bytes(),
        };
        let taken = client.key("{q}:taken");
        Self {
            client: client.clone(),
            queue,
            taken,
            places,
        }
    }

    async fn take(&self, max_wait: Duration) -> Option<Bytes> {
        let caller = Caller {
            places: self.clone(),
            id: Token::random().to_bytes(),
        };
        let deadline = Instant::now() + max_wait;
        let outcome = self.client.wait_in_queue(&caller, deadline).await.unwrap();
        outcome.is_served.then_some(caller.id)
    }

    async fn give_back(&self, id: Bytes) {
        let keys = [&self.queue.queue, &self.queue.heartbeats, &self.taken];
        let call = GIVE_BACK.invoke(keys).arg(id).arg(&self.queue.channel);
        self.client.eval::<()>(call).await.unwrap();
    }

    async fn waiting(&self) -> i64 {
        let card = Command::new("ZCARD").key(&self.queue.queue);
        self.client.call(card).await.unwrap()
    }
}

impl QueuedCaller for Caller {
    type Outcome = i64;

    fn queue(&self) -> &WaitQueue {
        &self.places.queue
    }

    fn id(&self) -> Bytes {
        self.id.clone()
    }

    async fn visit(&self, max_wait: Duration) -> Result<QueueStatus<i64>, Error> {
        let WaitQueue {
            queue,
            heartbeats,
            channel,
        } = &self.places.queue;
        let call = VISIT
            .invoke([queue, heartbeats, &self.places.taken])
            .arg(&self.id)
            .arg(3_000_000)
            .arg(u64::try_from(max_wait.as_millis()).unwrap())
            .arg(self.places.places)
            .arg(channel);
        let (state, before): (i64, i64) = self.places.client.eval(call).await?;
        Ok(match state {
            1 => QueueStatus::Served(before),
            2 => QueueStatus::Rejected(before),
            _ => QueueStatus::Waiting {
                hint: LONG,
                before: u64::try_from(before).ok(),
            },
        })
    }
}

redkit_testkit::suite! {
    async fn waiters_are_served_in_the_order_of_their_arrival(fixture: Fixture) {
        let places = Places::new(&fixture.client, 1);
        let first = places.take(Duration::ZERO).await.expect("it is free");
        assert!(places.take(Duration::ZERO).await.is_none());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiters = tokio::task::JoinSet::new();
        for n in 0..6 {
            let (places, order) = (places.clone(), Arc::clone(&order));
            waiters.spawn(async move {
                let id = places.take(LONG).await.expect("there is time");
                order.lock().push(n);
                places.give_back(id).await;
            });
            let arrived = i64::from(n) + 1;
            let joins = async { while fixture_waiting(&fixture).await < arrived { sleep(Duration::from_millis(2)).await } };
            timeout(LONG, joins).await.expect("it joins");
        }
        places.give_back(first).await;
        waiters.join_all().await;
        assert_eq!(*order.lock(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(places.waiting().await, 0, "nothing is left");
    }

    /// Its connection hung, and what it had sent arrives when the place was given up on another.
    async fn a_visit_that_arrives_after_its_waiter_gave_up_gets_nothing(fixture: Fixture) {
        let places = Places::new(&fixture.client, 1);
        let late = Caller { places: places.clone(), id: Token::random().to_bytes() };
        for _ in 0..2 {
            let _: i64 = fixture.client.eval(places.queue.leave(&late.id)).await.unwrap();
            assert!(matches!(late.visit(LONG).await.unwrap(), QueueStatus::Waiting { .. }));
            assert_eq!(places.waiting().await, 0, "it has no place");
        }
        assert!(places.take(Duration::ZERO).await.is_some(), "nor has it taken anything");
    }
}

async fn fixture_waiting(fixture: &Fixture) -> i64 {
    Places::new(&fixture.client, 1).waiting().await
}

#[tokio::test(start_paused = true)]
async fn waiters_are_woken_and_use_the_places() {
    let backend = FaultyBackend::embedded();
    // A round trip takes a millisecond.
    backend.set(Rule::new(Injection::DelayReply(Duration::from_millis(1))));
    let client = backend.client();
    let places = Places::new(&client, 3);
    let held = Duration::from_millis(15);
    let start = Instant::now();
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let places = places.clone();
        waiters.spawn(async move {
            let mut grants = 0;
            while start.elapsed() < LONG / 6 {
                let id = places.take(LONG).await.unwrap();
                sleep(held).await;
                places.give_back(id).await;
                grants += 1;
            }
            grants
        });
    }
    let grants: u32 = waiters.join_all().await.into_iter().sum();
    let used = f64::from(grants) * held.as_secs_f64() / (3.0 * start.elapsed().as_secs_f64());
    println!(
        "24 waiters on 3 places of 15 ms: {grants} grants, {:.1} % of the places used",
        used * 100.0
    );
    assert!(used >= 0.85, "{used}");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_died_is_skipped() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let places = Places::new(&client, 1);
    let first = places.take(Duration::ZERO).await.unwrap();
    // A process that dies in the queue: its visits stop, and nothing is given up.
    let dead = Caller {
        places: places.clone(),
        id: Token::random().to_bytes(),
    };
    dead.visit(LONG).await.unwrap();
    let living = tokio::spawn({
        let places = places.clone();
        async move { places.take(LONG).await.unwrap() }
    });
    sleep(Duration::from_millis(500)).await;
    places.give_back(first).await;
    let start = Instant::now();
    living.await.unwrap();
    assert!(
        start.elapsed() <= Duration::from_millis(3600),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_goes_away_gives_its_place_up() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let places = Places::new(&client, 1);
    let first = places.take(Duration::ZERO).await.unwrap();
    assert!(
        timeout(Duration::from_millis(10), places.take(LONG))
            .await
            .is_err()
    );
    sleep(Duration::from_millis(1)).await;
    assert_eq!(places.waiting().await, 0);
    // One that is out of time leaves by itself.
    assert!(places.take(Duration::from_secs(2)).await.is_none());
    assert_eq!(places.waiting().await, 0);
    // A head that leaves wakes the next, which finds the place free.
    let head = tokio::spawn({
        let places = places.clone();
        async move { places.take(LONG).await }
    });
    sleep(Duration::from_millis(100)).await;
    let next = tokio::spawn({
        let places = places.clone();
        async move { places.take(LONG).await }
    });
    sleep(Duration::from_millis(100)).await;
    // The place is free, and the head dies before it hears of it.
    let remove = Command::new("SREM").key(&places.taken).arg(&first);
    client.call::<i64>(remove).await.unwrap();
    head.abort();
    let start = Instant::now();
    assert!(next.await.unwrap().is_some());
    assert!(
        start.elapsed() < Duration::from_millis(10),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn faults_are_outlived_when_the_visit_was_certainly_not_carried_out() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let places = Places::new(&client, 1);
    backend.set(Rule::new(Injection::NotSent).on_script(&VISIT).times(5));
    assert!(places.take(LONG).await.is_some());
    backend.set(Rule::new(Injection::LoseReply).on_script(&VISIT).times(1));
    let caller = Caller {
        places: places.clone(),
        id: Token::random().to_bytes(),
    };
    let error = client
        .wait_in_queue(&caller, Instant::now() + LONG)
        .await
        .unwrap_err();
    assert!(error.is_maybe());
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        places.waiting().await,
        0,
        "what it may have left is given up"
    );
}

/// A full server may evict the heartbeats and keep the queue.
#[tokio::test(start_paused = true)]
async fn heartbeats_that_were_evicted_keep_no_dead_waiter_in_line_and_change_no_order() {
    let client = FaultyBackend::embedded().client();
    let places = Places::new(&client, 1);
    let first = places.take(Duration::ZERO).await.unwrap();
    for _ in 0..3 {
        let (places, id) = (places.clone(), Token::random().to_bytes());
        Caller { places, id }.visit(LONG).await.unwrap();
    }
    let evict = Command::new("DEL").key(&places.queue.heartbeats);
    client.call::<i64>(evict.clone()).await.unwrap();
    places.give_back(first).await;
    let start = Instant::now();
    let second = places.take(LONG).await.expect("the others are dead");
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );

    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = tokio::task::JoinSet::new();
    for n in 0..3 {
        let (places, order) = (places.clone(), Arc::clone(&order));
        waiters.spawn(async move {
            let id = places.take(LONG).await.expect("there is time");
            order.lock().push(n);
            places.give_back(id).await;
        });
        sleep(Duration::from_millis(100)).await;
    }
    client.call::<i64>(evict).await.unwrap();
    // The last one looks first.
    let (again, id) = (places.clone(), Token::random().to_bytes());
    let late = Caller { places: again, id };
    late.visit(LONG).await.unwrap();
    let _: i64 = client.eval(places.queue.leave(&late.id)).await.unwrap();
    places.give_back(second).await;
    waiters.join_all().await;
    assert_eq!(*order.lock(), [0, 1, 2]);
}
