//! Servers: start, answer, stop, go on, die and come back; and never outlive their process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redkit_testkit::{Error, Program, RawReply, Server, ServerOptions};

/// Whether a process runs: it is there, and no zombie.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn await_end(pid: u32, folder: &Path) {
    let patience = Instant::now() + Duration::from_secs(5);
    while runs(pid) || folder.exists() {
        assert!(Instant::now() < patience, "{pid} or {folder:?} is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `PING` over the server's port.
fn ping(server: &Server, patience: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server.addr())?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = vec![0; 7];
    stream.read_exact(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

async fn lives_and_dies(program: Program, kind: &str) {
    let server = Server::start(program, ServerOptions::new()).await.unwrap();
    assert_eq!(ping(&server, Duration::from_secs(5)).unwrap(), "+PONG\r\n");
    let info = server.raw(&["INFO", "server"]).await.unwrap().text();
    assert!(info.unwrap().contains(kind));

    server.raw(&["SET", "k", "v"]).await.unwrap();
    let before = server.pid().unwrap();
    server.restart().await.unwrap();
    let after = server.pid().unwrap();
    assert_ne!(before, after);
    assert!(!runs(before));
    assert_eq!(server.raw(&["GET", "k"]).await.unwrap(), RawReply::Nil);
    assert_eq!(ping(&server, Duration::from_secs(5)).unwrap(), "+PONG\r\n");

    server.kill9().await;
    assert_eq!(server.pid(), None);
    assert!(!runs(after));
    assert!(server.stop().is_err());
    ping(&server, Duration::from_secs(1)).unwrap_err();
    server.restart().await.unwrap();
    assert_eq!(ping(&server, Duration::from_secs(5)).unwrap(), "+PONG\r\n");

    let (pid, folder) = (server.pid().unwrap(), server.folder().to_owned());
    drop(server);
    assert!(!runs(pid));
    assert!(!folder.exists());
}

#[tokio::test]
async fn redis_lives_and_dies() {
    lives_and_dies(Program::Redis, "redis_version:").await;
}

#[tokio::test]
async fn valkey_lives_and_dies() {
    lives_and_dies(Program::Valkey, "valkey_version:").await;
}

#[tokio::test]
async fn written_data_is_there_after_a_kill_when_the_options_say_so() {
    let options = ServerOptions::new()
        .config("appendonly yes")
        .config("appendfsync always");
    let server = Server::redis(options).await.unwrap();
    server.raw(&["SET", "k", "v"]).await.unwrap();
    server.kill9().await;
    server.restart().await.unwrap();
    let got = server.raw(&["GET", "k"]).await.unwrap();
    assert_eq!(got, RawReply::Bulk(b"v".to_vec()));
}

#[tokio::test]
async fn a_stopped_server_answers_nothing_until_it_goes_on() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    server.stop().unwrap();
    // The system still accepts the connection.
    let error = ping(&server, Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    server.cont().unwrap();
    assert_eq!(ping(&server, Duration::from_secs(5)).unwrap(), "+PONG\r\n");
    // A stopped one dies too.
    server.stop().unwrap();
    let pid = server.pid().unwrap();
    drop(server);
    assert!(!runs(pid));
}

#[tokio::test]
async fn killed_clients_read_an_end() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let mut client = TcpStream::connect(server.addr()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    client.write_all(b"PING\r\n").unwrap();
    client.read_exact(&mut [0; 7]).unwrap();
    assert_eq!(server.kill_clients().await.unwrap(), 1);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn a_password_is_demanded_and_known_to_the_administration() {
    let options = ServerOptions::new().password("hunter2");
    let server = Server::valkey(options).await.unwrap();
    let refused = ping(&server, Duration::from_secs(5)).unwrap();
    assert!(refused.starts_with("-NOAUTH"), "{refused}");
    let pong = server.raw(&["PING"]).await.unwrap();
    assert_eq!(pong, RawReply::Status("PONG".to_owned()));
    let url = format!("redis://:hunter2@{}", server.addr());
    assert_eq!(server.url(), url);
}

#[tokio::test]
async fn tls_is_all_that_its_port_speaks() {
    let options = ServerOptions::new().tls().password("hunter2");
    let server = Server::redis(options).await.unwrap();
    assert!(server.url().starts_with("rediss://:hunter2@127.0.0.1:"));
    assert!(ping(&server, Duration::from_millis(500)).is_err());
    let tls = server.tls().unwrap();
    assert!(tls.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(std::fs::read_to_string(&tls.ca_file).unwrap(), tls.ca_pem);
}

#[tokio::test]
async fn a_server_that_ends_at_once_says_why() {
    let started = Instant::now();
    let options = ServerOptions::new().config("no-such-directive yes");
    let error = Server::redis(options).await.unwrap_err();
    assert!(matches!(error, Error::NotUp { .. }), "{error}");
    assert!(error.to_string().contains("no-such-directive"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn administration_does_not_move_a_paused_clock() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let sleeper = tokio::spawn(tokio::time::sleep(Duration::from_secs(3600)));
    server.raw(&["DEBUG", "SLEEP", "0.05"]).await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(!sleeper.is_finished());
}

#[tokio::test]
async fn a_panicking_test_leaves_nothing_behind() {
    let (told, heard) = std::sync::mpsc::channel();
    let test = tokio::spawn(async move {
        let server = Server::redis(ServerOptions::new()).await.unwrap();
        told.send((server.pid().unwrap(), server.folder().to_owned()))
            .unwrap();
        panic!("on purpose");
    });
    assert!(test.await.unwrap_err().is_panic());
    let (pid, folder) = heard.recv().unwrap();
    assert!(!runs(pid));
    assert!(!folder.exists());
}

/// Runs itself in a process of its own, which holds a server until it is killed.
#[tokio::test]
async fn a_killed_test_process_leaves_nothing_behind() {
    const HOLDS: &str = "REDKIT_TESTKIT_HOLDS_A_SERVER";
    if std::env::var_os(HOLDS).is_some() {
        let server = Server::redis(ServerOptions::new()).await.unwrap();
        server.stop().unwrap();
        let folder = server.folder().display();
        println!("\nholds {} {folder}", server.pid().unwrap());
        std::thread::sleep(Duration::from_secs(60));
        panic!("nobody killed this process");
    }
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("server::a_killed_test_process_leaves_nothing_behind")
        .env(HOLDS, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (pid, folder) = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            let (pid, folder) = line.strip_prefix("holds ")?.split_once(' ')?;
            Some((pid.parse::<u32>().unwrap(), PathBuf::from(folder)))
        })
        .unwrap();
    assert!(runs(pid));
    assert!(folder.exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    await_end(pid, &folder);
}
