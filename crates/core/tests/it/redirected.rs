//! Transactions and connections of one's own, where a cluster moves keys, and masters, under them.

use std::time::Duration;

use redkit_core::{CallError, Client, ClientConfig, Command, ConnectionState, FaultKind, Value};
use redkit_testkit::{Cluster, Program, Server};

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
    // The client learns of it.
    client.call::<Option<String>>(get("k")).await.unwrap();
    let error = own.call::<Option<String>>(get("k")).await.unwrap_err();
    let kind = error
        .call_error()
        .and_then(CallError::fault)
        .unwrap()
        .kind();
    assert_eq!(kind, FaultKind::Disconnected, "{error}");

    from.kill_clients().await.unwrap();
    let ended = state.wait_for(|state| *state == ConnectionState::Closed);
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("it is told")
        .unwrap();
    client.shutdown().await;
}
