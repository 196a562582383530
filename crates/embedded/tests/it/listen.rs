//! The engine on a port: through sockets, and with a client of ours.

use std::time::Duration;

use redkit_core::{Backend, Client, ClientConfig, Command, Interest, Push, Transaction, Value};
use redkit_embedded::{Embedded, ListenError, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

async fn start() -> (Embedded, Listener) {
    let engine = Embedded::new();
    let listener = engine.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    (engine, listener)
}

struct Socket(TcpStream);

impl Socket {
    async fn connect(listener: &Listener) -> Self {
        Self(TcpStream::connect(listener.addr()).await.unwrap())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Expects exactly these bytes next.
    async fn expect(&mut self, expected: &str) {
        let mut got = vec![0; expected.len()];
        let read = timeout(PATIENCE, self.0.read_exact(&mut got)).await;
        let got_text = String::from_utf8_lossy(&got).into_owned();
        read.unwrap_or_else(|_| panic!("waited for {expected:?}, got {got_text:?}"))
            .unwrap_or_else(|error| panic!("{error}: waited for {expected:?}, got {got_text:?}"));
        assert_eq!(String::from_utf8_lossy(&got), expected);
    }

    async fn ask(&mut self, request: &str, expected: &str) {
        self.send(request).await;
        self.expect(expected).await;
    }

    async fn expect_end(&mut self) {
        let end = timeout(PATIENCE, self.0.read(&mut [0; 64])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}

#[tokio::test]
async fn a_client_of_ours_finds_a_server() {
    let (_engine, listener) = start().await;
    let url = format!("redis://{}", listener.addr());
    let client = Client::connect(ClientConfig::from_url(&url).unwrap())
        .await
        .unwrap();
    client.set("k", &7).await.unwrap();
    assert_eq!(client.get::<i32>("k").await.unwrap(), Some(7));
    let push = Command::new("RPUSH").key("list").args(["a", "b"]);
    client.call::<i64>(push).await.unwrap();
    let hash = Command::new("HSET").key("hash").args(["f", "v"]);
    client.call::<i64>(hash).await.unwrap();
    let all = Command::new("HGETALL").key("hash");
    let all: Vec<(String, String)> = client.call(all).await.unwrap();
    assert_eq!(all, [("f".into(), "v".into())]);
    let eval = Command::new("EVAL")
        .arg("return {KEYS[1], redis.call('LLEN', KEYS[1])}")
        .arg(1)
        .key("list");
    assert_eq!(
        client.call::<(String, i64)>(eval).await.unwrap(),
        ("list".into(), 2)
    );
    let mut transaction = Transaction::new(&client);
    let counted = transaction.increment("n", 1);
    let mut replies = transaction.send().await.unwrap();
    assert_eq!(replies.take(counted).unwrap(), 1);
    let mut stream = client
        .subscribe(Interest::Channels(vec!["news".into()]))
        .await
        .unwrap();
    let publish = Command::new("PUBLISH").arg("news").arg("hello");
    assert_eq!(client.call::<i64>(publish).await.unwrap(), 1);
    let heard = timeout(PATIENCE, stream.next()).await.unwrap();
    assert!(matches!(heard, Some(Push::Message { payload, .. }) if payload == "hello"));
    client.shutdown().await;
}

#[tokio::test]
async fn replies_have_the_shapes_of_the_protocol_that_was_asked_for() {
    let (engine, listener) = start().await;
    let mut old = Socket::connect(&listener).await;
    old.ask("ZADD z 1 a 2.5 b\r\n", ":2\r\n").await;
    let flat = "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$3\r\n2.5\r\n";
    old.ask("ZRANGE z 0 -1 WITHSCORES\r\n", flat).await;
    old.ask("GET nothing\r\n", "$-1\r\n").await;
    old.ask("BLPOP nothing 0.01\r\n", "*-1\r\n").await;
    old.ask(
        "HSET h f v\r\nHGETALL h\r\n",
        ":1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    )
    .await;

    let mut new = Socket::connect(&listener).await;
    new.send("HELLO 3\r\n").await;
    new.expect("%7\r\n$6\r\nserver\r\n").await;
    let mut rest = vec![0; 1024];
    let _ = timeout(PATIENCE, new.0.read(&mut rest))
        .await
        .unwrap()
        .unwrap();
    let nested = "*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n";
    new.ask("ZRANGE z 0 -1 WITHSCORES\r\n", nested).await;
    new.ask("GET nothing\r\n", "_\r\n").await;
    new.ask("HGETALL h\r\n", "%1\r\n$1\r\nf\r\n$1\r\nv\r\n")
        .await;
    old.ask("HELLO 4\r\n", "-NOPROTO unsupported protocol version\r\n")
        .await;
    let list = Command::new("CLIENT").arg("LIST");
    let list: String = engine.call(&list).await.unwrap().to().unwrap();
    let spoken = |number: u8| list.matches(&format!(" resp={number}\n")).count();
    assert_eq!((spoken(2), spoken(3)), (1, 1), "{list}");
}

/// The reply of a command that waited is made when another connection, of another protocol, brings something.
#[tokio::test]
async fn a_reply_that_was_waited_for_has_the_waiters_shape() {
    let (_engine, listener) = start().await;
    let mut waiter = Socket::connect(&listener).await;
    let mut other = Socket::connect(&listener).await;
    other.send("HELLO 3\r\n").await;
    other.expect("%7\r\n").await;
    waiter
        .send("PING\r\nXREAD BLOCK 0 STREAMS s $\r\nPING\r\n")
        .await;
    // Its earlier reply does not wait.
    waiter.expect("+PONG\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.send("XADD s 1-1 f v\r\n").await;
    let entry = "*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
    waiter
        .expect(&format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n{entry}+PONG\r\n"))
        .await;
}

#[tokio::test]
async fn transactions_and_watched_keys_belong_to_the_connection() {
    let (_engine, listener) = start().await;
    let mut one = Socket::connect(&listener).await;
    let mut other = Socket::connect(&listener).await;
    one.ask(
        "WATCH k\r\nMULTI\r\nINCR k\r\n",
        "+OK\r\n+OK\r\n+QUEUED\r\n",
    )
    .await;
    other.ask("GET k\r\nSET k 5\r\n", "$-1\r\n+OK\r\n").await;
    one.ask("EXEC\r\n", "*-1\r\n").await;
    one.ask(
        "MULTI\r\nINCR k\r\nSUBSCRIBE c\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n",
    )
    .await;
    one.expect("-ERR subscriptions are not allowed inside a transaction\r\n*1\r\n:6\r\n")
        .await;
}

#[tokio::test]
async fn messages_come_in_the_order_in_which_they_were_published() {
    let (engine, listener) = start().await;
    let mut socket = Socket::connect(&listener).await;
    socket
        .send("SUBSCRIBE a b\r\nPSUBSCRIBE a*\r\nSSUBSCRIBE s\r\n")
        .await;
    socket
        .expect(
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
        )
        .await;
    socket.expect("*3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:3\r\n*3\r\n$10\r\nssubscribe\r\n$1\r\ns\r\n:1\r\n").await;
    let refused = "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n";
    socket.ask("GET k\r\n", refused).await;
    socket
        .ask("PING\r\n", "*2\r\n$4\r\npong\r\n$0\r\n\r\n")
        .await;
    let client =
        Client::from_backend(std::sync::Arc::new(engine), &ClientConfig::default()).unwrap();
    let publish = async |channel: &str, text: &str| {
        let publish = Command::new("PUBLISH").arg(channel).arg(text);
        client.call::<i64>(publish).await.unwrap()
    };
    assert_eq!(publish("b", "1").await, 1);
    socket
        .expect("*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$1\r\n1\r\n")
        .await;
    assert_eq!(publish("ab", "2").await, 1);
    socket
        .expect("*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$1\r\n2\r\n")
        .await;
    let sharded = Command::new("SPUBLISH").key("s").arg("3");
    assert_eq!(client.call::<i64>(sharded).await.unwrap(), 1);
    socket
        .expect("*3\r\n$8\r\nsmessage\r\n$1\r\ns\r\n$1\r\n3\r\n")
        .await;
    for number in 0..100 {
        publish(["a", "b"][number % 2], &format!("{number:02}")).await;
    }
    socket.send("UNSUBSCRIBE b\r\n").await;
    let mut seen = vec![0; 100 * 30 + 50 * 36];
    let mut text = String::new();
    while !text.contains("unsubscribe") {
        let read = timeout(PATIENCE, socket.0.read(&mut seen))
            .await
            .unwrap()
            .unwrap();
        text.push_str(std::str::from_utf8(&seen[..read]).unwrap());
    }
    let parts = text.split("$7\r\nmessage\r\n").skip(1);
    let numbers = parts.filter_map(|part| part.split("\r\n").find_map(|word| word.parse().ok()));
    assert_eq!(
        numbers.collect::<Vec<usize>>(),
        (0..100).collect::<Vec<_>>()
    );
    assert_eq!(publish("b", "x").await, 0);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue_of_waiters() {
    let (_engine, listener) = start().await;
    let mut leaver = Socket::connect(&listener).await;
    leaver.send("BLPOP list 0\r\n").await;
    let mut other = Socket::connect(&listener).await;
    let waits = async |socket: &mut Socket, number: u8| {
        for _ in 0..500 {
            socket.send("INFO clients\r\n").await;
            let mut info = vec![0; 4096];
            let read = socket.0.read(&mut info).await.unwrap();
            let info = String::from_utf8_lossy(&info[..read]).into_owned();
            if info.contains(&format!("blocked_clients:{number}")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never had {number} waiters");
    };
    waits(&mut other, 1).await;
    drop(leaver);
    waits(&mut other, 0).await;
    other
        .ask("RPUSH list a\r\nLLEN list\r\n", ":1\r\n:1\r\n")
        .await;
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection_with_its_reason() {
    let (_engine, listener) = start().await;
    for (request, problem) in [
        ("*x\r\n", "invalid multibulk length"),
        ("*1\r\n$4611686018427387904\r\n", "invalid bulk length"),
        ("*1\r\nGET\r\n", "expected '$'"),
        ("GET \"k\r\n", "unbalanced quotes in request"),
    ] {
        let mut socket = Socket::connect(&listener).await;
        socket
            .ask(request, &format!("-ERR Protocol error: {problem}\r\n"))
            .await;
        socket.expect_end().await;
    }
    let mut socket = Socket::connect(&listener).await;
    socket
        .ask(
            "NONSENSE a\r\n",
            "-ERR unknown command 'NONSENSE', with args beginning with: 'a' \r\n",
        )
        .await;
    socket.ask("QUIT\r\n", "+OK\r\n").await;
    socket.expect_end().await;
}

#[tokio::test]
async fn only_loopback_is_served_unless_more_is_meant() {
    let engine = Embedded::new();
    let refused = engine.listen(([0, 0, 0, 0], 0).into()).await.unwrap_err();
    assert!(matches!(refused, ListenError::NotLoopback(_)));
    assert!(refused.to_string().contains("listen_publicly"), "{refused}");
    let first = engine.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let taken = engine.listen(first.addr()).await.unwrap_err();
    assert!(matches!(taken, ListenError::Bind(..)));
}

#[tokio::test]
async fn the_port_closes_with_its_listener_and_with_the_engine() {
    use redkit_core::Backend;
    let (engine, listener) = start().await;
    let addr = listener.addr();
    let mut socket = Socket::connect(&listener).await;
    socket.ask("SET k v\r\n", "+OK\r\n").await;
    socket
        .ask("LPOP none 2\r\nLPOP none\r\n", "*-1\r\n$-1\r\n")
        .await;
    let confirmed = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
    socket.ask("SUBSCRIBE news\r\n", confirmed).await;
    drop(listener);
    socket.expect_end().await;
    assert!(TcpStream::connect(addr).await.is_err());
    // The subscriptions of its connections have ended with them.
    let subscribers = Command::new("PUBSUB").arg("NUMSUB").arg("news");
    let nobody = Value::Array(vec![Value::bulk("news"), Value::Int(0)]);
    let ended = async {
        while engine.call(&subscribers).await.unwrap() != nobody {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
    let mut listener = engine.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut socket = Socket::connect(&listener).await;
    socket.ask("GET k\r\n", "$1\r\nv\r\n").await;
    engine.shutdown().await;
    socket.expect_end().await;
    timeout(PATIENCE, listener.ended()).await.unwrap();
}

#[tokio::test]
async fn a_large_value_and_many_requests_at_once_go_through() {
    let (_engine, listener) = start().await;
    let mut socket = Socket::connect(&listener).await;
    let value = "x".repeat(3_000_000);
    socket
        .send(&format!(
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\n{value}\r\n"
        ))
        .await;
    socket.expect("+OK\r\n").await;
    let requests = "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(5_000);
    let (mut reader, mut writer) = socket.0.split();
    let replies = async {
        let expected: String = (1..=5_000).map(|n| format!(":{n}\r\n")).collect();
        let mut got = vec![0; expected.len()];
        reader.read_exact(&mut got).await.unwrap();
        assert!(got == expected.as_bytes());
    };
    let (sent, ()) = tokio::join!(writer.write_all(requests.as_bytes()), replies);
    sent.unwrap();
}
