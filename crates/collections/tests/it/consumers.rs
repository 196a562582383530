//! Consumers: waiting for items, on a connection of their own.

use std::time::Duration;

use redkit_collections::{End, Error, Lifetime, List, ListConsumer, Occurrences, SortedSet};
use redkit_core::{Client, ClientConfig, Command, ErrorKind};
use redkit_testkit::{
    BackendKind, Cluster, ClusterOptions, Fixture, Program, Proxy, Server, ServerOptions,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::watched::Watched;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

/// Waits in a task of its own.
fn waiting<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

/// Until so many connections of a private server are waiting at it.
async fn until_blocked(server: &Server, count: usize) {
    let wanted = format!("blocked_clients:{count}\r\n");
    let deadline = Instant::now() + LONG;
    loop {
        let info = server.raw(&["INFO", "clients"]).await.unwrap();
        if info.text().unwrap().contains(&wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "never {count} blocked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The lines of the servers' lists of clients that have the fixture's namespace as their name; none where there is no server.
async fn listed(fixture: &Fixture) -> String {
    let servers: Vec<&Server> = match (fixture.cluster(), fixture.sentinels()) {
        (Some(cluster), _) => cluster.nodes().iter().collect(),
        (_, Some(sentinels)) => sentinels.servers().iter().collect(),
        _ => fixture.server().into_iter().collect(),
    };
    let named = format!(" name={} ", fixture.namespace());
    let mut listed = String::new();
    for server in servers {
        let all = server.raw(&["CLIENT", "LIST"]).await.unwrap();
        let lines = all.text().unwrap();
        for line in lines.lines().filter(|line| line.contains(&named)) {
            listed.push_str(line);
        }
    }
    listed
}

/// Until one of the connections that are called after the fixture's namespace does what is asked for.
async fn until_listed(fixture: &Fixture, wanted: &str) {
    let deadline = Instant::now() + LONG;
    while fixture.kind != BackendKind::Embedded && !listed(fixture).await.contains(wanted) {
        assert!(Instant::now() < deadline, "never {wanted}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Until none of them does it any more.
async fn until_unlisted(fixture: &Fixture, wanted: &str) {
    let deadline = Instant::now() + LONG;
    while listed(fixture).await.contains(wanted) {
        assert!(Instant::now() < deadline, "still {wanted}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn private(fixture: &Fixture) -> (Server, Client) {
    let server = fixture.private_server(ServerOptions::new()).await.unwrap();
    let config = fixture.config_at(&server.url()).unwrap();
    let client = fixture.connect(config).await.unwrap();
    (server, client)
}

/// Sleeps for less than a millisecond, too, which timers do not.
async fn briefly(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        tokio::task::yield_now().await;
    }
}

async fn take_one(
    mut consumer: ListConsumer<u32>,
) -> (Result<Option<u32>, Error>, ListConsumer<u32>) {
    (consumer.pop_front(LONG).await, consumer)
}

redkit_testkit::suite! {
    async fn items_that_are_there_are_taken_at_once(fixture: Fixture) -> Result<(), Error> {
        let list: List<u32> = List::new(&fixture.client, "{l}");
        list.push_back_many(&[1, 2, 3, 4, 5, 6]).await?;
        let mut consumer = list.consumer().await?;
        for wait in [Duration::ZERO, LONG] {
            assert!(consumer.pop_front(wait).await?.is_some_and(|n| n <= 2));
            assert!(consumer.pop_back(wait).await?.is_some_and(|n| n >= 5));
        }
        assert_eq!(consumer.pop_many(End::Front, 9, LONG).await?, [3, 4]);
        list.push_back(&7).await?;
        let other: List<u32> = List::new(&fixture.client, "{l}:other");
        assert_eq!(consumer.move_to(&other, End::Front, End::Back, LONG).await?, Some(7));
        assert_eq!(consumer.move_to(&other, End::Front, End::Back, Duration::ZERO).await?, None);
        assert_eq!(other.range(..).await?, [7]);
        Ok(())
    }

    async fn nothing_comes_within_the_wait(fixture: Fixture) -> Result<(), Error> {
        let list: List<u32> = List::new(&fixture.client, "{l}");
        let sorted: SortedSet<u32> = SortedSet::new(&fixture.client, "{l}:z")?;
        let (mut items, mut members) = (list.consumer().await?, sorted.consumer().await?);
        let start = Instant::now();
        assert_eq!(items.pop_front(SHORT).await?, None);
        assert_eq!(items.pop_many(End::Back, 3, SHORT).await?, [0; 0]);
        assert_eq!(items.move_to(&list, End::Front, End::Back, SHORT).await?, None);
        assert_eq!(members.pop_min(SHORT).await?, None);
        assert_eq!(members.pop_max(Duration::ZERO).await?, None);
        assert!(start.elapsed() >= SHORT * 4, "{:?}", start.elapsed());
        Ok(())
    }

    #[multi_thread]
    async fn a_waiter_gets_the_item_that_comes(fixture: Fixture) -> Result<(), Error> {
        let list: List<u32> = List::new(&fixture.client, "{l}");
        let done: List<u32> = List::new(&fixture.client, "{l}:done");
        let sorted: SortedSet<u32> = SortedSet::new(&fixture.client, "{l}:z")?;
        let mut mover = list.consumer().await?;
        let mut members = sorted.consumer().await?;
        let moved = waiting({
            let done = done.clone();
            async move { mover.move_to(&done, End::Front, End::Back, LONG).await }
        });
        let member = waiting(async move { members.pop_max(LONG).await });
        list.push_back(&7).await?;
        sorted.add_many([(&1, 1.0), (&2, 2.0)]).await?;
        assert_eq!(moved.await.unwrap()?, Some(7));
        assert_eq!(member.await.unwrap()?, Some((2, 2.0)));
        assert_eq!(done.range(..).await?, [7]);
        // Nobody else was held up meanwhile, which the calls in between have shown.
        Ok(())
    }

    #[multi_thread]
    async fn a_client_that_is_shut_down_takes_nothing_more(fixture: Fixture) -> Result<(), Error> {
        let list: List<u32> = List::new(&fixture.client, "{l}");
        let config = fixture.config().unwrap().client_name(fixture.namespace());
        let gone = fixture.connect(config).await.unwrap();
        let theirs: List<u32> = List::new(&gone, "{l}");
        let done: List<u32> = List::new(&gone, "{l}:done");
        let (mut waits, mut idle) = (theirs.consumer().await?, theirs.consumer().await?);
        assert_eq!(idle.pop_front(Duration::ZERO).await?, None);
        let waited = waiting(async move {
            let outcome = waits.move_to(&done, End::Front, End::Back, LONG).await;
            (outcome, waits, done)
        });
        until_listed(&fixture, " cmd=blmove ").await;
        let start = Instant::now();
        gone.shutdown().await;
        let (outcome, mut waits, done) = waited.await.unwrap();
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
        let error = outcome.unwrap_err();
        // An engine in the process ends with the first of its clients.
        let is_there = fixture.kind != BackendKind::Embedded;
        if is_there {
            assert!(error.is_maybe(), "{error}");
            until_unlisted(&fixture, " cmd=blmove ").await;
            list.push_back(&7).await?;
        }
        let again = waits.move_to(&done, End::Front, End::Back, SHORT).await;
        for error in [again.unwrap_err(), idle.pop_front(SHORT).await.unwrap_err()] {
            assert!(!error.is_maybe() && error.to_string().contains("shut down"), "{error}");
        }
        if is_there {
            assert_eq!(list.len().await?, 1, "it stays for the others");
        }
        Ok(())
    }

    #[multi_thread]
    async fn many_consumers_share_the_items(fixture: Fixture) -> Result<(), Error> {
        const ITEMS: u32 = 300;
        let list: List<u32> = List::new(&fixture.client, "l");
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let mut consumer = list.consumer().await?;
            tasks.push(waiting(async move {
                let mut taken = Vec::new();
                loop {
                    match consumer.pop_front(LONG).await.unwrap() {
                        Some(u32::MAX) | None => return taken,
                        Some(item) => taken.push(item),
                    }
                }
            }));
        }
        for item in 0..ITEMS {
            list.push_back(&item).await?;
        }
        list.push_back_many(&[u32::MAX; 4]).await?;
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, (0..ITEMS).collect::<Vec<_>>(), "each once");
        Ok(())
    }

    async fn a_wait_that_cannot_work_is_refused(fixture: Fixture) -> Result<(), Error> {
        let list: List<u32> = List::new(&fixture.client, "{l}");
        let mut consumer = list.consumer().await?;
        let timed = list.clone().with_ttl(Lifetime::on_create(LONG)?);
        let errors = [
            consumer.pop_front(Duration::from_secs(90_000)).await.map(drop).unwrap_err(),
            consumer.pop_many(End::Front, 0, SHORT).await.map(drop).unwrap_err(),
            consumer.move_to(&timed, End::Front, End::Back, SHORT).await.map(drop).unwrap_err(),
        ];
        for (error, named) in errors.iter().zip(["wait", "count", "target"]) {
            assert!(matches!(error, Error::Invalid { what, .. } if *what == named), "{error}");
            assert_eq!(error.kind(), ErrorKind::Usage);
        }
        // An error of the server's does not cost the connection.
        fixture.client.call::<()>(Command::new("SET").key(list.key()).arg("x")).await?;
        let error = consumer.pop_front(SHORT).await.unwrap_err();
        assert!(error.to_string().contains("WRONGTYPE"), "{error}");
        list.clear().await?;
        assert_eq!(consumer.pop_front(SHORT).await?, None);
        Ok(())
    }

    async fn an_item_that_was_taken_and_cannot_be_read_is_not_lost(fixture: Fixture) -> Result<(), Error> {
        let list: List<u32> = List::new(&fixture.client, "l");
        let mut consumer = list.consumer().await?;
        fixture.client.call::<i64>(Command::new("RPUSH").key(list.key()).arg("1").arg("x")).await?;
        let error = consumer.pop_many(End::Front, 2, LONG).await.unwrap_err();
        assert!(matches!(&error, Error::Undecodable { taken, .. } if taken == &["1", "x"]), "{error}");
        Ok(())
    }

    /// A wait takes its time to the millisecond, and a dropped one takes nothing.
    #[paused]
    async fn waits_are_exact_and_can_be_dropped(fixture: Fixture) -> Result<(), Error> {
        let list: List<u32> = List::new(&fixture.client, "l");
        let mut consumer = list.consumer().await?;
        let start = Instant::now();
        assert_eq!(consumer.pop_front(Duration::from_millis(1_500)).await?, None);
        assert_eq!(start.elapsed(), Duration::from_millis(1_500));
        for _ in 0..3 {
            tokio::select! {
                item = consumer.pop_front(LONG) => panic!("{item:?}"),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            list.push_back(&7).await?;
            assert_eq!(list.len().await?, 1, "the dropped wait took nothing");
            assert_eq!(consumer.pop_front(LONG).await?, Some(7), "and the consumer goes on");
        }
        Ok(())
    }

    /// However long it takes to make a connection: the server is asked to wait for what is left
    /// then. Otherwise it would take an item when its caller is gone.
    #[paused]
    async fn a_slow_connection_makes_no_wait_longer(fixture: Fixture) -> Result<(), Error> {
        let (wait, slow) = (Duration::from_secs(5), Duration::from_secs(2));
        for like_a_cluster in [false, true] {
            let watched = Watched::new(&fixture);
            let list: List<u32> = List::new(&watched.client, "l");
            let sorted: SortedSet<u32> = SortedSet::new(&watched.client, "z")?;
            let (mut items, mut members) = (list.consumer().await?, sorted.consumer().await?);
            watched.connects_slowly(slow, like_a_cluster);
            // Which costs the connections.
            tokio::select! {
                item = items.pop_front(LONG) => panic!("{item:?}"),
                member = members.pop_min(LONG) => panic!("{member:?}"),
                () = tokio::time::sleep(SHORT) => {}
            }
            let start = Instant::now();
            let (item, member) = tokio::join!(items.pop_front(wait), members.pop_min(wait));
            assert_eq!((item?, member?), (None, None), "with like_a_cluster {like_a_cluster}");
            assert_eq!(start.elapsed(), wait);
            // The first connection is one like any other.
            let mut late = list.consumer().await?;
            let start = Instant::now();
            assert_eq!(late.pop_front(wait).await?, None, "with like_a_cluster {like_a_cluster}");
            assert_eq!(start.elapsed(), wait);
            list.push_back(&7).await?;
            sorted.add(&7, 1.0).await?;
            tokio::time::sleep(LONG).await;
            assert_eq!((list.len().await?, sorted.len().await?), (1, 1), "nobody waits any more");
            list.clear().await?;
            sorted.clear().await?;
        }
        Ok(())
    }

    async fn a_margin_of_any_length_will_do(fixture: Fixture) -> Result<(), Error> {
        let list: List<u32> = List::new(&fixture.client, "l");
        let mut items = list.consumer().await?.margin(Duration::MAX);
        assert_eq!(items.pop_front(SHORT).await?, None);
        let sorted: SortedSet<u32> = SortedSet::new(&fixture.client, "z")?;
        let mut members = sorted.consumer().await?.margin(Duration::MAX);
        assert_eq!(members.pop_min(SHORT).await?, None);
        Ok(())
    }

    #[networked]
    async fn a_lost_connection_is_told_and_made_anew(fixture: Fixture) -> Result<(), Error> {
        let (server, client) = private(&fixture).await;
        let list: List<u32> = List::new(&client, "l");
        let waits = waiting(take_one(list.consumer().await?));
        until_blocked(&server, 1).await;
        server.kill_clients().await.unwrap();
        let (result, mut consumer) = waits.await.unwrap();
        let error = result.unwrap_err();
        assert!(error.is_maybe(), "nobody knows what it took: {error}");
        // The shared connection was killed as well, and may notice with this. A connection that was killed carries nothing out.
        let deadline = Instant::now() + LONG;
        while let Err(error) = list.push_back(&7).await {
            assert!(error.is_maybe() && Instant::now() < deadline, "{error}");
        }
        assert_eq!(consumer.pop_front(LONG).await?, Some(7));
        assert_eq!(list.len().await?, 0);
        client.shutdown().await;
        Ok(())
    }

    /// As at the end of a failover, when the server sends waiters away.
    #[networked]
    async fn a_waiter_that_is_sent_away_with_nothing_waits_on(fixture: Fixture) -> Result<(), Error> {
        let (server, client) = private(&fixture).await;
        let list: List<u32> = List::new(&client, "l");
        let waits = waiting(take_one(list.consumer().await?));
        until_blocked(&server, 1).await;
        let clients = server.raw(&["CLIENT", "LIST"]).await.unwrap().text().unwrap();
        let line = clients.lines().find(|line| line.contains("cmd=blmpop")).unwrap();
        let id = line.split(' ').next().unwrap().strip_prefix("id=").unwrap().to_owned();
        server.raw(&["CLIENT", "UNBLOCK", &id, "ERROR"]).await.unwrap();
        // On another connection.
        until_blocked(&server, 1).await;
        list.push_back(&7).await?;
        assert_eq!(waits.await.unwrap().0?, Some(7));
        client.shutdown().await;
        Ok(())
    }

    /// A connection that died while it was idle, as behind a firewall that forgot it, is noticed
    /// before an item is asked for on it.
    #[networked]
    async fn a_connection_that_died_in_silence_takes_nothing_with_it(fixture: Fixture) -> Result<(), Error> {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let config = fixture
            .config_at(&server.url_at(proxy.addr()))
            .unwrap()
            .command_timeout(Duration::from_millis(300))
            .connect_timeout(Duration::from_secs(1));
        let client = fixture.connect(config).await.unwrap();
        let list: List<u32> = List::new(&client, "l");
        let mut consumer = list.consumer().await?;
        assert_eq!(consumer.pop_front(SHORT).await?, None);
        server.raw(&["RPUSH", "l", "7"]).await.unwrap();
        // The time that a connection may be silent before it is tried.
        tokio::time::sleep(Duration::from_millis(5_100)).await;
        proxy.black_hole();
        let waits = waiting(take_one(consumer));
        tokio::time::sleep(Duration::from_millis(500)).await;
        // What lost bytes stays silent; new connections are good.
        proxy.pass();
        assert_eq!(waits.await.unwrap().0?, Some(7));
        client.shutdown().await;
        Ok(())
    }

    #[networked]
    async fn a_server_that_is_gone_ends_the_wait_in_time(fixture: Fixture) -> Result<(), Error> {
        let (server, client) = private(&fixture).await;
        let list: List<u32> = List::new(&client, "l");
        let mut consumer = list.consumer().await?.margin(Duration::from_millis(300));
        server.stop().unwrap();
        let start = Instant::now();
        let error = consumer.pop_front(Duration::from_millis(200)).await.unwrap_err();
        assert!(error.is_maybe() && error.is_retryable(), "{error}");
        assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        server.cont().unwrap();
        // The wait that was given up is carried out by the server now, and may take one.
        list.push_back_many(&[1, 2]).await?;
        assert!(consumer.pop_front(LONG).await?.is_some());
        client.shutdown().await;
        Ok(())
    }

    /// However often a consumer is dropped in the middle: `move_to` loses nothing.
    #[networked]
    #[multi_thread]
    async fn moves_lose_nothing_when_they_are_dropped(fixture: Fixture) -> Result<(), Error> {
        const ITEMS: u32 = 400;
        let list: List<u32> = List::new(&fixture.client, "{l}:waiting");
        let mine: List<u32> = List::new(&fixture.client, "{l}:mine");
        let pusher = waiting({
            let list = list.clone();
            async move {
                for item in 0..ITEMS {
                    list.push_back(&item).await.unwrap();
                }
            }
        });
        let mut consumer = list.consumer().await?;
        let mut acknowledged = Vec::new();
        let mut drops = 0;
        let deadline = Instant::now() + LONG * 4;
        let (mut round, mut fruitless) = (0_u64, 0);
        while acknowledged.len() < usize::try_from(ITEMS).unwrap() {
            assert!(Instant::now() < deadline, "{} of {ITEMS}", acknowledged.len());
            round += 1;
            // From less than any reply takes to more than a new connection does, also on a machine that is busy.
            let patience = Duration::from_micros((round % 40).pow(2) * 5 * (1 + fruitless / 40));
            tokio::select! {
                moved = consumer.move_to(&mine, End::Front, End::Back, Duration::from_millis(50)) => {
                    moved.unwrap();
                    fruitless = 0;
                }
                () = briefly(patience) => {
                    drops += 1;
                    fruitless += 1;
                }
            }
            // Whatever is in the list of work in progress is worked on.
            for item in mine.range(..).await? {
                assert_eq!(mine.remove(&item, Occurrences::First(1)).await?, 1);
                acknowledged.push(item);
            }
        }
        pusher.await.unwrap();
        assert!(drops > 0, "some were dropped");
        acknowledged.sort_unstable();
        assert_eq!(acknowledged, (0..ITEMS).collect::<Vec<_>>(), "each once");
        Ok(())
    }
}

/// A slot that moves to another node takes its waiting consumers along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_follows_its_slot() {
    // Its nodes believe each other to be alive: nothing is to fail over here.
    let options = ClusterOptions::new().node_timeout(Duration::from_secs(30));
    let cluster = Cluster::start_with(Program::Redis, 3, 0, options)
        .await
        .unwrap();
    let config = ClientConfig::from_url(&cluster.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let list: List<u32> = List::new(&client, "l");
    let waits = waiting(take_one(list.consumer().await.unwrap()));
    let slot = list.key().slot();
    let from = cluster.node_of_slot(slot).await.unwrap();
    until_blocked(from, 1).await;
    let masters = cluster.masters().await.unwrap();
    let to = masters.into_iter().find(|node| node.addr() != from.addr());
    let to = to.unwrap();
    let migration = cluster.begin_migration(slot, to).await.unwrap();
    migration.finish().await.unwrap();
    until_blocked(to, 1).await;
    list.push_back(&7).await.unwrap();
    let (result, mut consumer) = waits.await.unwrap();
    assert_eq!(result.unwrap(), Some(7));
    list.push_back(&8).await.unwrap();
    assert_eq!(consumer.pop_front(LONG).await.unwrap(), Some(8));
    client.shutdown().await;
}
