//! The proxy's faults, before a server that echoes.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use redkit_testkit::{Close, Direction, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);
/// How long nothing has to happen to count as never.
const QUIET: Duration = Duration::from_millis(150);

/// Echoes what it reads. Ends when dropped.
struct Echo {
    addr: SocketAddr,
    ends: tokio::sync::mpsc::UnboundedReceiver<()>,
    _tasks: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (ended, ends) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let ended = ended.clone();
                connections.spawn(async move {
                    let (mut reads, mut writes) = stream.split();
                    let _ = tokio::io::copy(&mut reads, &mut writes).await;
                    let _ = writes.shutdown().await;
                    let _ = ended.send(());
                });
            }
        });
        Self {
            addr,
            ends,
            _tasks: tasks,
        }
    }
}

async fn echo_and_proxy() -> (Echo, Proxy) {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.addr).await.unwrap();
    (echo, proxy)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.unwrap()
}

/// Sends `text` and reads it back.
async fn round_trip(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    let mut back = vec![0; text.len()];
    timeout(SOON, stream.read_exact(&mut back)).await??;
    assert_eq!(back, text.as_bytes());
    Ok(())
}

async fn hears_nothing(stream: &mut TcpStream) -> bool {
    timeout(QUIET, stream.read(&mut [0; 16])).await.is_err()
}

async fn read_some(stream: &mut TcpStream) -> std::io::Result<usize> {
    timeout(SOON, stream.read(&mut [0; 16])).await.unwrap()
}

async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, wait).await.unwrap();
}

#[tokio::test]
async fn passing_changes_nothing() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream, "hello").await.unwrap();
    assert_eq!((proxy.accepted(), proxy.open_connections()), (1, 1));
    until(|| proxy.passed(Direction::ToServer) == 5).await;
    until(|| proxy.passed(Direction::ToClient) == 5).await;

    // More than any buffer on the way, so that both directions have to move together.
    let sent: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (mut reads, mut writes) = stream.into_split();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        writes.write_all(&sent).await.unwrap();
        // The end is passed on as well, and the echo's end comes back.
        writes.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    timeout(SOON, reads.read_to_end(&mut back))
        .await
        .unwrap()
        .unwrap();
    assert!(back == expected);
    writer.await.unwrap();
    until(|| proxy.open_connections() == 0).await;
}

#[tokio::test]
async fn a_delay_adds_up_over_both_directions_and_not_over_chunks() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream, "hello").await.unwrap();
    proxy.delay(Duration::from_millis(60), Duration::from_millis(40));
    let started = Instant::now();
    round_trip(&mut stream, "hello").await.unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(100), "{took:?}");

    // A hundred requests under way at once wait once, not a hundred times.
    let started = Instant::now();
    for _ in 0..100 {
        stream.write_all(b"0123456789").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    timeout(SOON, stream.read_exact(&mut [0; 1000]))
        .await
        .unwrap()
        .unwrap();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_black_hole_swallows_and_its_connections_never_come_back() {
    let (mut echo, proxy) = echo_and_proxy().await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream, "before").await.unwrap();
    proxy.black_hole();
    stream.write_all(b"lost").await.unwrap();
    assert!(hears_nothing(&mut stream).await);
    let mut new = connect(&proxy).await;
    // Much more than the sockets' buffers hold: it is read, and not only accepted.
    timeout(SOON, new.write_all(&vec![0; 16_000_000]))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(proxy.passed(Direction::ToServer), 6);

    proxy.pass();
    stream.write_all(b"after").await.unwrap();
    assert!(hears_nothing(&mut stream).await);
    round_trip(&mut connect(&proxy).await, "anew")
        .await
        .unwrap();
    // The server is told when its client gives up.
    while echo.ends.try_recv().is_ok() {}
    drop(stream);
    timeout(SOON, echo.ends.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn half_open_holds_everything_back_and_loses_nothing() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream, "before").await.unwrap();
    proxy.half_open();
    stream.write_all(b"held").await.unwrap();
    let mut new = connect(&proxy).await;
    new.write_all(b"new").await.unwrap();
    assert!(hears_nothing(&mut stream).await);
    assert!(hears_nothing(&mut new).await);
    assert_eq!(proxy.passed(Direction::ToServer), 6);

    proxy.pass();
    for (stream, text) in [(&mut stream, b"held" as &[u8]), (&mut new, b"new")] {
        let mut back = vec![0; text.len()];
        timeout(SOON, stream.read_exact(&mut back))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(back, text);
    }
}

#[tokio::test]
async fn half_open_without_the_server_tells_the_server_only() {
    let (mut echo, proxy) = echo_and_proxy().await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream, "before").await.unwrap();
    proxy.half_open_without_server();
    timeout(SOON, echo.ends.recv()).await.unwrap().unwrap();
    stream.write_all(b"into nothing").await.unwrap();
    assert!(hears_nothing(&mut stream).await);

    proxy.pass();
    let reset = read_some(&mut stream).await.unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    round_trip(&mut connect(&proxy).await, "anew")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_cut_falls_after_exactly_these_bytes() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut old = connect(&proxy).await;
    round_trip(&mut old, "counted from now").await.unwrap();
    proxy.cut_after(Direction::ToClient, 7, Close::Fin);
    for mut stream in [old, connect(&proxy).await] {
        round_trip(&mut stream, "012345").await.unwrap();
        assert!(hears_nothing(&mut stream).await);
        stream.write_all(b"6789").await.unwrap();
        let mut back = Vec::new();
        timeout(SOON, stream.read_to_end(&mut back))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(back, b"6");
    }
}

#[tokio::test]
async fn a_cut_at_zero_loses_the_reply_of_a_request_that_arrived() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut first = connect(&proxy).await;
    let mut second = connect(&proxy).await;
    round_trip(&mut first, "a").await.unwrap();
    round_trip(&mut second, "b").await.unwrap();
    proxy.cut_once(Direction::ToClient, 0, Close::Rst);
    // Nothing is cut as long as there is no reply.
    assert!(hears_nothing(&mut first).await);
    first.write_all(b"request").await.unwrap();
    let lost = read_some(&mut first).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.passed(Direction::ToServer), 2 + 7);
    assert_eq!(proxy.passed(Direction::ToClient), 2);
    // Once is once.
    round_trip(&mut second, "c").await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_cut_does_not_arrive() {
    let (_echo, proxy) = echo_and_proxy().await;
    proxy.cut_after(Direction::ToServer, 0, Close::Fin);
    let mut stream = connect(&proxy).await;
    stream.write_all(b"request").await.unwrap();
    assert_eq!(read_some(&mut stream).await.unwrap(), 0);
    assert_eq!(proxy.passed(Direction::ToServer), 0);
}

#[tokio::test]
async fn severing_closes_what_is_open_and_nothing_else() {
    let (mut echo, proxy) = echo_and_proxy().await;
    for close in [Close::Fin, Close::Rst] {
        let mut stream = connect(&proxy).await;
        round_trip(&mut stream, "before").await.unwrap();
        proxy.sever(close);
        let read = read_some(&mut stream).await;
        match close {
            Close::Fin => assert_eq!(read.unwrap(), 0),
            Close::Rst => assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset),
        }
        timeout(SOON, echo.ends.recv()).await.unwrap().unwrap();
        round_trip(&mut connect(&proxy).await, "anew")
            .await
            .unwrap();
    }
    // What is half open can be severed as well.
    proxy.half_open();
    let mut held = connect(&proxy).await;
    until(|| proxy.accepted() == 5).await;
    proxy.sever(Close::Fin);
    assert_eq!(read_some(&mut held).await.unwrap(), 0);
}

#[tokio::test]
async fn refusing_concerns_new_connections_only() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut old = connect(&proxy).await;
    round_trip(&mut old, "before").await.unwrap();
    proxy.refuse();
    let refused = TcpStream::connect(proxy.addr()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    round_trip(&mut old, "still").await.unwrap();
    proxy.pass();
    round_trip(&mut connect(&proxy).await, "anew")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unreachable_server_resets_the_client() {
    let proxy = {
        let echo = Echo::start().await;
        Proxy::start(echo.addr).await.unwrap()
    };
    let mut stream = connect(&proxy).await;
    assert!(read_some(&mut stream).await.is_err());
}

#[tokio::test]
async fn dropping_it_closes_everything() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream, "before").await.unwrap();
    let addr = proxy.addr();
    drop(proxy);
    assert!(matches!(read_some(&mut stream).await, Ok(0) | Err(_)));
    TcpStream::connect(addr).await.unwrap_err();
}
