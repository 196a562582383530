//! `redkit doctor` against servers that are bad on purpose: each fault is named, with a remedy and an exit code.

use std::net::SocketAddr;
use std::time::Duration;

use redkit_testkit::{Cluster, Program, RawReply, Server, ServerOptions};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Done, NAMESPACE, redkit};

async fn doctor(url: &str, args: &[&str]) -> (Done, Value) {
    let done = redkit(url, &[&["--json", "doctor"], args].concat()).await;
    assert!(done.took < Duration::from_secs(25), "{done:?}");
    let report = done.document();
    assert_eq!(report["exit_code"], done.code, "{report}");
    (done, report)
}

/// The finding of this check that is this bad; its text and remedy hold these words.
fn found<'r>(
    report: &'r Value,
    check: &str,
    severity: &str,
    text: &str,
    remedy: &str,
) -> &'r Value {
    let findings = report["findings"].as_array().unwrap();
    let finding = findings
        .iter()
        .find(|finding| finding["check"] == check && finding["severity"] == severity);
    let finding = finding.unwrap_or_else(|| panic!("no {severity} {check}: {report:#}"));
    assert!(
        finding["found"].as_str().unwrap().contains(text),
        "{text}: {finding:#}"
    );
    let said = finding["remedy"].as_str().unwrap_or_default();
    assert!(said.contains(remedy), "{remedy}: {finding:#}");
    finding
}

async fn set(server: &Server, setting: &str, value: &str) {
    let reply = server
        .raw(&["CONFIG", "SET", setting, value])
        .await
        .unwrap();
    assert!(matches!(reply, RawReply::Status(_)), "{setting}: {reply:?}");
}

/// A server with which nothing is wrong.
async fn well() -> Server {
    let options = ServerOptions::new()
        .config("maxmemory 200mb")
        .config("appendonly yes");
    Server::redis(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_well_has_no_warning() {
    let server = well().await;
    let (done, report) = doctor(&server.url(), &[]).await;
    assert_eq!(
        (done.code, &report["severity"]),
        (0, &"info".into()),
        "{report:#}"
    );
    for check in [
        "version",
        "ping",
        "write",
        "script",
        "pubsub",
        "rights",
        "client_list",
        "eviction",
        "durability",
        "clock",
        "latency",
    ] {
        found(&report, check, "ok", "", "");
    }
    let text = redkit(&server.url(), &["doctor"]).await;
    assert!(text.out.contains("0 errors, 0 warnings"), "{text:?}");
    // It leaves nothing but its probes, which expire.
    let RawReply::Array(keys) = server.raw(&["KEYS", "*"]).await.unwrap() else {
        panic!("no list");
    };
    for key in keys {
        let RawReply::Bulk(key) = key else { continue };
        let key = String::from_utf8(key).unwrap();
        assert!(
            key.starts_with(&format!("{NAMESPACE}:monitor:health:")),
            "{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_eviction_policy_is_an_error_for_what_must_not_go_and_right_for_a_cache() {
    let server = well().await;
    set(&server, "maxmemory-policy", "allkeys-lru").await;
    let (done, report) = doctor(&server.url(), &[]).await;
    assert_eq!(done.code, 2);
    let finding = found(&report, "eviction", "error", "allkeys-lru", "noeviction");
    assert!(
        finding["patterns"]
            .as_array()
            .unwrap()
            .contains(&"topic".into()),
        "{finding}"
    );
    let (done, report) = doctor(&server.url(), &["--for", "lock,session"]).await;
    assert_eq!(done.code, 1, "{report:#}");
    found(
        &report,
        "eviction",
        "warning",
        "locks, sessions",
        "noeviction",
    );
    let (done, report) = doctor(&server.url(), &["--for", "cache"]).await;
    assert_eq!(done.code, 0, "{report:#}");
    set(&server, "maxmemory-policy", "noeviction").await;
    let (_, report) = doctor(&server.url(), &["--for", "cache"]).await;
    found(
        &report,
        "eviction",
        "warning",
        "refuses every new entry",
        "allkeys-lru",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_memory_limit_and_no_persistence_are_warnings() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let (done, report) = doctor(&server.url(), &[]).await;
    assert_eq!(done.code, 1, "{report:#}");
    found(&report, "maxmemory", "warning", "no limit", "set maxmemory");
    found(
        &report,
        "durability",
        "warning",
        "a restart loses everything",
        "appendonly",
    );
    let text = redkit(&server.url(), &["doctor"]).await;
    assert!(
        text.out.contains("WARNING  maxmemory at ") && text.out.contains("remedy: set maxmemory"),
        "{text:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_and_one_that_is_nearly_full_are_told_apart() {
    let server = well().await;
    set(&server, "maxmemory", "1").await;
    let (done, report) = doctor(&server.url(), &[]).await;
    assert_eq!(done.code, 2, "{report:#}");
    found(
        &report,
        "write",
        "error",
        "memory is full",
        "raise maxmemory",
    );
    let RawReply::Bulk(info) = server.raw(&["INFO", "memory"]).await.unwrap() else {
        panic!("no text");
    };
    let info = String::from_utf8(info).unwrap();
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"))
        .unwrap();
    let limit = used.trim().parse::<u64>().unwrap() * 105 / 100 + 40_000;
    set(&server, "maxmemory", &limit.to_string()).await;
    let (_, report) = doctor(&server.url(), &[]).await;
    found(
        &report,
        "maxmemory",
        "warning",
        "refuses writes",
        "redkit keys",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_listed_as_they_are_granted() {
    let server = well().await;
    let as_user = async |rules: &[&str]| {
        let user = ["ACL", "SETUSER", "web", "reset", "on", ">secret"];
        server.raw(&[&user[..], rules].concat()).await.unwrap();
        doctor(&format!("redis://web:secret@{}", server.addr()), &[]).await
    };
    let (done, report) = as_user(&["~shop:*", "&shop:*", "+@all", "-evalsha", "-xadd"]).await;
    assert_eq!(done.code, 2);
    let finding = found(&report, "rights", "error", "+evalsha +xadd", "ACL SETUSER");
    assert!(
        finding["patterns"]
            .as_array()
            .unwrap()
            .contains(&"session".into()),
        "{finding}"
    );
    let (_, report) = as_user(&["~shop:cache:*", "&shop:*", "+@all"]).await;
    found(&report, "rights", "error", "~shop:lock:*", "~shop:topic:*");
    found(
        &report,
        "rights",
        "error",
        "~shop:cache-meta:*",
        "~shop:cache-tag:*",
    );
    // Some keys, and some channels, of a pattern are not all.
    let rules = [
        "~shop:lock:*",
        "&shop:lock:*",
        "&shop:monitor:*",
        "~shop:monitor:*",
        "+@all",
    ];
    let user = ["ACL", "SETUSER", "web", "reset", "on", ">secret"];
    server.raw(&[&user[..], &rules].concat()).await.unwrap();
    let url = format!("redis://web:secret@{}", server.addr());
    let (_, report) = doctor(&url, &["--for", "lock"]).await;
    for stem in [
        "rwlock",
        "semaphore",
        "latch",
        "redlock",
        "idempotent",
        "fenced",
    ] {
        let key = format!("~shop:{stem}:*");
        found(&report, "rights", "error", &key, &key);
    }
    for stem in ["rwlock", "semaphore", "latch", "redlock", "election"] {
        let channel = format!("&shop:{stem}:*");
        found(&report, "rights", "error", &channel, &channel);
    }
    let rules = ["~shop:*", "&shop:inbox:*", "&shop:monitor:*", "+@all"];
    server.raw(&[&user[..], &rules].concat()).await.unwrap();
    let (_, report) = doctor(&url, &["--for", "channel"]).await;
    found(
        &report,
        "rights",
        "error",
        "&shop:channel:*",
        "&shop:channel:*",
    );
    let (_, report) = as_user(&["~shop:*", "+@all"]).await;
    found(&report, "rights", "error", "&shop:lock:*", "&shop:topic:*");
    found(
        &report,
        "pubsub",
        "error",
        "lacks a right",
        "&shop:monitor:health:*",
    );
    let (_, report) = as_user(&["~shop:*", "&shop:*", "+@all", "-client|list"]).await;
    let (held_back, remedy) = ("holds back", "+client|list");
    found(&report, "client_list", "warning", held_back, remedy);
    let (_, report) = as_user(&["~shop:*", "&shop:*", "+@all", "-info"]).await;
    found(&report, "info", "warning", "may not ask INFO", "+info");
    let (_, report) = as_user(&["~shop:*", "&shop:*", "+@all", "-multi"]).await;
    found(&report, "rights", "error", "transactions", "+multi");
    let (done, _) = as_user(&["~shop:*", "&shop:*", "+@all"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!done.out.contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_and_a_server_that_loads_are_named() {
    let (master, server) = (well().await, well().await);
    let port = master.addr().port().to_string();
    server
        .raw(&["REPLICAOF", "127.0.0.1", &port])
        .await
        .unwrap();
    let (done, report) = doctor(&server.url(), &[]).await;
    assert_eq!(done.code, 2);
    found(&report, "write", "error", "replica", "redis-sentinel://");

    let options = ServerOptions::new().config("loading-process-events-interval-bytes 1024");
    let server = Server::redis(options).await.unwrap();
    server
        .raw(&["DEBUG", "POPULATE", "2000", "key", "100"])
        .await
        .unwrap();
    set(&server, "key-load-delay", "1000").await;
    let url = server.url();
    // The reply comes when the server has loaded, after two seconds.
    let (_, (_, report)) = tokio::join!(server.raw(&["DEBUG", "RELOAD"]), async {
        let mut last = doctor(&url, &[]).await;
        for _ in 0..20 {
            let findings = last.1["findings"].to_string();
            if findings.contains("loading") {
                break;
            }
            last = doctor(&url, &[]).await;
        }
        last
    });
    found(
        &report,
        "ping",
        "error",
        "loading",
        "wait until it has loaded",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_is_not_there_or_is_another_program_is_told_in_time() {
    let server = well().await;
    server.stop().unwrap();
    let (done, report) = doctor(&server.url(), &[]).await;
    assert_eq!(done.code, 2);
    found(
        &report,
        "connection",
        "error",
        "connect_timeout",
        "host and port",
    );
    server.cont().unwrap();

    let (_, report) = doctor("redis://127.0.0.1:1", &[]).await;
    found(
        &report,
        "connection",
        "error",
        "127.0.0.1:1",
        "host and port",
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let web = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let (_, report) = doctor(&format!("redis://{addr}"), &[]).await;
    found(&report, "connection", "error", "Redis", "");
    web.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_a_port_that_wants_tls_are_told() {
    let options = ServerOptions::new()
        .password("hunter22")
        .config("maxmemory 200mb")
        .config("appendonly yes");
    let server = Server::redis(options).await.unwrap();
    let (done, report) = doctor(&format!("redis://:wrong-one@{}", server.addr()), &[]).await;
    assert_eq!(done.code, 2);
    found(
        &report,
        "connection",
        "error",
        "WRONGPASS",
        "user and password",
    );
    assert!(!done.out.contains("wrong-one"));
    let (_, report) = doctor(&format!("redis://{}", server.addr()), &[]).await;
    found(
        &report,
        "connection",
        "error",
        "NOAUTH",
        "user and password",
    );

    let server = Server::redis(ServerOptions::new().tls()).await.unwrap();
    let (_, report) = doctor(&format!("redis://{}", server.addr()), &[]).await;
    found(&report, "connection", "error", "rediss://", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_of_a_cluster_that_is_gone_is_named_and_a_node_is_no_server() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let (done, report) = doctor(&cluster.url(), &[]).await;
    assert_eq!(done.code, 1, "{report:#}");
    found(&report, "rights", "ok", "", "");
    found(&report, "clocks", "ok", "agree", "");
    let (_, one) = doctor(&format!("redis://{}", cluster.nodes()[0].addr()), &[]).await;
    found(&one, "connection", "error", "redis-cluster://", "");

    let gone = &cluster.nodes()[1];
    gone.kill9().await;
    let (done, report) = doctor(&cluster.url(), &[]).await;
    assert_eq!(done.code, 2);
    let errors: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["severity"] == "error")
        .collect();
    let name = gone.addr().to_string();
    let names_it = |finding: &&Value| {
        finding["server"] == name.as_str() || finding["found"].as_str().unwrap().contains("slots")
    };
    assert!(errors.iter().any(names_it), "{report:#}");
}

/// A proxy that changes what the server says.
async fn rewriting(
    upstream: SocketAddr,
    rewrite: impl Fn(&mut [u8]) + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(upstream).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let rewrite = rewrite.clone();
            tokio::spawn(async move {
                let mut some = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = from_server.read(&mut some).await {
                    rewrite(&mut some[..count]);
                    if to_client.write_all(&some[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_and_an_old_version_are_named() {
    let server = well().await;
    let late = rewriting(server.addr(), |said| {
        // The reply to TIME; others may stand before it.
        let start = b"*2\r\n$10\r\n";
        let found = said.windows(start.len()).position(|some| some == start);
        let digits = found.and_then(|at| said.get_mut(at + start.len()..at + start.len() + 10));
        if let Some(digits) = digits {
            let seconds: u64 = std::str::from_utf8(digits).unwrap().parse().unwrap();
            digits.copy_from_slice((seconds - 90).to_string().as_bytes());
        }
    })
    .await;
    let (done, report) = doctor(&format!("redis://{late}"), &[]).await;
    assert_eq!(done.code, 2);
    found(&report, "clock", "error", "behind this machine", "NTP");

    let RawReply::Bulk(info) = server.raw(&["INFO", "server"]).await.unwrap() else {
        panic!("no text");
    };
    let info = String::from_utf8(info).unwrap();
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .unwrap()
        .trim()
        .to_owned();
    let old = rewriting(server.addr(), move |said| {
        let mut at = 0;
        while let Some(found) = said[at..]
            .windows(version.len())
            .position(|some| some == version.as_bytes())
        {
            said[at + found] = b'6';
            at += found + version.len();
        }
    })
    .await;
    let (done, report) = doctor(&format!("redis://{old}"), &[]).await;
    assert_eq!(done.code, 2);
    found(
        &report,
        "version",
        "error",
        "older than 7.0",
        "7.0 or later",
    );
}
