//! A slot that moves while a subscription is being confirmed: the end of the one must not be taken for
//! the confirmation of the other. A server of our own sends both in the order that misleads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Client, ClientConfig, GapReason, Interest, Push};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// How often a subscription to `second` was refused and accepted.
#[derive(Default)]
struct Asked {
    refused: AtomicU32,
    accepted: AtomicU32,
    /// Whether a channel was ended just when its slot had left.
    ended: AtomicBool,
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn pushed(kind: &str, channel: &str) -> String {
    format!(">3\r\n{}{}:1\r\n", bulk(kind), bulk(channel))
}

/// What a cluster of one node says.
fn reply(command: &[String], addr: SocketAddr, asked: &Asked) -> String {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["HELLO", ..] => hello("7.0.15", "cluster"),
        ["CLUSTER", "SLOTS"] => {
            let (host, port) = (bulk(&addr.ip().to_string()), addr.port());
            let node = format!("*3\r\n{host}:{port}\r\n{}", bulk("id"));
            format!("*1\r\n*3\r\n:0\r\n:16383\r\n{node}")
        }
        ["PING"] if asked.ended.load(Ordering::SeqCst) => {
            let message = bulk("smessage") + &bulk("second") + &bulk("hello");
            format!("+PONG\r\n>3\r\n{message}")
        }
        ["PING"] => "+PONG\r\n".to_owned(),
        ["SUNSUBSCRIBE", channel] => {
            // The node ends it by itself, and then has no such slot any more.
            asked.ended.store(true, Ordering::SeqCst);
            pushed("sunsubscribe", channel) + "-MOVED 1 127.0.0.1:1\r\n"
        }
        ["PING", text] => bulk(text),
        ["SSUBSCRIBE", "second"] if asked.refused.fetch_add(1, Ordering::SeqCst) == 0 => {
            // The slot of `first` leaves just now.
            pushed("sunsubscribe", "first") + "-TRYAGAIN not now\r\n"
        }
        ["SSUBSCRIBE", channel] => {
            if *channel == "second" {
                asked.accepted.fetch_add(1, Ordering::SeqCst);
            }
            pushed("ssubscribe", channel)
        }
        _ => "+OK\r\n".to_owned(),
    }
}

/// Answers every command on a connection with `reply`.
pub(crate) async fn serve(
    stream: TcpStream,
    mut reply: impl FnMut(&[String]) -> String,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut command = Vec::new();
        let count = match line.strip_prefix('*') {
            Some(count) => count.trim().parse().unwrap(),
            None => {
                // One driver says `HELLO` on a line of its own.
                command.extend(line.split_whitespace().map(str::to_owned));
                0
            }
        };
        for _ in 0..count {
            line.clear();
            stream.read_line(&mut line).await?;
            let mut bytes = vec![0; line.trim()[1..].parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut bytes).await?;
            command.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        }
        stream
            .get_mut()
            .write_all(reply(&command).as_bytes())
            .await?;
    }
}

/// The reply to `HELLO` of a server of this version.
pub(crate) fn hello(version: &str, mode: &str) -> String {
    let fields = [
        ("server", "redis"),
        ("version", version),
        ("mode", mode),
        ("role", "master"),
    ];
    let pairs = fields.map(|(name, value)| bulk(name) + &bulk(value));
    format!("%{}\r\n{}", fields.len(), pairs.concat())
}

/// A client of a cluster of one node, and what the node is asked.
async fn start() -> (Client, Arc<Asked>, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Arc::new(Asked::default());
    let of_server = Arc::clone(&asked);
    let server = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            let asked = Arc::clone(&of_server);
            let served = serve(stream, move |command| reply(command, addr, &asked));
            connections.push(AbortOnDropHandle::new(tokio::spawn(served)));
        }
    }));
    let config = ClientConfig::from_url(&format!("redis-cluster://{addr}")).unwrap();
    // The server sends the stray with its `PONG`, and probes come often.
    let config = config.probe_interval(Duration::from_millis(200));
    let client = Client::connect(config).await.unwrap();
    (client, asked, server)
}

fn of(name: &'static str) -> Interest {
    Interest::Sharded(vec![Bytes::from_static(name.as_bytes())])
}

#[tokio::test]
async fn the_late_refusal_of_an_end_is_taken_for_no_other_reply() {
    let (client, asked, _server) = start().await;
    // No subscription is refused.
    asked.refused.store(1, Ordering::SeqCst);
    let first = client.subscribe(of("first")).await.unwrap();
    let mut second = client.subscribe(of("second")).await.unwrap();
    drop(first);
    let told = tokio::time::timeout(Duration::from_secs(10), second.next()).await;
    let Some(Some(Push::Message { payload, .. })) = told.ok() else {
        panic!("the connection goes on")
    };
    assert_eq!(payload, "hello");
    client.shutdown().await;
}

#[tokio::test]
async fn the_end_of_one_subscription_is_not_taken_for_the_confirmation_of_another() {
    let (client, asked, _server) = start().await;
    let mut first = client.subscribe(of("first")).await.unwrap();
    let _second = client.subscribe(of("second")).await.unwrap();
    assert!(
        asked.accepted.load(Ordering::SeqCst) > 0,
        "the server has refused it until now"
    );
    for expected in [GapReason::Lost, GapReason::Reconnected] {
        let told = tokio::time::timeout(Duration::from_secs(10), first.next());
        assert_eq!(
            told.await.unwrap(),
            Some(Push::Gap(expected)),
            "the one that ended stands again"
        );
    }
    client.shutdown().await;
}
