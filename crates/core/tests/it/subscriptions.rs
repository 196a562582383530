//! Subscriptions: confirmed, kept over reconnects, with the gap told.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::{
    Client, ClientConfig, Command, Driver, Error, GapReason, Interest, Push, PushStream,
};
use redkit_testkit::{Cluster, Fixture, Program, Proxy, Server, ServerOptions};

async fn next(stream: &mut PushStream) -> Push {
    tokio::time::timeout(Duration::from_secs(10), stream.next())
        .await
        .expect("something comes")
        .expect("the subscription goes on")
}

/// Waits until the subscription is told to be lost, and then to stand again.
async fn lost_and_back(stream: &mut PushStream) {
    assert_eq!(next(stream).await, Push::Gap(GapReason::Lost));
    assert_eq!(next(stream).await, Push::Gap(GapReason::Reconnected));
}

async fn publish(client: &Client, channel: &[u8], payload: &str) -> Result<i64, Error> {
    client
        .call(Command::new("PUBLISH").arg(channel).arg(payload))
        .await
}

/// How many the servers count; `PUBLISH` on a cluster counts those of one node only.
async fn subscribers(client: &Client, channel: &[u8]) -> Result<u64, Error> {
    let counts: Vec<(Vec<u8>, u64)> = client
        .call(Command::new("PUBSUB").arg("NUMSUB").arg(channel))
        .await?;
    Ok(counts.iter().map(|(_, count)| count).sum())
}

fn message(channel: &[u8], pattern: Option<&[u8]>, payload: &str) -> Push {
    Push::Message {
        channel: Bytes::copy_from_slice(channel),
        pattern: pattern.map(Bytes::copy_from_slice),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

redkit_testkit::suite! {
    async fn channels_patterns_and_shards(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let channel = client.key("news.1");
        let channel = channel.as_bytes();
        let pattern = client.key("news.*");
        let pattern = pattern.as_bytes();
        let own = |bytes: &[u8]| vec![Bytes::copy_from_slice(bytes)];
        let mut plain = client.subscribe(Interest::Channels(own(channel))).await?;
        let mut second = client.subscribe(Interest::Channels(own(channel))).await?;
        let mut globbed = client.subscribe(Interest::Patterns(own(pattern))).await?;
        let mut sharded = client.subscribe(Interest::Sharded(own(channel))).await?;

        publish(client, channel, "hello").await?;
        assert_eq!(next(&mut plain).await, message(channel, None, "hello"));
        assert_eq!(next(&mut second).await, message(channel, None, "hello"));
        assert_eq!(next(&mut globbed).await, message(channel, Some(pattern), "hello"));
        client.call::<i64>(Command::new("SPUBLISH").key(channel).arg("shard")).await?;
        assert_eq!(next(&mut sharded).await, message(channel, None, "shard"));

        // One of two subscribers leaving does not take the other's messages away.
        drop(plain);
        for i in 0..20 {
            publish(client, channel, &i.to_string()).await?;
            assert_eq!(next(&mut second).await, message(channel, None, &i.to_string()));
        }
        Ok(())
    }

    async fn a_subscriber_that_leaves_is_unsubscribed(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let channel = client.key("c");
        let stream = client
            .subscribe(Interest::Channels(vec![Bytes::copy_from_slice(channel.as_bytes())]))
            .await?;
        assert_eq!(subscribers(client, channel.as_bytes()).await?, 1);
        drop(stream);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while subscribers(client, channel.as_bytes()).await? > 0 {
            assert!(std::time::Instant::now() < deadline, "the server still counts a subscriber");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn no_channel_is_an_error(fixture: Fixture) {
        let error = fixture.client.subscribe(Interest::Channels(Vec::new())).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
    }
}

each_driver! {
    ()
    a_restarted_server_is_subscribed_again_and_the_gap_is_told,
    a_loss_is_told_while_it_lasts,
    a_right_that_is_taken_away_ends_the_stream,
    a_half_dead_connection_is_found_however_much_is_subscribed,
}

fn channels(names: &[&'static str]) -> Interest {
    Interest::Channels(names.iter().map(|&name| name.into()).collect())
}

async fn a_loss_is_told_while_it_lasts(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config.driver(driver)).await.unwrap();
    let mut stream = client.subscribe(channels(&["a", "b"])).await.unwrap();
    server.kill9().await;
    // Nobody could subscribe anew; to be told must not wait for that.
    assert_eq!(next(&mut stream).await, Push::Gap(GapReason::Lost));
    server.restart().await.unwrap();
    assert_eq!(next(&mut stream).await, Push::Gap(GapReason::Reconnected));
    client.shutdown().await;
}

async fn a_right_that_is_taken_away_ends_the_stream(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let rule = |rest: &'static [&str]| {
        let all = ["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all"];
        [&all, rest].concat()
    };
    server.raw(&rule(&["allchannels"])).await.unwrap();
    let config = ClientConfig::from_url(&format!("redis://reader:pw@{}", server.addr())).unwrap();
    let client = Client::connect(config.driver(driver)).await.unwrap();
    let mut both = client.subscribe(channels(&["a", "b"])).await.unwrap();
    let mut one = client.subscribe(channels(&["b"])).await.unwrap();
    // The server ends connections that listen to what they may not any more.
    server.raw(&rule(&["resetchannels", "&b"])).await.unwrap();
    assert_eq!(next(&mut both).await, Push::Gap(GapReason::Lost));
    let end = tokio::time::timeout(Duration::from_secs(10), both.next()).await;
    assert_eq!(end.expect("it ends"), None);
    lost_and_back(&mut one).await;
    client.shutdown().await;
}

async fn a_half_dead_connection_is_found_however_much_is_subscribed(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let config = ClientConfig::from_url(&server.url_at(proxy.addr()))
        .unwrap()
        .driver(driver)
        .probe_interval(Duration::from_millis(100));
    let client = Client::connect(config).await.unwrap();
    let mut stream = client.subscribe(channels(&["a"])).await.unwrap();
    proxy.half_open();
    let busy = async {
        loop {
            // Of what stands already nobody asks the server, who would not answer.
            let again = client.subscribe(channels(&["a"]));
            drop(tokio::time::timeout(Duration::from_millis(30), again).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        push = next(&mut stream) => assert_eq!(push, Push::Gap(GapReason::Lost)),
        () = busy => {}
    }
    client.shutdown().await;
}

async fn a_restarted_server_is_subscribed_again_and_the_gap_is_told(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = Client::connect(
        ClientConfig::from_url(&server.url())
            .unwrap()
            .driver(driver),
    )
    .await
    .unwrap();
    let names = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let mut stream = client.subscribe(Interest::Channels(names)).await.unwrap();
    publish(&client, b"a", "1").await.unwrap();
    assert_eq!(next(&mut stream).await, message(b"a", None, "1"));

    for round in 0..3 {
        if round == 2 {
            server.kill_subscribers().await.unwrap();
        } else {
            server.restart().await.unwrap();
        }
        lost_and_back(&mut stream).await;
        let heard = server.raw(&["PUBLISH", "b", "after"]).await.unwrap().int();
        assert_eq!(
            heard,
            Some(1),
            "the gap is told once the subscription stands"
        );
        assert_eq!(next(&mut stream).await, message(b"b", None, "after"));
    }
    client.shutdown().await;
    let end = tokio::time::timeout(Duration::from_secs(5), async {
        while stream.next().await.is_some() {}
    });
    end.await.expect("a shut down client ends its streams");
}

/// Whether anybody listens at a server.
async fn has_subscribers(server: &Server) -> bool {
    let list = server.raw(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    !list.await.unwrap().text().unwrap().trim().is_empty()
}

#[tokio::test]
async fn subscriptions_leave_a_node_that_has_left_the_cluster() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let config = ClientConfig::from_url(&cluster.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let mut plain = client.subscribe(channels(&["news"])).await.unwrap();
    let mut leaving = None;
    for node in cluster.nodes() {
        if has_subscribers(node).await {
            leaving = Some(node);
        }
    }
    let leaving = leaving.expect("the connection is to one of them");
    let addr = leaving.addr().to_string();
    let servers = client.servers();
    let served = &servers.iter().find(|server| *server.name == *addr).unwrap();
    let shard = (0..).map(|n| format!("shard-{n}"));
    let is_there = |name: &String| served.serves(redkit_core::slot(name.as_bytes()));
    let shard = Bytes::from(shard.into_iter().find(is_there).unwrap());
    let interest = Interest::Sharded(vec![shard.clone()]);
    let mut sharded = client.subscribe(interest).await.unwrap();

    let slots: Vec<String> = (0..16_384)
        .filter(|slot| served.serves(*slot))
        .map(|slot| slot.to_string())
        .collect();
    let id = cluster.id(leaving).await.unwrap();
    let done = async |node: &Server, command: &[&str]| {
        let reply = node.raw(command).await.unwrap();
        assert!(!reply.is_error(), "{command:?}: {reply:?}");
    };
    let mut staying = cluster
        .nodes()
        .iter()
        .filter(|node| node.addr() != leaving.addr());
    let (heir, other) = (staying.next().unwrap(), staying.next().unwrap());
    done(heir, &["CLUSTER", "FORGET", &id]).await;
    done(other, &["CLUSTER", "FORGET", &id]).await;
    done(leaving, &["CLUSTER", "RESET", "HARD"]).await;
    let all = ["CLUSTER", "ADDSLOTS"]
        .into_iter()
        .chain(slots.iter().map(String::as_str));
    done(heir, &all.collect::<Vec<_>>()).await;

    // Nobody calls the node that has left: its subscribers find out by themselves.
    lost_and_back(&mut plain).await;
    lost_and_back(&mut sharded).await;
    done(heir, &["PUBLISH", "news", "after"]).await;
    assert_eq!(next(&mut plain).await, message(b"news", None, "after"));
    heard(&client, &mut sharded, &shard, "after").await;
    client.shutdown().await;
}

/// How many connections of a server listen to sharded channels, and to how many.
async fn sharded_connections(server: &Server) -> (usize, u64) {
    let list = server.raw(&["CLIENT", "LIST"]).await.unwrap();
    let list = list.text().unwrap();
    let channels = list.lines().filter_map(|line| {
        let count = line
            .split(' ')
            .find_map(|field| field.strip_prefix("ssub="))?;
        count.parse::<u64>().ok().filter(|count| *count > 0)
    });
    channels.fold((0, 0), |(connections, sum), count| {
        (connections + 1, sum + count)
    })
}

async fn heard(client: &Client, stream: &mut PushStream, channel: &Bytes, payload: &str) {
    let publish = Command::new("SPUBLISH").key(channel).arg(payload);
    client.call::<i64>(publish).await.unwrap();
    assert_eq!(next(stream).await, message(channel, None, payload));
}

#[tokio::test]
async fn sharded_channels_share_one_connection_to_each_master_and_follow_their_slots() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let masters = cluster.masters().await.unwrap();
    let config = ClientConfig::from_url(&cluster.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let channels: Vec<Bytes> = (0..60).map(|i| format!("channel-{i}").into()).collect();
    let (together, apart) = channels.split_at(30);
    // Of all slots in one subscription, and one by one.
    let interest = Interest::Sharded(together.to_vec());
    let mut all = client.subscribe(interest).await.unwrap();
    let mut each = Vec::new();
    for channel in apart {
        let interest = Interest::Sharded(vec![channel.clone()]);
        each.push(client.subscribe(interest).await.unwrap());
    }
    let prefixes = vec![Bytes::from_static(b"p:")];
    let tracked = client.subscribe(Interest::Invalidations { prefixes });
    let _tracked = tracked.await.unwrap();
    let mut sum = 0;
    for master in &masters {
        let (connections, channels) = sharded_connections(master).await;
        assert_eq!(connections, 1, "{}", master.addr());
        sum += channels;
        let list = master.raw(&["CLIENT", "LIST"]).await.unwrap();
        let list = list.text().unwrap();
        // P: subscribed to channels; t: tracking; B: by prefixes.
        let tracking: Vec<&str> = list
            .lines()
            .filter(|line| line.contains(" flags=PtB "))
            .collect();
        assert_eq!(
            tracking.len(),
            1,
            "changes of keys come on the same: {list}"
        );
    }
    assert_eq!(sum, 60);
    for channel in together {
        heard(&client, &mut all, channel, "together").await;
    }
    for (channel, stream) in apart.iter().zip(&mut each) {
        heard(&client, stream, channel, "apart").await;
    }

    // Slots move to another node, one after the other, and nothing else is disturbed.
    let moving = &apart[..5];
    for channel in moving {
        let slot = redkit_core::slot(channel);
        let from = cluster.node_of_slot(slot).await.unwrap();
        let to = masters.iter().find(|node| node.addr() != from.addr());
        cluster
            .migrate_slots(slot..=slot, from, to.unwrap())
            .await
            .unwrap();
    }
    for (channel, stream) in apart.iter().zip(&mut each) {
        let is_moved = moving
            .iter()
            .any(|moved| redkit_core::slot(moved) == redkit_core::slot(channel));
        if is_moved {
            lost_and_back(stream).await;
        }
        heard(&client, stream, channel, "after").await;
    }
    let mut sum = 0;
    for master in &masters {
        let (connections, channels) = sharded_connections(master).await;
        assert_eq!(connections, 1, "{}", master.addr());
        sum += channels;
    }
    assert_eq!(sum, 60, "nothing is subscribed twice, or left behind");

    // Who leaves is unsubscribed, wherever the channel is by now.
    drop((each, all));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    for master in &masters {
        while sharded_connections(master).await.1 > 0 {
            assert!(tokio::time::Instant::now() < deadline, "still subscribed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    client.shutdown().await;
}

#[tokio::test]
async fn notifications_about_keys_come_from_every_master() {
    let cluster = Cluster::start(Program::Redis, 3, 1).await.unwrap();
    for node in cluster.nodes() {
        let set = ["CONFIG", "SET", "notify-keyspace-events", "KEA"];
        assert!(!node.raw(&set).await.unwrap().is_error());
    }
    let config = ClientConfig::from_url(&cluster.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let mut events = client
        .subscribe(Interest::Patterns(vec![
            "__keyevent@0__:*".into(),
            "plain:*".into(),
        ]))
        .await
        .unwrap();
    let channel = "__keyevent@0__:set";
    let mut sets = client.subscribe(channels(&[channel])).await.unwrap();
    let set_everywhere = async || {
        let mut keys: Vec<String> = Vec::new();
        for server in client.servers() {
            let mut names = (0..).map(|number| format!("key-{number}"));
            let key = names.find(|key| server.serves(redkit_core::slot(key.as_bytes())));
            keys.extend(key);
        }
        assert_eq!(keys.len(), 3);
        for key in &keys {
            client
                .call::<()>(Command::new("SET").key(key).arg(1))
                .await
                .unwrap();
        }
        keys
    };
    let key_of = |push: Push| match push {
        Push::Message { payload, .. } => String::from_utf8(payload.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    let mut keys = set_everywhere().await;
    keys.sort();
    for stream in [&mut events, &mut sets] {
        let mut told = Vec::new();
        for _ in &keys {
            told.push(key_of(next(stream).await));
        }
        told.sort();
        assert_eq!(told, keys);
    }
    publish(&client, b"plain:1", "once").await.unwrap();
    assert_eq!(
        next(&mut events).await,
        message(b"plain:1", Some(b"plain:*"), "once")
    );

    // A replica takes over from one of them.
    let master = cluster
        .node_of_slot(redkit_core::slot(b"key-0"))
        .await
        .unwrap();
    let replica = cluster.replicas_of(master).await.unwrap()[0];
    cluster.failover(replica).await.unwrap();
    lost_and_back(&mut sets).await;
    lost_and_back(&mut events).await;
    let mut keys = set_everywhere().await;
    keys.sort();
    for stream in [&mut events, &mut sets] {
        let mut told = Vec::new();
        for _ in &keys {
            told.push(key_of(next(stream).await));
        }
        told.sort();
        assert_eq!(told, keys);
    }
    client.shutdown().await;
}

/// A channel of the application's own, whose name begins like those of the servers' notifications.
#[tokio::test]
async fn a_message_on_an_applications_own_channel_is_heard_once_on_a_cluster() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let config = ClientConfig::from_url(&cluster.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let mut stream = client.subscribe(channels(&["__keys"])).await.unwrap();
    publish(&client, b"__keys", "once").await.unwrap();
    assert_eq!(next(&mut stream).await, message(b"__keys", None, "once"));
    let more = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
    assert!(more.is_err(), "{more:?}");
    client.shutdown().await;
}
