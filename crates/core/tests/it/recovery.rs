//! The connection is made anew, in every way that it can be lost, and lazily when asked to.

use std::time::Duration;

use redkit_core::{Change, Client, ClientConfig, Command, ConnectionState, Driver, ServerKind};
use redkit_testkit::{Close, Program, Proxy, Server, ServerOptions};

each_driver! {
    ()
    every_way_to_lose_a_connection,
    a_silent_connection_is_probed,
    a_large_reply_is_a_sign_of_life,
    lazy_clients_connect_at_the_first_command,
    the_server_is_known_by_what_it_says,
    unix_sockets_and_databases,
    a_credential_provider_that_panics_costs_an_attempt,
    a_master_that_was_demoted_behind_its_name_is_left,
}

async fn ping_until_answered(client: &Client) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while client.call::<String>(Command::new("PING")).await.is_err() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "no answer: {client:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn every_way_to_lose_a_connection(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let config = ClientConfig::from_url(&server.url_at(proxy.addr()))
        .unwrap()
        .driver(driver)
        .command_timeout(Duration::from_millis(300));
    let client = Client::connect(config).await.unwrap();
    type Lose = fn(&Proxy);
    let ways: [(&str, Lose); 4] = [
        ("closed in order", |p| p.sever(Close::Fin)),
        ("reset", |p| p.sever(Close::Rst)),
        ("half open without a server", |p| {
            p.half_open_without_server()
        }),
        ("black hole, then nothing", |p| p.black_hole()),
    ];
    for (way, lose) in ways {
        let ConnectionState::Connected(before) = *client.state().borrow() else {
            panic!("{way}")
        };
        lose(&proxy);
        drop(client.call::<String>(Command::new("PING")).await);
        proxy.pass();
        ping_until_answered(&client).await;
        let ConnectionState::Connected(after) = *client.state().borrow() else {
            panic!("{way}")
        };
        assert!(after > before, "{way}: a new connection");
    }
    client.shutdown().await;
    assert_eq!(*client.state().borrow(), ConnectionState::Closed);
}

async fn a_silent_connection_is_probed(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let config = ClientConfig::from_url(&server.url_at(proxy.addr()))
        .unwrap()
        .driver(driver)
        .command_timeout(Duration::from_millis(200))
        .probe_interval(Duration::from_millis(50));
    let client = Client::connect(config).await.unwrap();
    let mut state = client.state();
    proxy.half_open();
    // Nobody calls; the probe alone finds out.
    let lost = state.wait_for(|state| matches!(state, ConnectionState::Reconnecting { .. }));
    tokio::time::timeout(Duration::from_secs(5), lost)
        .await
        .expect("it was given up")
        .unwrap();
    proxy.pass();
    let replaced = state.wait_for(|state| matches!(state, ConnectionState::Connected(2..)));
    tokio::time::timeout(Duration::from_secs(5), replaced)
        .await
        .expect("it was replaced")
        .unwrap();
    client.shutdown().await;
}

async fn a_large_reply_is_a_sign_of_life(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let config = ClientConfig::from_url(&server.url_at(proxy.addr()))
        .unwrap()
        .driver(driver)
        .command_timeout(Duration::from_millis(100))
        .probe_interval(Duration::from_millis(30));
    let client = Client::connect(config).await.unwrap();
    // Every reply comes later than a probe waits for it, but they come.
    proxy.delay(Duration::ZERO, Duration::from_millis(60));
    for _ in 0..20 {
        drop(client.call::<String>(Command::new("PING")).await);
    }
    let state = client.state().borrow().clone();
    let same = matches!(
        state,
        ConnectionState::Connected(1) | ConnectionState::Suspect(1)
    );
    assert!(same, "it was replaced: {state:?}");
    client.shutdown().await;
}

async fn lazy_clients_connect_at_the_first_command(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url())
        .unwrap()
        .driver(driver)
        .lazy(true);
    let client = Client::connect(config).await.unwrap();
    assert_eq!(*client.state().borrow(), ConnectionState::Idle);
    assert_eq!(client.capabilities().server, ServerKind::Unknown);
    assert_eq!(
        client.call::<String>(Command::new("PING")).await.unwrap(),
        "PONG"
    );
    assert_eq!(*client.state().borrow(), ConnectionState::Connected(1));
    client.shutdown().await;
}

async fn the_server_is_known_by_what_it_says(driver: Driver) {
    for (program, kind) in [
        (Program::Redis, ServerKind::Redis),
        (Program::Valkey, ServerKind::Valkey),
    ] {
        let server = Server::start(program, ServerOptions::new()).await.unwrap();
        let config = ClientConfig::from_url(&server.url())
            .unwrap()
            .driver(driver)
            .client_name("it");
        let client = Client::connect(config).await.unwrap();
        let capabilities = client.capabilities();
        assert_eq!(capabilities.server, kind);
        assert!(capabilities.version >= (7, 0, 0), "{capabilities:?}");
        assert!(capabilities.sharded_pubsub && capabilities.streams);
        // The servers do; one driver does not pass on all that they tell.
        assert_eq!(capabilities.tracking, driver == Driver::Native);
        let name: String = client
            .call(Command::new("CLIENT").arg("GETNAME"))
            .await
            .unwrap();
        assert_eq!(name, "it");
        client.shutdown().await;
    }
}

async fn unix_sockets_and_databases(driver: Driver) {
    let server = Server::redis(ServerOptions::new().unix()).await.unwrap();
    let url = format!("unix://{}?database=3", server.socket().display());
    let client = Client::connect(ClientConfig::from_url(&url).unwrap().driver(driver))
        .await
        .unwrap();
    client
        .call::<()>(Command::new("SET").key("k").arg("v"))
        .await
        .unwrap();
    let keyspace: String = client
        .call(Command::new("INFO").arg("keyspace"))
        .await
        .unwrap();
    assert!(keyspace.contains("db3:keys=1"), "{keyspace}");
    client.shutdown().await;
}

/// Leads each new connection to the server that is named at that moment, as a name or a load balancer does.
async fn moving_name(
    leads_to: std::sync::Arc<std::sync::Mutex<std::net::SocketAddr>>,
) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = *leads_to.lock().unwrap();
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(server).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    address
}

async fn a_master_that_was_demoted_behind_its_name_is_left(driver: Driver) {
    let first = Server::redis(ServerOptions::new()).await.unwrap();
    let second = Server::redis(ServerOptions::new()).await.unwrap();
    let leads_to = std::sync::Arc::new(std::sync::Mutex::new(first.addr()));
    let name = moving_name(std::sync::Arc::clone(&leads_to)).await;
    let config = ClientConfig::from_url(&first.url_at(name))
        .unwrap()
        .driver(driver)
        .command_timeout(Duration::from_secs(3));
    let client = Client::connect(config).await.unwrap();
    let set = |value: &'static str| client.call::<()>(Command::new("SET").key("k").arg(value));
    set("one").await.unwrap();
    let port = second.addr().port().to_string();
    first.raw(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    *leads_to.lock().unwrap() = second.addr();
    set("two").await.unwrap();
    let found = second.raw(&["GET", "k"]).await.unwrap();
    assert_eq!(found.text().as_deref(), Some("two"));

    // The name leads to the old master for a while yet, which is a replica when it is found again.
    second
        .raw(&["REPLICAOF", "127.0.0.1", &first.addr().port().to_string()])
        .await
        .unwrap();
    set("refused").await.unwrap_err();
    first.raw(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    *leads_to.lock().unwrap() = first.addr();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while set("three").await.is_err() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the replica behind the name is not left"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // A pipeline that the demoted master refuses as a whole is carried out by the next one.
    second.raw(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    first.raw(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    *leads_to.lock().unwrap() = second.addr();
    let all = ["k", "l"].map(|key| Command::new("SET").key(key).arg("four"));
    for reply in client.pipeline(all.to_vec()).await.unwrap() {
        reply.unwrap();
    }
    client.shutdown().await;
}

/// Credentials that a test can rotate.
struct Rotating(std::sync::Arc<std::sync::Mutex<&'static str>>);

#[async_trait::async_trait]
impl redkit_core::CredentialProvider for Rotating {
    async fn credentials(
        &self,
    ) -> Result<redkit_core::Credentials, Box<dyn std::error::Error + Send + Sync>> {
        let password = (*self.0.lock().unwrap()).into();
        Ok(redkit_core::Credentials {
            username: Some("app".to_owned()),
            password,
        })
    }
}

#[tokio::test]
async fn rotated_passwords_are_asked_for_at_every_connection() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    server
        .raw(&["ACL", "SETUSER", "app", "on", ">one", "~*", "+@all"])
        .await
        .unwrap();
    let password = std::sync::Arc::new(std::sync::Mutex::new("one"));
    let config = ClientConfig::from_url(&server.url())
        .unwrap()
        .credential_provider(Rotating(std::sync::Arc::clone(&password)));
    let client = Client::connect(config).await.unwrap();
    ping_until_answered(&client).await;
    server
        .raw(&["ACL", "SETUSER", "app", "resetpass", ">two"])
        .await
        .unwrap();
    *password.lock().unwrap() = "two";
    server.kill_clients().await.unwrap();
    ping_until_answered(&client).await;
    let who: String = client
        .call(Command::new("ACL").arg("WHOAMI"))
        .await
        .unwrap();
    assert_eq!(who, "app");
    client.shutdown().await;
}

/// Panics when it is asked for the second time.
struct Panics(std::sync::atomic::AtomicU32);

#[async_trait::async_trait]
impl redkit_core::CredentialProvider for Panics {
    async fn credentials(
        &self,
    ) -> Result<redkit_core::Credentials, Box<dyn std::error::Error + Send + Sync>> {
        let before = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        assert_ne!(before, 1, "the store of secrets is in disorder");
        Ok(redkit_core::Credentials {
            username: None,
            password: "pw".into(),
        })
    }
}

async fn a_credential_provider_that_panics_costs_an_attempt(driver: Driver) {
    let server = Server::redis(ServerOptions::new().password("pw"))
        .await
        .unwrap();
    let config = ClientConfig::from_url(&format!("redis://{}", server.addr()))
        .unwrap()
        .driver(driver)
        .credential_provider(Panics(0.into()));
    let client = Client::connect(config).await.unwrap();
    ping_until_answered(&client).await;
    for _ in 0..2 {
        server.kill_clients().await.unwrap();
        ping_until_answered(&client).await;
    }
    client.shutdown().await;
}

#[tokio::test]
async fn reads_go_to_replicas_when_they_may() {
    let cluster = redkit_testkit::Cluster::start(Program::Redis, 3, 1)
        .await
        .unwrap();
    let config = ClientConfig::from_url(&cluster.url())
        .unwrap()
        .read_from_replicas(true);
    let client = Client::connect(config).await.unwrap();
    client
        .call::<()>(Command::new("SET").key("k").arg("v"))
        .await
        .unwrap();
    let master = cluster.node_of_slot(redkit_core::slot(b"k")).await.unwrap();
    let replicas = cluster.replicas_of(master).await.unwrap();
    let reads = async |node: &Server| {
        let stats = node
            .raw(&["INFO", "commandstats"])
            .await
            .unwrap()
            .text()
            .unwrap();
        let calls = stats
            .lines()
            .find_map(|line| line.strip_prefix("cmdstat_get:calls="));
        calls.map_or(0, |calls| {
            calls.split(',').next().unwrap().parse::<u64>().unwrap()
        })
    };
    let get = || client.call::<Option<String>>(Command::new("GET").key("k"));
    // The servers name a replica once it has replicated something, and the view follows.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while reads(replicas[0]).await == 0 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the replica is not asked"
        );
        get().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = (reads(master).await, reads(replicas[0]).await);
    for _ in 0..50 {
        assert_eq!(get().await.unwrap().as_deref(), Some("v"));
    }
    let after = (reads(master).await, reads(replicas[0]).await);
    assert_eq!((after.0 - before.0, after.1 - before.1), (0, 50));

    // A client that does not ask for it reads from the master alone, of the same cluster.
    let config = ClientConfig::from_url(&cluster.url()).unwrap();
    let other = Client::connect(config).await.unwrap();
    let before = after;
    for _ in 0..50 {
        let get = Command::new("GET").key("k");
        let value: Option<String> = other.call(get).await.unwrap();
        assert_eq!(value.as_deref(), Some("v"));
    }
    let after = (reads(master).await, reads(replicas[0]).await);
    assert_eq!((after.0 - before.0, after.1 - before.1), (50, 0));
    other.shutdown().await;

    // The replica hears no more of its master: whoever goes on from what is stored reads at the master.
    for line in [
        &["CONFIG", "SET", "masterauth", "wrong"][..],
        &["CLIENT", "KILL", "TYPE", "master"],
    ] {
        replicas[0].raw(line).await.unwrap();
    }
    client
        .call::<()>(Command::new("SET").key("k").arg("\"w\""))
        .await
        .unwrap();
    assert_eq!(get().await.unwrap().as_deref(), Some("v"), "the replica's");
    let mget = || Command::new("MGET").key("k");
    for (command, expected) in [(mget(), "v"), (mget().from_master(), "\"w\"")] {
        let found = client.call::<Vec<String>>(command).await.unwrap();
        assert_eq!(found, [expected]);
    }
    let stored = client.get_stored::<String>("k").await;
    assert_eq!(stored.unwrap().unwrap().into_value(), "w");
    for _ in 0..3 {
        let update = client.update("k").attempts(1);
        update
            .apply(|text: Option<String>| Change::Set(text.unwrap_or_default() + "x"))
            .await
            .unwrap();
    }
    client.shutdown().await;
}
