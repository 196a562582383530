//! Transactions and connections of one's own, where a cluster moves keys, and masters, under them.

use std::time::Duration;

use redkit_core::{
    CallError, Client, ClientConfig, Command, ConnectionState, Error, FaultKind, Script, Value,
};
use redkit_testkit::{Cluster, ClusterOptions, Program, Server};

/// Not to be carried out twice.
static COUNT: Script = Script::new("return redis.call('INCR', KEYS[1])");

async fn cluster() -> Cluster {
    Cluster::start(Program::Redis, 3, 0).await.unwrap()
}

async fn client(url: &str) -> Client {
    let config = ClientConfig::from_url(url).unwrap();
    Client::connect(config.command_timeout(Duration::from_secs(3)))
        .await
        .unwrap()
}

/// A master that does not serve `slot`.
async fn other_than(cluster: &Cluster, slot: u16) -> &Server {
    let from = cluster.node_of_slot(slot).await.unwrap();
    let masters = cluster.masters().await.unwrap();
    let mut others = masters.iter().filter(|node| node.addr() != from.addr());
    others.next().unwrap()
}

#[tokio::test]
async fn a_transaction_creates_keys_in_a_slot_that_is_moving() {
    let cluster = cluster().await;
    let client = client(&cluster.url()).await;
    let slot = redkit_core::slot(b"new");
    let to = other_than(&cluster, slot).await;
    let migration = cluster.begin_migration(slot, to).await.unwrap();
    // The slot stays between the two all the while: only who asks the new owner gets through.
    let began = std::time::Instant::now();
    for round in 1..=3_i64 {
        let commands = vec![
            Command::new("MULTI"),
            Command::new("INCR").key("new"),
            Command::new("INCR").key("new"),
            Command::new("EXEC"),
        ];
        let replies = client.pipeline(commands).await.unwrap();
        let results = replies.last().unwrap().as_ref().unwrap();
        let expected = [round * 2 - 1, round * 2].map(Value::Int);
        assert_eq!(*results, Value::Array(expected.into()));
    }
    assert!(began.elapsed() < Duration::from_secs(3));
    migration.finish().await.unwrap();
    assert_eq!(to.raw(&["GET", "new"]).await.unwrap().int(), Some(6));
    client.shutdown().await;
}

#[tokio::test]
async fn commands_of_a_transaction_that_was_refused_are_not_sent_again() {
    let cluster = cluster().await;
    for node in cluster.masters().await.unwrap() {
        let rule = [
            "ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-multi",
        ];
        node.raw(&rule).await.unwrap();
    }
    let client = client(&cluster.url().replace("://", "://app:pw@")).await;
    let slot = redkit_core::slot(b"t");
    let to = other_than(&cluster, slot).await;
    let increment = Command::new("INCR").key("{t}n");
    client.call::<i64>(increment.clone()).await.unwrap();
    let _migration = cluster.begin_migration(slot, to).await.unwrap();
    let commands = vec![
        Command::new("MULTI"),
        increment,
        // One of them is elsewhere, as far as the server knows: `TRYAGAIN`.
        Command::new("MGET").key("{t}n").key("{t}absent"),
        Command::new("EXEC"),
    ];
    let replies = client.pipeline(commands).await.unwrap();
    let code = |at: usize| {
        replies[at]
            .as_ref()
            .unwrap_err()
            .server_error()
            .unwrap()
            .code()
    };
    assert_eq!((code(0), code(2)), ("NOPERM", "TRYAGAIN"));
    let found = client.call::<i64>(Command::new("GET").key("{t}n")).await;
    assert_eq!(
        found.unwrap(),
        2,
        "the server carried it out, without the transaction"
    );
    client.shutdown().await;
}

#[tokio::test]
async fn a_lazy_clients_own_connection_waits_for_the_view() {
    let cluster = cluster().await;
    let config = ClientConfig::from_url(&cluster.url()).unwrap().lazy(true);
    let client = Client::connect(config).await.unwrap();
    let own = client.dedicated().await.unwrap();
    own.call::<()>(Command::new("SET").key("k").arg("v"))
        .await
        .unwrap();
    client.shutdown().await;
}

/// Nothing was carried out, and another connection can do it.
fn is_to_be_opened_anew(error: &Error) {
    is_not_sent(error.call_error().unwrap());
    assert!(error.to_string().contains("open another"), "{error}");
}

fn is_not_sent(error: &CallError) {
    let CallError::NotSent(fault) = error else {
        panic!("{error:?}")
    };
    assert_eq!(fault.kind(), FaultKind::Disconnected, "{error}");
}

#[tokio::test]
async fn a_command_that_is_redirected_on_a_connection_of_ones_own_was_not_sent() {
    let cluster = cluster().await;
    let slot = redkit_core::slot(b"k");
    let get = || Command::new("GET").key("k");
    // None learns from another.
    let mut connections = Vec::new();
    for _ in 0..5 {
        let client = client(&cluster.url()).await;
        let own = client.dedicated().await.unwrap();
        own.call::<Option<String>>(get()).await.unwrap();
        connections.push((client, own));
    }
    let [moving, waiting, script, pipeline, transaction] = &connections[..] else {
        panic!("five")
    };
    let waits = tokio::spawn({
        let own = waiting.1.clone();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(25);
        let pop = Command::new("BLPOP").key("k").arg(20).deadline(deadline);
        async move { own.call::<Value>(pop).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let to = other_than(&cluster, slot).await;
    let migration = cluster.begin_migration(slot, to).await.unwrap();
    is_to_be_opened_anew(&moving.1.call::<Value>(get()).await.unwrap_err());
    migration.finish().await.unwrap();

    is_to_be_opened_anew(&waits.await.unwrap().unwrap_err());
    is_to_be_opened_anew(
        &script
            .1
            .eval::<Value>(COUNT.invoke([&"k"]))
            .await
            .unwrap_err(),
    );
    let replies = pipeline.1.pipeline(vec![Command::new("PING"), get()]);
    let mut replies = replies.await.unwrap();
    let refused = replies.pop().unwrap().unwrap_err();
    is_not_sent(&refused);
    assert!(replies[0].is_ok(), "its outcome is its own");
    let commands = vec![
        Command::new("MULTI"),
        Command::new("INCR").key("k"),
        Command::new("EXEC"),
    ];
    is_to_be_opened_anew(&transaction.1.pipeline(commands).await.unwrap_err());
    // These clients were told where the slot is. It was moving then and has come to rest since, and no node has said so.
    for (client, _) in &connections[1..] {
        let another = client.dedicated().await.unwrap();
        another.call::<Option<String>>(get()).await.unwrap();
        client.shutdown().await;
    }
}

#[tokio::test]
async fn scripts_of_one_pipeline_follow_their_slot_however_many_there_are() {
    let cluster = cluster().await;
    let client = client(&cluster.url()).await;
    let count = || (0..20).map(|_| COUNT.invoke([&"k"])).collect::<Vec<_>>();
    let counted = async || {
        let replies = client.eval_all(count()).await.unwrap();
        let counts = replies.into_iter().map(|reply| reply.unwrap().to::<i64>());
        let mut counts = counts.map(Result::unwrap).collect::<Vec<_>>();
        counts.sort_unstable();
        counts
    };
    assert_eq!(counted().await, (1..=20).collect::<Vec<_>>());
    let slot = redkit_core::slot(b"k");
    let from = cluster.node_of_slot(slot).await.unwrap();
    let to = other_than(&cluster, slot).await;
    cluster.migrate_slots(slot..=slot, from, to).await.unwrap();
    assert_eq!(counted().await, (21..=40).collect::<Vec<_>>(), "each once");
    client.shutdown().await;
}

#[tokio::test]
async fn a_script_is_sent_on_until_the_nodes_agree_who_serves_its_slot() {
    let cluster = cluster().await;
    let client = client(&cluster.url()).await;
    let slot = redkit_core::slot(b"k");
    let from = cluster.node_of_slot(slot).await.unwrap();
    let to = other_than(&cluster, slot).await;
    let (number, id) = (slot.to_string(), cluster.id(to).await.unwrap());
    let gives = ["CLUSTER", "SETSLOT", &number, "NODE", &id];
    // The other node does not know yet: each sends callers to the other.
    assert!(!from.raw(&gives).await.unwrap().is_error());
    let counting = tokio::spawn({
        let client = client.clone();
        async move { client.eval::<i64>(COUNT.invoke([&"k"])).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!to.raw(&gives).await.unwrap().is_error());
    assert_eq!(counting.await.unwrap().unwrap(), 1);
    client.shutdown().await;
}

#[tokio::test]
async fn a_connection_of_ones_own_says_when_its_slot_has_moved_and_when_it_has_ended() {
    let cluster = cluster().await;
    let client = client(&cluster.url()).await;
    let own = client.dedicated().await.unwrap();
    let get = |key: &str| Command::new("GET").key(key);
    own.call::<Option<String>>(get("k")).await.unwrap();
    let mut state = own.state();
    assert_eq!(*state.borrow_and_update(), ConnectionState::Connected(1));
    let slot = redkit_core::slot(b"k");
    let from = cluster.node_of_slot(slot).await.unwrap();
    let to = other_than(&cluster, slot).await;
    cluster.migrate_slots(slot..=slot, from, to).await.unwrap();
    // No call on another connection has told the client of it.
    for _ in 0..2 {
        is_to_be_opened_anew(&own.call::<Option<String>>(get("k")).await.unwrap_err());
    }
    let another = client.dedicated().await.unwrap();
    another.call::<Option<String>>(get("k")).await.unwrap();

    from.kill_clients().await.unwrap();
    let ended = state.wait_for(|state| *state == ConnectionState::Closed);
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("it is told")
        .unwrap();
    client.shutdown().await;
}

#[tokio::test]
async fn the_nodes_are_not_flooded_with_questions_while_a_master_is_down() {
    let options = ClusterOptions::new().config("cluster-require-full-coverage no");
    let cluster = Cluster::start_with(Program::Redis, 3, 0, options)
        .await
        .unwrap();
    let client = client(&cluster.url()).await;
    let slot = redkit_core::slot(b"k");
    let down = cluster.node_of_slot(slot).await.unwrap();
    let healthy = other_than(&cluster, slot).await;
    // Its calls fail all the time.
    let caller = tokio::spawn({
        let client = client.clone();
        async move {
            loop {
                let deadline = tokio::time::Instant::now() + Duration::from_millis(50);
                let get = Command::new("GET").key("k").deadline(deadline);
                drop(client.call::<Value>(get).await);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    down.kill9().await;
    let asked = async || {
        let calls = healthy.calls().await.unwrap();
        calls.get("cluster|slots").copied().unwrap_or(0)
    };
    let before = asked().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let looks = asked().await - before;
    assert!((1..=30).contains(&looks), "{looks} in 10 s");
    caller.abort();
    client.shutdown().await;
}

#[tokio::test]
async fn a_command_whose_key_only_the_server_knows_of_follows_its_redirection() {
    let cluster = cluster().await;
    let client = client(&cluster.url()).await;
    let owner = cluster.node_of_slot(redkit_core::slot(b"k")).await.unwrap();
    let calls = 200;
    for number in 1..=calls {
        // The key is given as an argument like any other.
        let counted = client.call::<u64>(Command::new("INCR").arg("k")).await;
        assert_eq!(counted.unwrap(), number);
    }
    let carried_out = owner.calls().await.unwrap();
    assert_eq!(carried_out.get("incr").copied(), Some(calls));
    let mut refused = 0;
    for node in cluster.nodes() {
        let stats = node.raw(&["INFO", "commandstats"]).await.unwrap();
        let stats = stats.text().unwrap();
        let incr = stats.lines().find(|line| line.starts_with("cmdstat_incr:"));
        let count = incr.and_then(|line| line.split("rejected_calls=").nth(1)?.split(',').next());
        refused += count.map_or(0, |count| count.parse::<u64>().unwrap());
    }
    // Two of three nodes do not have the key. To try one at random again takes twice as many refusals as calls.
    assert!((1..=calls).contains(&refused), "{refused}");
    client.shutdown().await;
}

#[tokio::test]
async fn a_wait_that_a_failover_ends_was_not_answered_and_another_connection_can_wait_on() {
    let cluster = Cluster::start(Program::Redis, 3, 1).await.unwrap();
    let client = client(&cluster.url()).await;
    let own = client.dedicated().await.unwrap();
    own.call::<Value>(Command::new("GET").key("k"))
        .await
        .unwrap();
    let waits = tokio::spawn({
        let own = own.clone();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let pop = Command::new("BLPOP").key("k").arg(50).deadline(deadline);
        async move { own.call::<Value>(pop).await }
    });
    let master = cluster.node_of_slot(redkit_core::slot(b"k")).await.unwrap();
    // A pop that came after the failover would be redirected, and say the same.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let clients = master.raw(&["INFO", "clients"]).await.unwrap();
        if clients.text().unwrap().contains("blocked_clients:1") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it does not wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let replica = cluster.replicas_of(master).await.unwrap()[0];
    cluster.failover(replica).await.unwrap();
    is_to_be_opened_anew(&waits.await.unwrap().unwrap_err());
    client.shutdown().await;
}
