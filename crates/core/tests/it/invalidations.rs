//! Changes of keys, told by the servers: whoever makes them, and after a connection was lost.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::{
    CallError, Client, ClientConfig, Command, Error, FaultKind, GapReason, Interest, Push,
    PushStream,
};
use redkit_testkit::{BackendKind, Cluster, Fixture, Program, Sentinels, Server, ServerOptions};

fn prefixed(prefixes: &[&[u8]]) -> Interest {
    Interest::Invalidations {
        prefixes: prefixes
            .iter()
            .map(|prefix| Bytes::copy_from_slice(prefix))
            .collect(),
    }
}

async fn next(stream: &mut PushStream) -> Push {
    tokio::time::timeout(Duration::from_secs(20), stream.next())
        .await
        .expect("something comes")
        .expect("the subscription goes on")
}

/// Waits until the subscription is told to be lost, and then to stand again.
async fn lost_and_back(stream: &mut PushStream) {
    assert_eq!(next(stream).await, Push::Gap(GapReason::Lost));
    assert_eq!(next(stream).await, Push::Gap(GapReason::Reconnected));
}

/// Waits until `key` was told, and gives all keys that were. Anything else that comes is a failure.
async fn told(stream: &mut PushStream, key: &[u8]) -> Vec<Bytes> {
    let mut all = Vec::new();
    while !all.iter().any(|told: &Bytes| *told == key) {
        match next(stream).await {
            Push::Invalidate(Some(keys)) => all.extend(keys),
            other => panic!("{other:?} instead of {}", key.escape_ascii()),
        }
    }
    all
}

async fn set(client: &Client, key: &[u8]) -> Result<(), Error> {
    client.call(Command::new("SET").key(key).arg("v")).await
}

redkit_testkit::suite! {
    async fn changes_are_told_whoever_makes_them(fixture: Fixture) -> Result<(), Box<dyn std::error::Error>> {
        let client = &fixture.client;
        let other = fixture.connect(fixture.config()?).await?;
        let key = |name: &str| client.key(name).as_bytes().to_vec();
        let interest = prefixed(&[&key("a:"), &key("b:")]);
        let mut stream = match client.subscribe(interest).await {
            Ok(stream) => stream,
            // The one driver that cannot, and says why; see docs/drivers.md.
            Err(error) => {
                let of_fred = matches!(fixture.kind, BackendKind::Fred | BackendKind::FredSentinel);
                assert!(of_fred, "{error}");
                let kind = error.call_error().and_then(CallError::fault).unwrap().kind();
                assert_eq!(kind, FaultKind::Unsupported);
                assert!(error.to_string().contains("`native` driver"), "{error}");
                return Ok(());
            }
        };
        // What stands when `subscribe` returns hears the very next write.
        set(&other, &key("a:1")).await?;
        assert_eq!(told(&mut stream, &key("a:1")).await, [key("a:1")]);
        set(client, &key("b:own")).await?;
        assert_eq!(told(&mut stream, &key("b:own")).await, [key("b:own")]);
        other.call::<i64>(Command::new("DEL").key(key("a:1"))).await?;
        assert_eq!(told(&mut stream, &key("a:1")).await, [key("a:1")]);
        other.call::<()>(Command::new("SET").key(key("b:2")).arg("v").arg("PX").arg(1)).await?;
        told(&mut stream, &key("b:2")).await;
        // Nobody reads it; the server takes it away by itself.
        told(&mut stream, &key("b:2")).await;

        // Keys of all slots, and one that does not concern us before them.
        set(&other, &key("c:1")).await?;
        for i in 0..40 {
            let name = key(&format!("a:{i}"));
            set(&other, &name).await?;
            assert_eq!(told(&mut stream, &name).await, [Bytes::from(name)]);
        }
        Ok(())
    }

    async fn each_subscriber_is_told_what_it_asked_for(fixture: Fixture) -> Result<(), Box<dyn std::error::Error>> {
        if matches!(fixture.kind, BackendKind::Fred | BackendKind::FredSentinel) {
            let refused = fixture.client.subscribe(prefixed(&[b"x"])).await.unwrap_err();
            assert!(!refused.is_retryable(), "{refused}");
            return Ok(());
        }
        let client = &fixture.client;
        let key = |name: &str| client.key(name).as_bytes().to_vec();
        let mut narrow = client.subscribe(prefixed(&[&key("a:x")])).await?;
        let mut same = client.subscribe(prefixed(&[&key("a:x"), &key("b:")])).await?;
        set(client, &key("a:x1")).await?;
        told(&mut narrow, &key("a:x1")).await;
        told(&mut same, &key("a:x1")).await;

        // A broader prefix takes the narrow one's place at the server, and everybody hears on.
        let mut broad = client.subscribe(prefixed(&[&key("a:")])).await?;
        set(client, &key("a:y")).await?;
        set(client, &key("a:x2")).await?;
        let all = told(&mut broad, &key("a:x2")).await;
        assert_eq!(all, [key("a:y"), key("a:x2")], "no gap: it has just begun");
        for stream in [&mut narrow, &mut same] {
            if fixture.kind.is_networked() {
                // One from every server whose tracking was set up anew.
                assert_eq!(next(stream).await, Push::Gap(GapReason::Reconnected));
            }
            loop {
                match next(stream).await {
                    Push::Gap(GapReason::Reconnected) => {}
                    heard => {
                        assert_eq!(heard, Push::Invalidate(Some(vec![key("a:x2").into()])));
                        break;
                    }
                }
            }
        }

        // One that leaves takes nothing away from the others.
        drop(broad);
        drop(same);
        set(client, &key("a:x3")).await?;
        assert_eq!(told(&mut narrow, &key("a:x3")).await, [key("a:x3")]);
        Ok(())
    }

    async fn prefixes_that_overlap_are_refused(fixture: Fixture) {
        for prefixes in [&[b"a".as_slice(), b"ab"][..], &[b"a", b"a"], &[b"", b"x"], &[]] {
            let error = fixture.client.subscribe(prefixed(prefixes)).await.unwrap_err();
            let kind = error.call_error().and_then(CallError::fault).unwrap().kind();
            assert_eq!(kind, FaultKind::Invalid, "{error}");
        }
    }
}

/// Everything that may happen to the connection, and to all keys at once.
async fn flushed_and_killed(url: &str, servers: &[&Server]) {
    let client = Client::connect(ClientConfig::from_url(url).unwrap())
        .await
        .unwrap();
    let mut stream = client.subscribe(prefixed(&[b"p:"])).await.unwrap();
    for flush in ["FLUSHALL", "FLUSHDB"] {
        client.call::<()>(Command::new(flush)).await.unwrap();
        for _ in servers {
            assert_eq!(next(&mut stream).await, Push::Invalidate(None), "{flush}");
        }
    }
    for server in servers {
        server.kill_clients().await.unwrap();
        lost_and_back(&mut stream).await;
        // What is written from here on is told: the gap is told after it stands again.
        for i in 0..40 {
            let key = format!("p:{i}").into_bytes();
            let set = Command::new("SET").key(&key).arg("v").idempotent(true);
            client.call::<()>(set).await.unwrap();
            told(&mut stream, &key).await;
        }
    }
    client.shutdown().await;
    let end = tokio::time::timeout(Duration::from_secs(5), async {
        while stream.next().await.is_some() {}
    });
    end.await.expect("a shut down client ends its streams");
}

async fn on(program: Program, options: ServerOptions) {
    let server = Server::start(program, options).await.unwrap();
    flushed_and_killed(&server.url(), &[&server]).await;
}

#[tokio::test]
async fn a_flush_and_a_lost_connection_are_told_by_redis() {
    on(Program::Redis, ServerOptions::new()).await;
}

#[tokio::test]
async fn a_flush_and_a_lost_connection_are_told_by_valkey() {
    on(Program::Valkey, ServerOptions::new()).await;
}

#[tokio::test]
async fn a_flush_and_a_lost_connection_are_told_over_tls() {
    on(Program::Redis, ServerOptions::new().tls().password("pw")).await;
}

#[tokio::test]
async fn a_flush_and_a_lost_connection_are_told_behind_sentinels() {
    let sentinels = Sentinels::start(Program::Redis, 3, 1).await.unwrap();
    let master = sentinels.master().await.unwrap();
    flushed_and_killed(&sentinels.url(), &[master]).await;
}

#[tokio::test]
async fn a_flush_and_a_lost_connection_are_told_by_every_master_of_a_cluster() {
    for program in [Program::Redis, Program::Valkey] {
        let cluster = Cluster::start(program, 3, 0).await.unwrap();
        let masters = cluster.masters().await.unwrap();
        flushed_and_killed(&cluster.url(), &masters).await;
    }
}

#[tokio::test]
async fn a_master_that_joins_tells_too() {
    let cluster = Cluster::start(Program::Redis, 3, 1).await.unwrap();
    let config = ClientConfig::from_url(&cluster.url())
        .unwrap()
        .command_timeout(Duration::from_secs(20));
    let client = Client::connect(config).await.unwrap();
    let mut stream = client.subscribe(prefixed(&[b"p:"])).await.unwrap();
    let slot = redkit_core::slot(b"p:1");
    let old = cluster.node_of_slot(slot).await.unwrap();
    old.kill9().await;
    // Its replica takes over; until it is tracked, nothing is told of changes there.
    lost_and_back(&mut stream).await;
    let set = Command::new("SET").key("p:1").arg("v").idempotent(true);
    client.call::<()>(set).await.unwrap();
    told(&mut stream, b"p:1").await;
    client.shutdown().await;
}

#[tokio::test]
async fn a_user_without_the_right_to_track_is_told_so() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let rule = [
        "ACL",
        "SETUSER",
        "reader",
        "on",
        ">pw",
        "~*",
        "&*",
        "+@all",
        "-client|tracking",
    ];
    server.raw(&rule).await.unwrap();
    let url = format!("redis://reader:pw@{}", server.addr());
    let config = ClientConfig::from_url(&url).unwrap();
    let client = Client::connect(config).await.unwrap();
    let error = client.subscribe(prefixed(&[b"p:"])).await.unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains("NOPERM") && shown.contains("client|tracking"),
        "{shown}"
    );
    client.shutdown().await;
}

#[tokio::test]
async fn a_broader_prefix_that_cannot_be_tracked_takes_nothing_away() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let rule = ["ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@all"];
    server.raw(&rule).await.unwrap();
    let url = format!("redis://reader:pw@{}", server.addr());
    let client = Client::connect(ClientConfig::from_url(&url).unwrap())
        .await
        .unwrap();
    let mut narrow = client.subscribe(prefixed(&[b"p:x"])).await.unwrap();
    // Prefixes are replaced within a transaction; without one each part goes its own way.
    let less = ["ACL", "SETUSER", "reader", "-multi"];
    server.raw(&less).await.unwrap();
    client.subscribe(prefixed(&[b"p:"])).await.unwrap_err();
    lost_and_back(&mut narrow).await;
    set(&client, b"p:x1").await.unwrap();
    assert_eq!(told(&mut narrow, b"p:x1").await, [Bytes::from("p:x1")]);
    client.shutdown().await;
}

/// A master that does not track for this user any more would leave a stream that tells of some keys
/// only: it ends.
#[tokio::test]
async fn a_right_that_is_taken_away_at_one_master_ends_the_stream() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let masters = cluster.masters().await.unwrap();
    for master in &masters {
        let all = ["ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@all"];
        master.raw(&all).await.unwrap();
    }
    let url = cluster.url().replace("://", "://reader:pw@");
    let client = Client::connect(ClientConfig::from_url(&url).unwrap())
        .await
        .unwrap();
    let mut stream = client.subscribe(prefixed(&[b"p:"])).await.unwrap();
    let less = ["ACL", "SETUSER", "reader", "-client|tracking"];
    masters[1].raw(&less).await.unwrap();
    masters[1].kill_clients().await.unwrap();
    assert_eq!(next(&mut stream).await, Push::Gap(GapReason::Lost));
    let end = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
    assert_eq!(end.expect("it ends"), None);
    client.shutdown().await;
}
