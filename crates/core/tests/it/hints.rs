//! A setup that cannot work is said at once, with what to do about it, and then ever more seldom.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use redkit_core::{CallError, Client, ClientConfig, Command, Driver, Interest, ServerError};
use redkit_testkit::{FaultyBackend, Injection, Program, Rule, Server, ServerOptions};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::fmt::MakeWriter;

use crate::strays::{hello, serve};

each_driver! {
    ()
    an_old_server_is_named_once_with_what_it_lacks,
    an_old_server_that_is_refused_is_not_warned_of,
}

/// Keeps what is logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    pub(crate) fn lines_with(&self, words: &str) -> usize {
        let text = String::from_utf8(self.0.lock().clone()).unwrap();
        text.lines().filter(|line| line.contains(words)).count()
    }
}

/// Keeps the warnings of this thread while the guards live. While there is but one subscriber, a message that another thread
/// reaches first is taken to interest nobody, and is not heard of here either: so there are two.
pub(crate) fn log() -> (Log, (tracing::subscriber::DefaultGuard, tracing::Dispatch)) {
    let log = Log::default();
    let warnings = || {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
    };
    let second = warnings().with_writer(std::io::sink).finish();
    let second = tracing::Dispatch::new(second);
    let subscriber = warnings().with_writer(log.clone()).finish();
    (log, (tracing::subscriber::set_default(subscriber), second))
}

#[tokio::test]
async fn a_right_that_is_missing_is_said_at_once_and_then_ever_more_seldom() {
    let (log, _guard) = log();
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let rights = ["ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-get"];
    server.raw(&rights).await.unwrap();
    let url = format!("redis://app:pw@{}", server.addr());
    let client = Client::connect(ClientConfig::from_url(&url).unwrap())
        .await
        .unwrap();
    for _ in 0..20 {
        let get = client.call::<Option<String>>(Command::new("GET").key("k"));
        get.await.unwrap_err();
    }
    assert_eq!(
        log.lines_with("ACL SETUSER"),
        5,
        "the 1st, 2nd, 4th, 8th, 16th"
    );
    client.shutdown().await;
}

/// Of a pipeline the outcome is an answer; a subscription is no call.
#[tokio::test]
async fn a_right_that_is_missing_is_said_of_pipelines_and_subscriptions_too() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let rights = "ACL SETUSER app on >pw ~* resetchannels +@all -mget";
    let rights: Vec<&str> = rights.split(' ').collect();
    server.raw(&rights).await.unwrap();
    let url = format!("redis://app:pw@{}", server.addr());
    for subscribes in [false, true] {
        let (log, _guard) = log();
        let client = Client::connect(ClientConfig::from_url(&url).unwrap())
            .await
            .unwrap();
        let command = match subscribes {
            true => {
                let news = Interest::Channels(vec!["news".into()]);
                client.subscribe(news).await.unwrap_err();
                "SUBSCRIBE"
            }
            false => {
                let values = client.mget::<String>(["a", "b"]).await;
                assert!(values.iter().all(Result::is_err));
                "MGET"
            }
        };
        assert_eq!(log.lines_with("ACL SETUSER"), 1, "{command}");
        assert_eq!(log.lines_with(command), 1);
        client.shutdown().await;
    }
}

/// All commands of a pipeline may fail for the same reason.
#[tokio::test]
async fn a_right_that_a_pipeline_lacks_is_said_once() {
    let (log, _guard) = log();
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let refusal = ServerError::new("NOPERM", "this user has no permissions");
    let refused = Injection::answer(move |_| Err(CallError::Replied(refusal.clone())));
    backend.set(Rule::new(refused));
    let gets = (0..8).map(|key| Command::new("GET").key(key)).collect();
    for reply in client.pipeline(gets).await.unwrap() {
        reply.unwrap_err();
    }
    assert_eq!(log.lines_with("ACL SETUSER"), 1);
}

#[tokio::test]
async fn servers_that_cannot_be_reached_are_said_at_once_and_then_ever_more_seldom() {
    for url in ["redis", "redis-cluster", "redis-sentinel"] {
        let (log, _guard) = log();
        let name = if url == "redis-sentinel" { "/m" } else { "" };
        let url = format!("{url}://127.0.0.1:1{name}");
        let config = ClientConfig::from_url(&url).unwrap().lazy(true);
        let client = Client::connect(config).await.unwrap();
        for _ in 0..3 {
            client
                .call::<String>(Command::new("PING"))
                .await
                .unwrap_err();
        }
        let lines = log.lines_with("WARN");
        assert!((1..=40).contains(&lines), "{url}: {lines} lines");
        assert!(log.lines_with("check `") >= 1, "{url}: no hint");
        client.shutdown().await;
    }
}

/// A server of this version and mode, which says `OK` to whatever else it is asked.
async fn of_version(
    version: &'static str,
    mode: &'static str,
) -> (SocketAddr, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let reply = move |command: &[String]| match command[0].as_str() {
        "HELLO" => hello(version, mode),
        "PING" => "+PONG\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    };
    let server = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.push(AbortOnDropHandle::new(tokio::spawn(serve(stream, reply))));
        }
    });
    (addr, AbortOnDropHandle::new(server))
}

async fn an_old_server_is_named_once_with_what_it_lacks(driver: Driver) {
    let (addr, _server) = of_version("6.2.14", "standalone").await;
    let (log, _guard) = log();
    let config = ClientConfig::from_url(&format!("redis://{addr}"))
        .unwrap()
        .driver(driver);
    for clients in 1..=2 {
        let client = Client::connect(config.clone()).await.unwrap();
        client.call::<String>(Command::new("PING")).await.unwrap();
        // Another connection of the client.
        client.dedicated().await.unwrap();
        assert_eq!(log.lines_with("6.2.14"), clients);
        assert_eq!(log.lines_with("Redis 7.0"), clients);
        assert_eq!(
            log.lines_with("PEXPIRETIME, LMPOP, ZMPOP, SINTERCARD"),
            clients
        );
        client.shutdown().await;
    }
}

async fn an_old_server_that_is_refused_is_not_warned_of(driver: Driver) {
    let (addr, _server) = of_version("6.2.14", "cluster").await;
    let (log, _guard) = log();
    let config = ClientConfig::from_url(&format!("redis://{addr}"))
        .unwrap()
        .driver(driver);
    let refused = Client::connect(config).await.unwrap_err();
    assert!(
        refused.to_string().contains("redis-cluster://"),
        "{refused}"
    );
    assert_eq!(log.lines_with("Redis 7.0"), 0);
}

#[tokio::test]
async fn a_server_is_judged_by_the_commands_that_it_lists() {
    for program in [Program::Redis, Program::Valkey] {
        for lacks in [None, Some("LMPOP")] {
            let (log, _guard) = log();
            let options = match lacks {
                Some(command) => {
                    ServerOptions::new().config(&format!("rename-command {command} \"\""))
                }
                None => ServerOptions::new(),
            };
            let server = Server::start(program, options).await.unwrap();
            let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap())
                .await
                .unwrap();
            let warnings = usize::from(lacks.is_some());
            assert_eq!(log.lines_with("Redis 7.0"), warnings, "{program:?}");
            assert_eq!(log.lines_with("missing=\"LMPOP\""), warnings);
            client.shutdown().await;
        }
    }
}
