use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::driver::native::split::split;

fn connect(room: usize) -> (Arc<Connection>, JoinHandle<()>, DuplexStream) {
    let (ours, server) = duplex(room);
    let (source, wire) = split(ours, |_| ());
    let (connection, task) = Connection::new(source, wire, Limits::default(), Box::new(NoPushes));
    (connection, tokio::spawn(task), server)
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(5))
}

fn kind<T: std::fmt::Debug>(result: Result<T, CallError>) -> (bool, FaultKind) {
    match result.unwrap_err() {
        CallError::NotSent(fault) => (false, fault.kind()),
        CallError::Maybe(fault) => (true, fault.kind()),
        other => panic!("{other}"),
    }
}

/// Waits until the calls that were started have been polled.
async fn settled() {
    sleep(Duration::from_millis(1)).await;
}

/// An encrypted stream: it takes what it is given, sends a part of it, and fails with the rest.
struct SendsAPartAndFails;

impl Wire for SendsAPartAndFails {
    fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn poll_write(&self, _: &mut Context<'_>, _: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn close(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_may_have_left_in_part() {
    let (ours, _server) = duplex(1024);
    let (source, _) = split(ours, |_| ());
    let wire = Box::new(SendsAPartAndFails);
    let (connection, task) = Connection::new(source, wire, Limits::default(), Box::new(NoPushes));
    let task = tokio::spawn(task);
    let command = Command::new("INCR").key("n");
    let (is_maybe, why) = kind(connection.call(&command, soon()).await);
    assert!(is_maybe, "{why:?}");
    assert_eq!(why, FaultKind::Disconnected);
    task.await.unwrap();
    let (is_maybe, _) = kind(connection.call(&command, soon()).await);
    assert!(!is_maybe, "nothing is given to a connection that has ended");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_one_byte_at_a_time_is_understood() {
    let (connection, _task, mut server) = connect(1024);
    let text = "$5\r\nhello\r\n*2\r\n:1\r\n-ERR x\r\n";
    let _server = tokio::spawn(async move {
        for byte in text.as_bytes() {
            server.write_all(&[*byte]).await.unwrap();
            settled().await;
        }
        std::future::pending::<()>().await;
    });
    let (one, two) = (Command::new("GET").key("a"), Command::new("EXEC"));
    let (first, second) =
        tokio::join!(connection.call(&one, soon()), connection.call(&two, soon()));
    assert_eq!(first.unwrap(), Value::bulk("hello"));
    assert!(matches!(second.unwrap(), Value::Array(items) if items.len() == 2));
}

#[tokio::test(start_paused = true)]
async fn what_no_server_may_send_ends_the_connection_with_a_reason() {
    let nested = "*1\r\n".repeat(1_000_000);
    let cases = [
        ("$4611686018427387904\r\n", "longer than the"),
        ("HTTP/1.1 400 Bad Request\r\n", "0x48"),
        (&nested, "nests deeper"),
        (":1\r\n:2\r\n", "to no command"),
        (
            "-ERR max number of clients reached\r\n-ERR twice\r\n",
            "without being asked: ERR twice",
        ),
    ];
    for (text, reason) in cases {
        let (connection, task, mut server) = connect(64 * 1024);
        let text = text.to_owned();
        let _server = tokio::spawn(async move {
            let mut command = [0; 4];
            server.read_exact(&mut command).await.unwrap();
            drop(server.write_all(text.as_bytes()).await);
            std::future::pending::<()>().await;
        });
        let ping = Command::new("PING");
        let first = connection.call(&ping, soon()).await;
        timeout(Duration::from_secs(5), task)
            .await
            .expect(reason)
            .unwrap();
        let error = match first {
            Err(error @ CallError::Maybe(_)) => error,
            // It was answered; whoever comes next is told.
            _ => connection.call(&ping, soon()).await.unwrap_err(),
        };
        let shown = format!("{error} {:?}", error.fault());
        assert!(shown.contains(reason), "{shown}");
        assert_eq!(error.fault().unwrap().kind(), FaultKind::Protocol);
    }
}

#[tokio::test(start_paused = true)]
async fn commands_of_many_callers_go_out_together_and_in_order() {
    let (connection, _task, mut server) = connect(1 << 20);
    let calls: Vec<_> = (0..100)
        .map(|number| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move {
                let echo = Command::new("ECHO").arg(number);
                connection.call(&echo, soon()).await.unwrap()
            })
        })
        .collect();
    settled().await;
    let mut bytes = vec![0; 1 << 16];
    let count = server.read(&mut bytes).await.unwrap();
    let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
    assert_eq!(
        text.matches("ECHO").count(),
        100,
        "one write carries them all"
    );
    let numbers = text.split("\r\n").skip(4).step_by(5);
    let replies: String = numbers.map(|number| format!(":{number}\r\n")).collect();
    server.write_all(replies.as_bytes()).await.unwrap();
    for (number, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), Value::Int(number));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_costs_nobody_more_than_the_deadline() {
    let (connection, _task, mut server) = connect(64);
    let deadline = Instant::now() + Duration::from_millis(100);
    let set = Command::new("SET").key("k").arg("x".repeat(100));
    let get = Command::new("GET").key("k");
    let (begun, waiting) = tokio::join!(
        connection.call(&set, Some(deadline)),
        connection.call(&get, Some(deadline))
    );
    assert_eq!(kind(begun), (true, FaultKind::Timeout));
    assert_eq!(kind(waiting), (false, FaultKind::Timeout));
    let late = deadline.elapsed();
    assert!(late <= Duration::from_millis(4), "{late:?}");
    // The command that had begun is finished, and its reply goes to nobody.
    let echo = Command::new("ECHO").arg("mine");
    let (answer, ()) = tokio::join!(connection.call(&echo, soon()), async {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"mine\r\n") {
            server.read_buf(&mut bytes).await.unwrap();
        }
        assert!(!bytes.windows(3).any(|word| word == b"GET"));
        server.write_all(b"+OK\r\n+mine\r\n").await.unwrap();
    });
    assert_eq!(answer.unwrap(), Value::status("mine"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_tells_everybody() {
    let (connection, task, mut server) = connect(64);
    let calls: Vec<_> = ["x".repeat(100), "y".into()]
        .into_iter()
        .map(|text| {
            let connection = Arc::clone(&connection);
            let set = Command::new("SET").key("k").arg(text);
            tokio::spawn(async move { connection.call(&set, None).await })
        })
        .collect();
    settled().await;
    let mut some = [0; 10];
    server.read_exact(&mut some).await.unwrap();
    settled().await;
    drop(server);
    task.await.unwrap();
    let mut ended = Vec::new();
    for call in calls {
        ended.push(kind(call.await.unwrap()));
    }
    let broken = FaultKind::Disconnected;
    assert_eq!(ended, [(true, broken), (false, broken)]);
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_room_until_their_deadline() {
    let (connection, _task, mut server) = connect(256 * 1024);
    let large = Command::new("SET").key("k").arg("x".repeat(15_000));
    let calls: Vec<_> = (0..1200)
        .map(|_| {
            let (connection, large) = (Arc::clone(&connection), large.clone());
            tokio::spawn(async move { connection.call(&large, soon()).await })
        })
        .collect();
    settled().await;
    let late = Instant::now() + Duration::from_millis(50);
    let refused = connection.call(&Command::new("PING"), Some(late)).await;
    assert_eq!(kind(refused), (false, FaultKind::Overloaded));
    // Once the server reads, everybody gets through.
    let answering = tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 20];
        let mut read = 0_usize;
        let mut answered = 0;
        let mut one = Vec::new();
        super::super::encode::encode(&large, &mut one);
        loop {
            read += server.read(&mut bytes).await.unwrap();
            while answered < read / one.len() {
                server.write_all(b"+OK\r\n").await.unwrap();
                answered += 1;
            }
        }
    });
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), Value::Ok);
    }
    answering.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_give_up_at_once_do_no_harm_and_leave_nothing() {
    let (connection, _task, mut server) = connect(4096);
    let _server = tokio::spawn(async move {
        let mut reader = Decoder::new(Limits::default());
        let mut bytes = vec![0; 4096];
        loop {
            let count = server.read(&mut bytes).await.unwrap();
            reader.feed(&bytes[..count]);
            while let Ok(Some(Frame::Reply(Ok(Value::Array(parts))))) = reader.next() {
                let text: String = parts[1].clone().to().unwrap();
                let reply = format!("${}\r\n{text}\r\n", text.len());
                server.write_all(reply.as_bytes()).await.unwrap();
            }
        }
    });
    let mut answered = 0;
    for number in 0..20_000 {
        let echo = Command::new("ECHO").arg(number);
        let call = connection.call(&echo, soon());
        if let Ok(reply) = timeout(Duration::from_micros(50), call).await {
            assert_eq!(reply.unwrap().to::<i64>().unwrap(), number);
            answered += 1;
        }
    }
    println!("{answered} were answered in time");
    let last = Command::new("ECHO").arg("last");
    assert_eq!(
        connection.call(&last, soon()).await.unwrap(),
        Value::bulk("last")
    );
    let exchanges = connection.exchanges.lock();
    assert_eq!((exchanges.owed(), exchanges.held().1), (0, 0));
}
