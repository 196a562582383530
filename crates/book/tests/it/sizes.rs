//! The sizes that the guides state: how many round trips operations take, on one server, and (printed, not asserted: it is
//! the server's business) how many bytes their keys have. `cargo test -p redkit-book sizes -- --nocapture` prints the
//! table of `docs/benchmarks.md`.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use redkit::cache::{Cache, Loaded};
use redkit::collections::{Counter, Hash, Lifetime};
use redkit::lock::{IdempotentExecution, LockManager};
use redkit::pubsub::topic::Topic;
use redkit::pubsub::{Channel, Inbox, Replay};
use redkit::ratelimit::{ConcurrencyLimiter, Policy, Quota, RateLimiter};
use redkit::session::{SessionSecrets, SessionStore, SignIn};
use redkit::{Client, ClientConfig};
use redkit_testkit::{Server, ServerOptions};
use secrecy::ExposeSecret;

/// How often each operation is done, each time for a key of its own.
const TIMES: u32 = 1_000;
/// Nothing runs out while it is measured.
const DAY: Duration = Duration::from_secs(86_400);

struct Meter {
    server: Server,
}

impl Meter {
    /// A client on an empty server.
    async fn client(&self) -> Client {
        self.server.raw(&["FLUSHALL"]).await.unwrap();
        let config = ClientConfig::from_url(&self.server.url()).unwrap();
        let config = config
            .namespace("shop")
            .command_timeout(Duration::from_secs(30));
        redkit::connect_with(config).await.unwrap()
    }

    /// Does an operation many times, checks how many round trips each took, and prints a row.
    async fn measure<T, F: Future<Output = T>>(
        &self,
        client: &Client,
        what: &str,
        round_trips: u64,
        work: impl Fn(u32) -> F,
    ) -> Vec<T> {
        // Scripts are loaded, and what is made once (the generation of a cache) is made.
        let first = work(TIMES).await;
        let (memory, calls) = (self.memory().await, client.stats().calls());
        let mut kept: Vec<T> = stream::iter(0..TIMES)
            .map(&work)
            .buffered(32)
            .collect()
            .await;
        let calls = client.stats().calls() - calls;
        let bytes = (self.memory().await - memory) / i64::from(TIMES);
        let shown = if bytes > 20 {
            bytes.to_string()
        } else {
            "–".to_owned()
        };
        println!("| {what} | {round_trips} | {shown} |");
        assert_eq!(
            calls,
            round_trips * u64::from(TIMES),
            "{what}: {calls} calls"
        );
        kept.push(first);
        kept
    }

    async fn memory(&self) -> i64 {
        let info = self.server.raw(&["INFO", "memory"]).await.unwrap();
        let text = info.text().unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        line.unwrap().trim().parse().unwrap()
    }
}

#[tokio::test]
async fn operations_take_the_round_trips_that_the_guides_say() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let meter = Meter { server };
    println!("| operation | round trips | bytes that stay |\n|---|---|---|");
    cache(&meter).await;
    ratelimit(&meter).await;
    lock(&meter).await;
    session(&meter).await;
    messages(&meter).await;
    collections(&meter).await;
}

/// A value of a hundred bytes.
fn value() -> String {
    "v".repeat(98)
}

async fn cache(meter: &Meter) {
    let client = meter.client().await;
    let cache: Cache<String> = Cache::builder(&client, "products")
        .ttl(DAY)
        .build()
        .unwrap();
    let load = || async { Ok::<_, std::io::Error>(value()) };
    let get = |index: u32| cache.get_or_load(index, load);
    let what = "cache: a miss, a value of 100 bytes";
    meter.measure(&client, what, 3, get).await;
    meter.measure(&client, "cache: a hit", 1, get).await;
    let invalidate = |index: u32| cache.invalidate(index);
    meter
        .measure(&client, "cache: `invalidate`", 1, invalidate)
        .await;

    let client = meter.client().await;
    let cache: Cache<String> = Cache::builder(&client, "lists").ttl(DAY).build().unwrap();
    let load = || async { Ok::<_, std::io::Error>(Loaded::new(value()).tags(["shelf"])) };
    let get = |index: u32| cache.get_or_load(index, load);
    meter
        .measure(&client, "cache: a miss, with a tag", 5, get)
        .await;
    meter
        .measure(&client, "cache: a hit, with a tag", 2, get)
        .await;
    let invalidate = |_| cache.invalidate_tag("shelf");
    meter
        .measure(&client, "cache: `invalidate_tag`", 3, invalidate)
        .await;
    client.shutdown().await;
}

async fn ratelimit(meter: &Meter) {
    let policies = [
        (
            "rate limit: a check, GCRA",
            Policy::gcra(Quota::per(1_000, DAY)),
            1,
        ),
        (
            "rate limit: a check, fixed window",
            Policy::fixed_window(Quota::per(1_000, DAY)),
            1,
        ),
        (
            "rate limit: a check of 5 units, sliding log",
            Policy::sliding_log(Quota::per(1_000, DAY)),
            5,
        ),
    ];
    for (what, policy, cost) in policies {
        let client = meter.client().await;
        let limiter = RateLimiter::builder(&client, "api")
            .policy(policy)
            .build()
            .unwrap();
        let check = |index: u32| limiter.check_n(index, cost);
        meter.measure(&client, what, 1, check).await;
        client.shutdown().await;
    }
    let client = meter.client().await;
    let places = ConcurrencyLimiter::builder(&client, "reports")
        .limit(3)
        .lease(DAY)
        .build()
        .unwrap();
    let acquire = |index: u32| places.try_acquire(index);
    let held = meter
        .measure(&client, "rate limit: a place, held", 1, acquire)
        .await;
    drop(held);
    client.shutdown().await;
}

async fn lock(meter: &Meter) {
    let client = meter.client().await;
    let locks = LockManager::builder(&client, "orders")
        .ttl(DAY)
        .label("checkout")
        .build()
        .unwrap();
    let acquire = |index: u32| {
        let locks = &locks;
        async move { locks.try_acquire(index).await.unwrap() }
    };
    let what = "lock: taken, with the record of its fence";
    let guards = meter.measure(&client, what, 1, acquire).await;
    let guards: Vec<_> = guards
        .into_iter()
        .map(|guard| std::sync::Mutex::new(Some(guard)))
        .collect();
    let release = |index: u32| {
        let guard = guards[index as usize].lock().unwrap().take();
        async { guard.unwrap().release().await.unwrap() }
    };
    meter.measure(&client, "lock: given back", 1, release).await;
    client.shutdown().await;

    let client = meter.client().await;
    let payments = IdempotentExecution::builder(&client, "payments")
        .build()
        .unwrap();
    let run = |index: u32| {
        let work = async { Ok::<_, std::io::Error>(value()) };
        payments.run("ann", index.to_string(), "9900", work)
    };
    let what = "idempotent execution, a result of 100 bytes";
    meter.measure(&client, what, 2, run).await;
    meter
        .measure(&client, "idempotent execution, again", 1, run)
        .await;
    client.shutdown().await;
}

async fn session(meter: &Meter) {
    let secrets = || SessionSecrets::new(vec![1; 32], 1, vec![2; 32]).unwrap();
    let client = meter.client().await;
    let sessions = SessionStore::builder(&client, "web", secrets())
        .build()
        .unwrap();
    let visit = |_| async {
        let mut session = sessions.start().unwrap();
        session.insert("cart", &value()).unwrap();
        session.commit().await.unwrap();
    };
    let what = "session: without a user, an entry of 100 bytes";
    meter.measure(&client, what, 1, visit).await;
    client.shutdown().await;

    let client = meter.client().await;
    let sessions = SessionStore::builder(&client, "web", secrets())
        .build()
        .unwrap();
    let sign_in = |index: u32| {
        let sessions = &sessions;
        async move {
            let mut session = sessions.start().unwrap();
            let sign_in = SignIn::new(format!("user-{index}")).device("Firefox on Linux");
            session.sign_in(sign_in).await.unwrap();
            session.id().expose()
        }
    };
    let what = "session: a sign-in of a new session, one for each user, no entries";
    let ids = meter.measure(&client, what, 1, sign_in).await;
    let load = |index: u32| {
        let id = ids[index as usize].expose_secret();
        async { sessions.load(id).await.unwrap().unwrap() }
    };
    meter.measure(&client, "session: a load", 1, load).await;
    let list = |index: u32| {
        let sessions = &sessions;
        async move {
            sessions
                .sessions_of(&format!("user-{index}"))
                .await
                .unwrap()
        }
    };
    meter
        .measure(&client, "session: the list of a user's", 1, list)
        .await;
    let revoke = |index: u32| {
        let sessions = &sessions;
        async move { sessions.revoke_all(&format!("user-{index}")).await.unwrap() }
    };
    meter
        .measure(&client, "session: `revoke_all`", 1, revoke)
        .await;
    client.shutdown().await;
}

async fn messages(meter: &Meter) {
    let client = meter.client().await;
    let channel: Channel<String> = Channel::builder(&client, "orders")
        .replay(Replay::last(10).keep_for(DAY))
        .build()
        .unwrap();
    let message = value();
    let publish = |index: u32| channel.publish(index, &message);
    let what = "channel with replay: the first message of a key, 100 bytes";
    meter.measure(&client, what, 1, publish).await;
    client.shutdown().await;

    let client = meter.client().await;
    let inbox: Inbox<String> = Inbox::builder(&client, "notes").build().unwrap();
    let push = |index: u32| inbox.push(index, &message);
    let what = "inbox: the first item of a user, 100 bytes";
    meter.measure(&client, what, 1, push).await;
    client.shutdown().await;

    let client = meter.client().await;
    let topic: Topic<String> = Topic::builder(&client, "orders").build().unwrap();
    let publish = |_| topic.publish(&message);
    let what = "topic: a message that waits, 100 bytes";
    meter.measure(&client, what, 1, publish).await;
    client.shutdown().await;
}

async fn collections(meter: &Meter) {
    let client = meter.client().await;
    let lifetime = Lifetime::on_write(DAY).unwrap();
    let set = |index: u32| {
        let hash: Hash<u32> = Hash::new(&client, format!("basket:{index}")).with_ttl(lifetime);
        async move { hash.set("cup", &1).await.unwrap() }
    };
    let what = "hash: a field, with a time to live";
    meter.measure(&client, what, 1, set).await;
    let count = |index: u32| {
        let counter = Counter::new(&client, format!("stock:{index}"));
        async move { counter.incr(1).await.unwrap() }
    };
    meter.measure(&client, "counter", 1, count).await;
    client.shutdown().await;
}
