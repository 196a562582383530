//! Bad input: every error names the field or the host and the fix, and no secret.

use std::time::Duration;

use redkit_core::{
    CallError, Client, ClientConfig, Command, Driver, Error, ErrorKind, FaultKind, TlsConfig, Value,
};
use redkit_testkit::{Cluster, Program, Sentinels, Server, ServerOptions};

const SECRET: &str = "hunter2";

async fn failure(config: ClientConfig) -> Error {
    let error = Client::connect(config).await.expect_err("it cannot work");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
    error
}

fn kind(error: &Error) -> FaultKind {
    error
        .call_error()
        .and_then(|e| e.fault())
        .unwrap_or_else(|| panic!("{error}"))
        .kind()
}

fn config(url: &str) -> ClientConfig {
    ClientConfig::from_url(url).unwrap()
}

#[tokio::test]
async fn malformed_urls_and_fields() {
    let error = Error::from(ClientConfig::from_url("redis//:hunter2@h").unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(
        error.to_string().contains("`url`") && !error.to_string().contains(SECRET),
        "{error}"
    );
    let error = failure(ClientConfig::default().command_timeout(Duration::ZERO)).await;
    assert!(error.to_string().contains("`command_timeout`"), "{error}");
    let error = failure(config("embedded://")).await;
    assert!(error.to_string().contains("redkit-embedded"), "{error}");
}

#[tokio::test]
async fn unknown_hosts_and_closed_ports() {
    let error = failure(config("redis://:hunter2@no-such-host.invalid")).await;
    assert_eq!(kind(&error), FaultKind::Connect);
    assert!(
        error.to_string().contains("no-such-host.invalid"),
        "{error}"
    );
    assert!(error.to_string().contains("`host`"), "{error}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = failure(config(&format!("redis://:hunter2@{closed}"))).await;
    assert_eq!(kind(&error), FaultKind::Connect);
    assert!(error.to_string().contains(&closed.to_string()), "{error}");

    let error = failure(config("unix:///no/such/socket")).await;
    assert!(error.to_string().contains("`unix_socket`"), "{error}");
}

#[tokio::test]
async fn wrong_and_missing_passwords() {
    let server = Server::redis(ServerOptions::new().password("right"))
        .await
        .unwrap();
    let addr = server.addr();
    let wrong = failure(config(&format!("redis://:{SECRET}@{addr}"))).await;
    assert_eq!(kind(&wrong), FaultKind::Handshake);
    assert!(wrong.to_string().contains("`password`"), "{wrong}");
    let missing = failure(config(&format!("redis://{addr}"))).await;
    assert_eq!(kind(&missing), FaultKind::Handshake);
    assert!(missing.to_string().contains("set `password`"), "{missing}");
    let user = failure(config(&format!("redis://nobody:{SECRET}@{addr}"))).await;
    assert!(user.to_string().contains("`username`"), "{user}");
    let database = failure(config(&format!("redis://:right@{addr}/9999"))).await;
    assert!(database.to_string().contains("`database`"), "{database}");
}

#[tokio::test]
async fn tls_to_a_plain_port_and_the_reverse() {
    let plain = Server::redis(ServerOptions::new()).await.unwrap();
    let error = failure(config(&format!("rediss://:{SECRET}@{}", plain.addr()))).await;
    assert!(
        matches!(kind(&error), FaultKind::Tls | FaultKind::Connect),
        "{error}"
    );
    assert!(error.to_string().contains("redis://"), "{error}");

    let encrypted = Server::redis(ServerOptions::new().tls()).await.unwrap();
    let error = failure(config(&format!("redis://:{SECRET}@{}", encrypted.addr()))).await;
    assert!(error.to_string().contains("rediss://"), "{error}");
}

#[tokio::test]
async fn certificates_that_do_not_hold() {
    let server = Server::redis(ServerOptions::new().tls()).await.unwrap();
    let url = format!("rediss://{}", server.addr());
    let error = failure(config(&url).tls(TlsConfig::default())).await;
    assert_eq!(kind(&error), FaultKind::Tls, "{error}");
    assert!(error.to_string().contains("`tls_ca_file`"), "{error}");
    let error = failure(config(&format!("{url}?tls_ca_file=/no/such/file"))).await;
    assert!(error.to_string().contains("`tls_ca_file`"), "{error}");
    let good = server.url();
    let separator = if good.contains('?') { '&' } else { '?' };
    let error = failure(config(&format!(
        "{good}{separator}tls_server_name=elsewhere.example"
    )))
    .await;
    assert_eq!(kind(&error), FaultKind::Tls, "{error}");
    assert!(error.to_string().contains("`tls_server_name`"), "{error}");
    Client::connect(config(&good))
        .await
        .expect("the right one works")
        .shutdown()
        .await;
}

#[tokio::test]
async fn a_server_that_is_none() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        }
    });
    let error = failure(config(&format!("redis://{addr}"))).await;
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    server.abort();
}

each_driver! {
    ()
    another_topology_than_the_url_says,
    no_sentinel_and_no_such_master,
    a_user_is_told_which_command_and_which_right_it_lacks,
}

fn through(driver: Driver, url: &str) -> ClientConfig {
    config(url).driver(driver)
}

async fn another_topology_than_the_url_says(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let addr = server.addr();
    let error = failure(through(
        driver,
        &format!("redis-cluster://:{SECRET}@{addr}"),
    ))
    .await;
    let remedy = match driver {
        // Refused before anything is sent.
        Driver::Fred => "`driver`",
        _ => "write redis://",
    };
    assert!(error.to_string().contains(remedy), "{error}");
    let url = format!("redis-sentinel://:{SECRET}@{addr}/mymaster");
    let error = failure(through(driver, &url)).await;
    assert_eq!(kind(&error), FaultKind::Handshake, "{error}");
    let shown = error.to_string();
    assert!(
        shown.contains("is no sentinel") && shown.contains("write redis://"),
        "{shown}"
    );
    assert!(shown.contains(&addr.to_string()), "{shown}");

    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let error = failure(through(driver, &cluster.nodes()[0].url())).await;
    assert!(error.to_string().contains("redis-cluster://"), "{error}");

    let sentinels = Sentinels::start(Program::Redis, 1, 0).await.unwrap();
    let url = sentinels.sentinels()[0].url();
    let error = failure(through(driver, &url)).await;
    assert!(error.to_string().contains("redis-sentinel://"), "{error}");
}

#[tokio::test]
async fn keys_of_several_slots() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let client = Client::connect(config(&cluster.url())).await.unwrap();
    let mget = Command::new("MGET").key("a").key("b");
    let error = client.call::<Vec<Option<String>>>(mget).await.unwrap_err();
    assert_eq!(
        (kind(&error), error.kind()),
        (FaultKind::Invalid, ErrorKind::Usage)
    );
    assert!(error.to_string().contains("hash tag"), "{error}");
    client.shutdown().await;
}

async fn no_sentinel_and_no_such_master(driver: Driver) {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("redis-sentinel://{closed}/mymaster");
    let error = failure(through(driver, &url)).await;
    assert_eq!(kind(&error), FaultKind::Connect);
    assert!(error.to_string().contains(&closed.to_string()), "{error}");

    let sentinels = Sentinels::start(Program::Redis, 1, 0).await.unwrap();
    let url = sentinels.url().replace("/mymaster", "/yourmaster");
    let error = failure(through(driver, &url)).await;
    assert!(error.to_string().contains("yourmaster"), "{error}");
    assert!(error.to_string().contains("`master`"), "{error}");

    // One that can be reached is enough.
    let sentinel = sentinels.sentinels()[0].addr();
    let url = format!("redis-sentinel://{closed},{sentinel}/mymaster");
    let client = Client::connect(through(driver, &url)).await.unwrap();
    let pong: String = client.call(Command::new("PING")).await.unwrap();
    assert_eq!(pong, "PONG");
    client.shutdown().await;
}

async fn refused_rights(client: &Client) {
    let missing = [
        (Command::new("SET").key("mine:k").arg(SECRET), "'set'"),
        (
            Command::new("FUNCTION").arg("LIST").arg(SECRET),
            "'function|list'",
        ),
        (Command::new("GET").key("other:k"), "keys"),
        (Command::new("PUBLISH").arg("c").arg(SECRET), "channels"),
    ];
    client
        .call::<Option<String>>(Command::new("GET").key("mine:k"))
        .await
        .unwrap();
    for (command, right) in missing {
        let name = command.name().to_owned();
        let error = client.call::<Value>(command).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server, "{error}");
        let shown = error.to_string();
        for part in ["NOPERM", &name, right] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

async fn a_user_is_told_which_command_and_which_right_it_lacks(driver: Driver) {
    // The last two for `fred`, which nests what it could mistake.
    let rule = [
        "ACL", "SETUSER", "reader", "on", ">right", "~mine:*", "&none", "+@read", "+hello",
        "+ping", "+cluster", "+publish", "+multi", "+exec",
    ];
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    server.raw(&rule).await.unwrap();
    let url = format!("redis://reader:right@{}", server.addr());
    let client = Client::connect(through(driver, &url)).await.unwrap();
    refused_rights(&client).await;
    client.shutdown().await;
    if driver == Driver::Native {
        let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
        for node in cluster.nodes() {
            node.raw(&rule).await.unwrap();
        }
        let url = cluster.url().replace("://", "://reader:right@");
        let client = Client::connect(config(&url)).await.unwrap();
        refused_rights(&client).await;
        client.shutdown().await;
    }
}

/// Such a server quotes the arguments of the command that it does not know.
#[tokio::test]
async fn a_server_without_hello_does_not_bring_the_password_to_light() {
    let renamed = ServerOptions::new().config("rename-command HELLO \"\"");
    let server = Server::redis(renamed).await.unwrap();
    for driver in ["native", "fred"] {
        let url = format!("redis://:{SECRET}@{}?driver={driver}", server.addr());
        let error = failure(config(&url)).await;
        assert!(
            error.to_string().contains(&server.addr().to_string()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_value_that_is_too_large_is_refused_before_it_is_sent() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let url = format!("{}?max_value_bytes=1000", server.url());
    let client = Client::connect(config(&url)).await.unwrap();
    let set = |bytes: usize| Command::new("SET").key("k").arg(vec![b'x'; bytes]);
    client.call::<()>(set(1000)).await.unwrap();
    let error = client.call::<()>(set(1001)).await.unwrap_err();
    assert_eq!(kind(&error), FaultKind::Invalid);
    let text = error.to_string();
    assert!(
        !error.is_maybe() && text.contains("max_value_bytes"),
        "{text}"
    );
    let replies = client.pipeline(vec![set(1), set(2000)]).await.unwrap();
    assert!(replies[0].is_ok(), "the other of the pipeline is sent");
    assert!(matches!(&replies[1], Err(CallError::NotSent(_))));
    // Many small arguments may be more than one large value.
    let many = Command::new("RPUSH")
        .key("l")
        .args((0..900).map(|i: i32| i));
    client.call::<i64>(many).await.unwrap();
    client.shutdown().await;
}
