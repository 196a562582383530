//! A server that hangs costs a look-up and a decision no more than their budgets.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redkit::cache::Cache;
use redkit::ratelimit::{OnOutage, Policy, Quota, RateLimiter};
use redkit::{Client, ClientConfig};
use redkit_testkit::{Server, ServerOptions};
use tokio::task::JoinHandle;

const CALLERS: u64 = 100;

/// For a busy machine.
const SLACK: Duration = Duration::from_millis(300);

/// How long calls took, which began while the server hung.
#[derive(Default)]
struct Times(Mutex<Vec<Duration>>);

impl Times {
    fn percentiles(&self) -> (Duration, Duration, usize) {
        let mut times = self.0.lock().unwrap();
        times.sort_unstable();
        let at = |percent| times[times.len() * percent / 100];
        (at(50), at(99), times.len())
    }
}

/// Calls one after the other in each of the tasks.
fn load<F: Future<Output = ()> + Send>(
    times: &Arc<Times>,
    call: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Vec<JoinHandle<()>> {
    let caller = |number| {
        let (call, times) = (call.clone(), Arc::clone(times));
        tokio::spawn(async move {
            for turn in 0.. {
                let start = Instant::now();
                call(number + turn * CALLERS).await;
                times.0.lock().unwrap().push(start.elapsed());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };
    (0..CALLERS).map(caller).collect()
}

async fn hang(duration: Duration) -> [(Duration, Duration, usize); 2] {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let config = config.command_timeout(Duration::from_secs(1));
    let client = Client::connect(config).await.unwrap();
    let cache = Cache::<u64>::builder(&client, "products")
        .ttl(Duration::from_secs(60))
        .build()
        .unwrap();
    let policy = Policy::gcra(Quota::per_minute(1_000_000));
    let limiter = RateLimiter::builder(&client, "api").policy(policy);
    let limiter = limiter.on_outage(OnOutage::Open).build().unwrap();
    let (lookups, decisions) = (Arc::new(Times::default()), Arc::new(Times::default()));
    server.stop().unwrap();
    let mut callers = load(&lookups, move |number| {
        let cache = cache.clone();
        async move {
            let load = || async { Ok::<_, std::io::Error>(7) };
            let _ = cache.get_or_load(number, load).await.unwrap();
        }
    });
    callers.extend(load(&decisions, move |number| {
        let limiter = limiter.clone();
        async move { assert!(limiter.check(number).await.unwrap().is_allowed()) }
    }));
    tokio::time::sleep(duration).await;
    assert!(
        callers.iter().all(|caller| !caller.is_finished()),
        "a caller panicked"
    );
    callers.iter().for_each(JoinHandle::abort);
    server.cont().unwrap();
    client.shutdown().await;
    [lookups.percentiles(), decisions.percentiles()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_server_costs_each_call_no_more_than_its_budget() {
    let [lookups, decisions] = hang(Duration::from_secs(2)).await;
    println!("look-ups {lookups:?}, decisions {decisions:?}");
    assert!(
        lookups.1 <= Duration::from_millis(250) + SLACK,
        "{lookups:?}"
    );
    assert!(
        decisions.1 <= Duration::from_millis(100) + SLACK,
        "{decisions:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 15 seconds; prints figures"]
async fn figures_of_a_hung_server() {
    let [lookups, decisions] = hang(Duration::from_secs(15)).await;
    println!("p50, p99 and number of look-ups: {lookups:?}, of decisions: {decisions:?}");
}
