//! What the `fred` driver contains, shown on fred's own client and through the driver. When fred
//! mends a fault, the test of its own client fails here, and the remedy can go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::{
    ClientLike, EventInterface, ListInterface, PubsubInterface, TrackingInterface,
};
use fred::types::{ClusterHash, CustomCommand};
use redkit_core::breaker::BreakerConfig;
use redkit_core::fred::FredBackend;
use redkit_core::{
    Backend, CallError, Client, ClientConfig, Command, CredentialProvider, Credentials, Driver,
    FaultKind, Interest, Value,
};
use redkit_testkit::{Server, ServerOptions};
use tokio::time::timeout;

const SHORT: Duration = Duration::from_millis(300);

const FRAMES: [&[&str]; 7] = [
    &["message", "a", "b"],
    &["smessage", "a", "b"],
    &["pmessage", "a", "b", "c"],
    &["subscribe", "x", "1"],
    &["unsubscribe", "x", "1", "2"],
    &["pubsub", "message", "a", "b"],
    &["pubsub", "pmessage", "a", "b", "c"],
];

fn config(server: &Server) -> ClientConfig {
    ClientConfig::from_url(&server.url())
        .unwrap()
        .driver(Driver::Fred)
}

async fn fill(server: &Server, frame: &[&str]) {
    server.raw(&["DEL", "list"]).await.unwrap();
    let push: Vec<&str> = ["RPUSH", "list"].iter().chain(frame).copied().collect();
    server.raw(&push).await.unwrap();
}

fn echo() -> CustomCommand {
    CustomCommand::new("ECHO", ClusterHash::FirstKey, false)
}

#[tokio::test]
async fn freds_own_client_loses_such_a_reply_and_gives_the_next_to_the_wrong_caller() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    for frame in FRAMES {
        fill(&server, frame).await;
        let backend = FredBackend::connect(&config(&server)).await.unwrap();
        let client = backend.client().await.unwrap();
        let (list, first) = tokio::join!(
            client.lrange::<fred::types::Value, _>("list", 0, -1),
            timeout(SHORT, client.custom::<String, _>(echo(), vec!["mine"])),
        );
        assert_eq!(
            list.unwrap().into_string().as_deref(),
            Some("mine"),
            "{frame:?}: LRANGE is given the reply of ECHO"
        );
        assert!(first.is_err(), "{frame:?}: and ECHO waits for ever");
        backend.shutdown().await;
    }
}

#[tokio::test]
async fn through_the_driver_it_comes_whole_in_calls_pipelines_transactions_and_scripts() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = Client::connect(config(&server)).await.unwrap();
    for frame in FRAMES {
        fill(&server, frame).await;
        let expected = Value::Array(frame.iter().map(|text| Value::bulk(*text)).collect());
        let list = || Command::new("LRANGE").key("list").arg(0).arg(-1);
        let script = "return redis.call('LRANGE', KEYS[1], 0, -1)";
        let eval = Command::new("EVAL").arg(script).arg(1).key("list");
        let ping = || Command::new("PING");
        let replies = client
            .pipeline(vec![ping(), list(), ping(), eval.clone(), ping()])
            .await
            .unwrap();
        let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
        assert_eq!((&replies[1], &replies[3]), (&expected, &expected));
        assert_eq!(replies[4], Value::status("PONG"));
        assert_eq!(client.call::<Value>(eval).await.unwrap(), expected);

        // A transaction whose results look so.
        let mut commands = vec![Command::new("MULTI")];
        commands.extend((0..frame.len()).map(|at| Command::new("LINDEX").key("list").arg(at)));
        commands.push(Command::new("EXEC"));
        let replies = client.pipeline(commands).await.unwrap();
        assert_eq!(replies.last().unwrap().as_ref().unwrap(), &expected);
        assert_eq!(client.call::<String>(ping()).await.unwrap(), "PONG");
    }
    client.shutdown().await;
}

#[tokio::test]
async fn on_a_dedicated_connection_the_loss_is_noticed_and_watches_hold() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = Client::connect(config(&server)).await.unwrap();
    let list = || Command::new("LRANGE").key("list").arg(0).arg(-1);

    fill(&server, &["plain", "a", "b"]).await;
    let own = client.dedicated().await.unwrap();
    own.call::<()>(Command::new("WATCH").key("list"))
        .await
        .unwrap();
    assert_eq!(own.call::<Vec<String>>(list()).await.unwrap().len(), 3);
    server.raw(&["RPUSH", "list", "c"]).await.unwrap();
    own.call::<()>(Command::new("MULTI")).await.unwrap();
    own.call::<Value>(list()).await.unwrap();
    let executed: Value = own.call(Command::new("EXEC")).await.unwrap();
    assert_eq!(executed, Value::Nil, "reading did not end the watch");

    for frame in FRAMES {
        fill(&server, frame).await;
        let own = client.dedicated().await.unwrap();
        let (lost, other) = tokio::join!(
            own.call::<Value>(list()),
            own.call::<Value>(Command::new("KEYS").arg("list")),
        );
        let lost = lost.unwrap_err();
        assert!(lost.is_maybe(), "{frame:?}: {lost}");
        let kind = lost.call_error().and_then(CallError::fault).unwrap().kind();
        assert_eq!(kind, FaultKind::Protocol, "{frame:?}: {lost}");
        assert!(
            other.is_err(),
            "{frame:?}: never another's reply: {other:?}"
        );
        let after = own.call::<Value>(Command::new("PING")).await.unwrap_err();
        assert!(!after.is_maybe(), "the connection has ended: {after}");
    }
    client.shutdown().await;
}

#[tokio::test]
async fn a_refused_subscription_is_an_error_and_disturbs_nobody() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let set = [
        "ACL",
        "SETUSER",
        "limited",
        "on",
        ">pw",
        "+@all",
        "~*",
        "resetchannels",
        "&ok*",
    ];
    server.raw(&set).await.unwrap();
    let config = config(&server)
        .username("limited")
        .password("pw".to_owned());

    // fred's own client reports success, and its next command gets the refusal.
    let backend = Arc::new(FredBackend::connect(&config).await.unwrap());
    let raw = backend.client().await.unwrap();
    let (subscribed, misled) = tokio::join!(
        raw.subscribe("secret"),
        raw.custom::<String, _>(echo(), vec!["x"]),
    );
    subscribed.expect("fred does not wait for the server");
    assert!(misled.unwrap_err().details().contains("NOPERM"));
    drop(raw);
    backend.shutdown().await;

    let client = Client::connect(config).await.unwrap();
    let of = |name: &'static str| Interest::Channels(vec![Bytes::from_static(name.as_bytes())]);
    let mut allowed = client.subscribe(of("ok-1")).await.unwrap();
    for _ in 0..5 {
        let refused = client.subscribe(of("secret")).await.unwrap_err();
        assert!(refused.to_string().contains("NOPERM"), "{refused}");
        let more = client.subscribe(of("ok-2")).await.unwrap();
        let heard: i64 = client
            .call(Command::new("PUBLISH").arg("ok-2").arg("x"))
            .await
            .unwrap();
        assert_eq!(heard, 1, "it stands when it is reported");
        drop(more);
    }
    client
        .call::<i64>(Command::new("PUBLISH").arg("ok-1").arg("still"))
        .await
        .unwrap();
    let first = timeout(Duration::from_secs(5), allowed.next())
        .await
        .unwrap();
    let redkit_core::Push::Message { payload, .. } = first.unwrap() else {
        panic!("no gap: the connection stayed")
    };
    assert_eq!(payload, "still");
    client.shutdown().await;
}

#[tokio::test]
async fn patterns_and_notifications_are_told_apart() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    server
        .raw(&["CONFIG", "SET", "notify-keyspace-events", "KEA"])
        .await
        .unwrap();
    let client = Client::connect(config(&server)).await.unwrap();
    let patterns: Vec<Bytes> = ["n*", "*s", "__keyevent@0__:*", "__keyspace@0__:k"]
        .map(Bytes::from)
        .into();
    let mut stream = client
        .subscribe(Interest::Patterns(patterns))
        .await
        .unwrap();
    server.raw(&["PUBLISH", "news", "1"]).await.unwrap();
    server.raw(&["SET", "k", "v"]).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let next = timeout(Duration::from_secs(5), stream.next())
            .await
            .unwrap();
        let redkit_core::Push::Message {
            channel,
            pattern,
            payload,
        } = next.unwrap()
        else {
            panic!("a message")
        };
        let text = |bytes: Bytes| String::from_utf8(bytes.into()).unwrap();
        seen.push([text(pattern.unwrap()), text(channel), text(payload)].join(" "));
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            "*s news 1",
            "__keyevent@0__:* __keyevent@0__:set k",
            "__keyspace@0__:k __keyspace@0__:k set",
            "n* news 1",
        ]
    );
    client.shutdown().await;
}

#[tokio::test]
async fn freds_own_client_keeps_silent_about_a_flush() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let backend = FredBackend::connect(&config(&server)).await.unwrap();
    let client = backend.client().await.unwrap();
    let mut told = client.invalidation_rx();
    client
        .start_tracking("p:", true, false, false, false)
        .await
        .unwrap();
    server.raw(&["SET", "p:1", "v"]).await.unwrap();
    let first = timeout(Duration::from_secs(5), told.recv()).await;
    assert_eq!(first.unwrap().unwrap().keys[0].as_bytes(), b"p:1");
    server.raw(&["FLUSHALL"]).await.unwrap();
    server.raw(&["SET", "p:2", "v"]).await.unwrap();
    let next = timeout(Duration::from_secs(5), told.recv()).await;
    assert_eq!(
        next.unwrap().unwrap().keys[0].as_bytes(),
        b"p:2",
        "of the flush in between there is no word"
    );
    backend.shutdown().await;
}

#[tokio::test]
async fn a_client_of_freds_that_has_ended_never_comes_back() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let backend = FredBackend::connect(&config(&server)).await.unwrap();
    let old = backend.client().await.unwrap();
    let mut errors = old.error_rx();
    server.kill_clients().await.unwrap();
    timeout(Duration::from_secs(5), errors.recv())
        .await
        .unwrap()
        .unwrap();
    let again = timeout(SHORT, old.ping::<String>(None)).await;
    assert!(!matches!(again, Ok(Ok(_))), "{again:?}");

    // The backend has another meanwhile.
    let ping = Command::new("PING");
    assert_eq!(backend.call(&ping).await.unwrap(), Value::status("PONG"));
    backend.shutdown().await;
}

#[tokio::test]
async fn what_fred_would_send_as_another_command_is_refused() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = Client::connect(config(&server)).await.unwrap();
    for name in ["MULTI ", " MULTI", "CLIENT REPLY", ""] {
        let error = client.call::<Value>(Command::new(name)).await.unwrap_err();
        assert!(!error.is_maybe(), "{name:?}: {error}");
    }
    assert_eq!(
        client.call::<String>(Command::new("PING")).await.unwrap(),
        "PONG"
    );
    client.shutdown().await;
}

struct Rotating;

#[async_trait::async_trait]
impl CredentialProvider for Rotating {
    async fn credentials(&self) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Credentials {
            username: None,
            password: "right".to_owned().into(),
        })
    }
}

#[tokio::test]
async fn a_credential_provider_is_asked() {
    let server = Server::redis(ServerOptions::new().password("right"))
        .await
        .unwrap();
    let config = ClientConfig::from_url(&format!("redis://{}", server.addr()))
        .unwrap()
        .driver(Driver::Fred)
        .credential_provider(Rotating);
    let client = Client::connect(config).await.unwrap();
    assert_eq!(
        client.call::<String>(Command::new("PING")).await.unwrap(),
        "PONG"
    );
    client.shutdown().await;
}

async fn refusal(url: &str) -> String {
    let config = ClientConfig::from_url(url).unwrap().driver(Driver::Fred);
    let shown = Client::connect(config).await.unwrap_err().to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
    shown
}

#[tokio::test]
async fn it_speaks_tls_and_names_what_is_wrong_with_a_connection() {
    let encrypted = Server::redis(ServerOptions::new().tls()).await.unwrap();
    let client = Client::connect(config(&encrypted)).await.unwrap();
    assert_eq!(
        client.call::<String>(Command::new("PING")).await.unwrap(),
        "PONG"
    );
    client.shutdown().await;

    let plain = Server::redis(ServerOptions::new().password("right"))
        .await
        .unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let separator = if encrypted.url().contains('?') {
        '&'
    } else {
        '?'
    };
    for (url, field) in [
        (
            format!("rediss://:hunter2@{}", encrypted.addr()),
            "`tls_ca_file`",
        ),
        (
            format!(
                "{}{separator}tls_server_name=elsewhere.example",
                encrypted.url()
            ),
            "`tls_server_name`",
        ),
        (
            format!("redis://:hunter2@{}", encrypted.addr()),
            "rediss://",
        ),
        (format!("rediss://:hunter2@{}", plain.addr()), "redis://"),
        (format!("redis://:hunter2@{}", plain.addr()), "`password`"),
        (format!("redis://{}", plain.addr()), "set `password`"),
        (
            format!("redis://nobody:hunter2@{}", plain.addr()),
            "`username`",
        ),
        (format!("redis://:right@{}/99", plain.addr()), "`database`"),
        (format!("redis://:hunter2@{closed}"), "`port`"),
        ("redis://:hunter2@no-such-host.invalid".to_owned(), "`host`"),
        ("unix:///no/such/socket".to_owned(), "`unix_socket`"),
        ("redis-cluster://:hunter2@a".to_owned(), "`driver`"),
    ] {
        let shown = refusal(&url).await;
        assert!(shown.contains(field), "{field} in {shown}");
    }
}

#[tokio::test]
async fn what_callers_gave_up_is_bounded() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    // Silence would open it before so much is given up.
    let mut breaker = BreakerConfig::default();
    breaker.enabled = false;
    let config = config(&server).breaker(breaker);
    let backend = FredBackend::connect(&config).await.unwrap();
    backend.call(&Command::new("PING")).await.unwrap();
    server.stop().unwrap();
    let payload = Bytes::from(vec![b'x'; 200_000]);
    let mut given_up = 0;
    let refused = loop {
        let set = Command::new("SET").key("k").arg(&payload);
        match timeout(Duration::from_millis(1), backend.call(&set)).await {
            Err(_) => given_up += 1,
            Ok(Err(CallError::NotSent(fault))) if fault.kind() == FaultKind::Overloaded => {
                break fault;
            }
            Ok(other) => panic!("{other:?} after {given_up}"),
        }
        assert!(given_up <= 400, "more than 64 MiB are kept");
    };
    assert!(refused.to_string().contains("given up"), "{refused}");
    server.cont().unwrap();
    let answered = async {
        while backend.call(&Command::new("PING")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), answered).await.unwrap();
}
