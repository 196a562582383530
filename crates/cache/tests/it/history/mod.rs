//! What several processes were given, checked against what had been acknowledged when they asked,
//! while values are changed in every way and everything breaks.
//!
//! The source holds a number per key that only grows. A writer raises it and then tells the cache; when
//! that is acknowledged, whoever asks later, in whatever process, must be given that number or a
//! higher one. With a level in the process, "later" is by its bound.
//!
//! Each process notes what it sees with the time of the machine's monotonic clock; afterwards
//! the test reads what all of them have noted. 6 seconds; 60 with `REDKIT_TEST_FULL` set.

mod crew;
mod faults;
mod record;
mod source;
mod verdict;
mod worker;

use std::path::Path;
use std::time::Duration;

use redkit_core::{Client, ClientConfig};
use redkit_embedded::Embedded;
use redkit_testkit::{
    BackendKind, Cluster, ClusterOptions, Fixture, Program, Proxy, Server, ServerOptions,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::crew::Member;
use self::faults::Faults;
use self::record::{What, count, read_all};
use self::source::Source;
use self::worker::{Order, Seen, Worker};

const WORKERS: u64 = 3;

/// What a level in the process may be behind.
const BOUND: Duration = Duration::from_millis(300);

fn lasts() -> Duration {
    let seconds = std::env::var_os("REDKIT_TEST_FULL").map_or(6, |_| 60);
    Duration::from_secs(seconds)
}

fn order(fixture: &Fixture, id: u64, url: String, folder: &Path, with_level: bool) -> Order {
    Order {
        id,
        url,
        fred: matches!(fixture.kind, BackendKind::Fred | BackendKind::FredSentinel),
        namespace: fixture.namespace().to_owned(),
        source: String::new(),
        folder: folder.to_owned(),
        with_level,
        is_successor: false,
    }
}

/// A history on this backend, with what can be broken on it.
async fn happens(fixture: &Fixture, with_level: bool) {
    let folder = tempfile::tempdir().unwrap();
    let orders = |urls: Vec<String>| {
        (0..)
            .zip(urls)
            .map(|(id, url)| order(fixture, id, url, folder.path(), with_level))
            .collect()
    };
    let same = |url: String| vec![url; usize::try_from(WORKERS).unwrap()];
    let seen = match fixture.kind {
        BackendKind::Embedded => in_this_process(fixture, orders(same(String::new()))).await,
        BackendKind::Sentinel | BackendKind::FredSentinel => {
            let faults = Faults {
                servers: Vec::new(),
                proxies: Vec::new(),
            };
            in_processes(orders(same(fixture.url())), &faults).await
        }
        BackendKind::Cluster | BackendKind::ValkeyCluster => {
            let program = match fixture.kind {
                BackendKind::ValkeyCluster => Program::Valkey,
                _ => Program::Redis,
            };
            // A node that is stopped for a while is not to be given up by the others.
            let options = ClusterOptions::new().node_timeout(Duration::from_secs(30));
            let cluster = Cluster::start_with(program, 3, 0, options).await.unwrap();
            let faults = Faults {
                servers: cluster.nodes().iter().collect(),
                proxies: Vec::new(),
            };
            in_processes(orders(same(cluster.url())), &faults).await
        }
        _ => {
            let server = fixture.private_server(ServerOptions::new()).await.unwrap();
            let (mut proxies, mut urls) = (Vec::new(), Vec::new());
            for _ in 0..WORKERS {
                let proxy = Proxy::start(server.addr()).await.unwrap();
                urls.push(server.url_at(proxy.addr()));
                proxies.push(proxy);
            }
            let faults = Faults {
                servers: vec![&server],
                proxies,
            };
            in_processes(orders(urls), &faults).await
        }
    };
    judge(folder.path(), &seen, with_level);
}

async fn in_processes(mut orders: Vec<Order>, faults: &Faults<'_>) -> Vec<Seen> {
    let source = Server::redis(ServerOptions::new()).await.unwrap();
    let mut crew = Vec::new();
    for order in &mut orders {
        order.source = source.url();
        crew.push(Member::start(order.clone()));
    }
    for member in &mut crew {
        member.ready().await;
    }
    let number = faults.happen(&mut crew, lasts()).await;
    println!("{number} things broke");
    let finished = crew.into_iter().map(Member::finish);
    futures_util::future::join_all(finished).await
}

/// The engine in this process has one: its workers are tasks, on clients of their own.
async fn in_this_process(fixture: &Fixture, orders: Vec<Order>) -> Vec<Seen> {
    let config = ClientConfig::from_url("embedded://").unwrap();
    let source = Client::from_backend(std::sync::Arc::new(Embedded::new()), &config).unwrap();
    let stop = CancellationToken::new();
    let mut tasks = Vec::new();
    for order in orders {
        let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let worker = Worker::new(&order, &client, Source(source.clone()));
        let stop = stop.clone();
        tasks.push(tokio::spawn(async move { worker.live(stop).await }));
    }
    sleep(lasts()).await;
    stop.cancel();
    let mut seen = Vec::new();
    for task in tasks {
        let ended = tokio::time::timeout(Duration::from_secs(60), task).await;
        seen.push(ended.expect("nothing is stuck").unwrap());
    }
    seen
}

fn judge(folder: &Path, seen: &[Seen], with_level: bool) {
    let events = read_all(folder);
    let counts = count(&events);
    println!("{counts:?}\n{seen:?}");
    let of = |kinds: &[What]| kinds.iter().filter_map(|w| counts.get(w)).sum::<usize>();
    for what in What::CHANGES.iter().chain(&What::READINGS) {
        // Of a source that only now and then has none there may be none to see when all is slow.
        let is_rare = matches!(what, What::Deleted | What::FoundNone | What::Cleared);
        assert!(is_rare || of(&[*what]) > 0, "no {what:?}");
    }
    assert!(of(&What::CHANGES) > 20 && of(&What::READINGS) > 200);
    let sum = |of: fn(&Seen) -> u64| seen.iter().map(of).sum::<u64>();
    assert!(sum(|seen| seen.hits) > 0);
    match with_level {
        true => assert!(sum(|seen| seen.l1_hits) > 0, "the level was never used"),
        false => assert!(sum(|seen| seen.fenced) > 0, "nothing was ever overtaken"),
    }
    let bound = if with_level { BOUND } else { Duration::ZERO };
    let wrong = verdict::too_old(&events, bound);
    assert!(
        wrong.is_empty(),
        "{} of {} reads were too old, such as {:#?}",
        wrong.len(),
        of(&What::READINGS),
        &wrong[..wrong.len().min(5)]
    );
}

redkit_testkit::suite! {
    #[multi_thread]
    async fn no_read_is_older_than_an_invalidation_whatever_breaks(fixture: Fixture) {
        happens(&fixture, false).await;
    }

    #[multi_thread]
    async fn no_read_is_older_by_more_than_the_bound_whatever_breaks(fixture: Fixture) {
        happens(&fixture, true).await;
    }
}
