//! `redkit dashboard`: the page is served on this machine, under names of this machine.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{NAMESPACE, engine, program, redkit};

/// The answer's head and body to a GET of the page's start.
async fn start_page(address: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_string(&mut answer));
    read.await.expect("the connection ends").unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_until_a_signal_and_under_names_of_this_machine_only() {
    let engine = engine().await;
    let mut command = program(&["dashboard", "--listen", "127.0.0.1:0", "--json"]);
    command
        .env("REDIS_URL", engine.url())
        .env("REDKIT_NAMESPACE", NAMESPACE)
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(Duration::from_secs(30), lines.next_line()).await;
    let line = line.expect("it starts").unwrap().unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let url = line["url"].as_str().unwrap();
    let address = url.trim_start_matches("http://").trim_end_matches('/');

    let served = start_page(address, address).await;
    assert!(served.starts_with("HTTP/1.1 200"), "{served}");
    assert!(served.contains("<html"), "{served}");
    let foreign = start_page(address, "shop.example").await;
    assert!(foreign.starts_with("HTTP/1.1 421"), "{foreign}");

    let id = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    let status = timeout(Duration::from_secs(10), child.wait()).await;
    assert_eq!(status.expect("it ends").unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_reach_is_refused() {
    let engine = engine().await;
    let done = redkit(&engine.url(), &["dashboard", "--listen", "0.0.0.0:0"]).await;
    done.failed(2, "other machines reach", "ssh -L");
}
