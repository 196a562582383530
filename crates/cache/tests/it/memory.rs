//! A server that has no memory left and evicts nothing, and a queue that has no room left.

use std::io;
use std::time::Duration;

use redkit_cache::write_behind::{Change, Sink, SinkError, Verdict, WriteBehind};
use redkit_cache::{Cache, Source};
use redkit_core::{Client, ClientConfig};
use redkit_testkit::{Direction, Proxy, Server, ServerOptions};
use tokio::sync::oneshot;

const LONG: Duration = Duration::from_secs(60);

async fn start() -> (Server, Client) {
    let options = ServerOptions::new().config("maxmemory-policy noeviction");
    let server = Server::redis(options).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    (server, Client::connect(config).await.unwrap())
}

async fn fill(server: &Server) {
    let limit = server.raw(&["CONFIG", "SET", "maxmemory", "100kb"]);
    assert!(!limit.await.unwrap().is_error());
    let refused = server.raw(&["SET", "more", "1"]).await.unwrap();
    assert!(refused.is_error(), "there is no room: {refused:?}");
}

#[tokio::test]
async fn a_source_that_failed_is_left_alone_all_the_same() {
    let (server, client) = start().await;
    let numbers: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(Duration::from_millis(20))
        .stale_for(LONG)
        .retry_after(LONG)
        .build()
        .unwrap();
    numbers.set("k", &1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let (began, begins) = oneshot::channel();
    let (go, told) = oneshot::channel::<()>();
    let fails = || async move {
        began.send(()).unwrap();
        told.await.unwrap();
        Err::<u64, _>(io::Error::other("the database is on fire"))
    };
    let (got, ()) = tokio::join!(numbers.get_or_load("k", fails), async {
        begins.await.unwrap();
        fill(&server).await;
        go.send(()).unwrap();
    });
    assert_eq!(got.unwrap().source(), Source::Stale);
    let again = numbers.get_or_load("k", || async { Ok::<_, io::Error>(2) });
    assert_eq!(again.await.unwrap().source(), Source::Stale);
    client.shutdown().await;
}

#[tokio::test]
async fn a_full_server_removes_the_entry_that_a_caller_saw() {
    let (server, client) = start().await;
    let numbers: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(LONG)
        .build()
        .unwrap();
    numbers.set("k", &1).await.unwrap();
    let seen = numbers.peek("k").await.unwrap().unwrap();
    fill(&server).await;
    assert!(numbers.invalidate_seen("k", &seen).await.unwrap());
    assert!(numbers.get("k").await.unwrap().is_none());
    client.shutdown().await;
}

#[tokio::test]
async fn a_write_through_is_fenced_all_the_same() {
    let (server, client) = start().await;
    let numbers: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(LONG)
        .build()
        .unwrap();
    numbers.set("k", &1).await.unwrap();
    fill(&server).await;
    let (during, cache) = (numbers.clone(), numbers.clone());
    let write = || async move {
        assert!(
            during.get("k").await.unwrap().is_none(),
            "the old one is gone"
        );
        Ok::<_, io::Error>(2)
    };
    assert_eq!(*cache.write_through("k", write).await.unwrap(), 2);
    assert_ne!(numbers.get("k").await.unwrap().as_deref(), Some(&1));
    client.shutdown().await;
}

/// The server has no room for the list of the writes that are under way once one of them has ended, unless the script
/// has removed something before.
#[tokio::test]
async fn the_end_of_one_of_two_writes_is_noted_all_the_same() {
    let (server, client) = start().await;
    let numbers: Cache<u64> = Cache::builder(&client, "numbers")
        .redis_timeout(crate::PATIENT)
        .ttl(LONG)
        .lease(LONG)
        .wait_timeout(LONG)
        .build()
        .unwrap();
    let mut writes = Vec::new();
    for value in 0..2 {
        let (began, begins) = oneshot::channel();
        let (go, told) = oneshot::channel::<()>();
        let cache = numbers.clone();
        let write = move || async move {
            began.send(()).unwrap();
            told.await.unwrap();
            Ok::<_, io::Error>(value)
        };
        let caller = tokio::spawn(async move { cache.write_through("k", write).await });
        begins.await.unwrap();
        writes.push((go, caller));
    }
    let reader = tokio::spawn({
        let numbers = numbers.clone();
        async move {
            let load = || async { Ok::<_, io::Error>(1) };
            numbers.get_or_load("k", load).await.map(|got| *got)
        }
    });
    // A full server does not take the mark that somebody waits.
    while numbers.stats().waits == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fill(&server).await;
    for (go, caller) in writes {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!reader.is_finished(), "a write is under way");
        go.send(()).unwrap();
        caller.await.unwrap().unwrap();
    }
    let read = tokio::time::timeout(Duration::from_secs(20), reader).await;
    assert_eq!(read.expect("no write is under way").unwrap().unwrap(), 1);
    client.shutdown().await;
}

struct Rejects;

impl Sink<u64> for Rejects {
    async fn write(&self, batch: Vec<Change<u64>>) -> Result<Vec<Verdict>, SinkError> {
        Ok(vec![Verdict::Reject(SinkError::new("never")); batch.len()])
    }
}

#[tokio::test]
async fn dead_letters_go_back_into_the_queue_all_the_same() {
    let (server, client) = start().await;
    let stock = WriteBehind::<u64>::builder(&client, "stock")
        .max_age(Duration::ZERO)
        .partitions(1)
        .open()
        .await
        .unwrap();
    stock.put("k", &1).await.unwrap();
    let worker = stock.start(Rejects);
    stock.flush(LONG).await.unwrap();
    worker.shutdown(LONG).await.unwrap();
    fill(&server).await;
    assert_eq!(stock.redrive_all().await.unwrap().redriven, 1);
    assert_eq!(stock.stats().await.unwrap().pending, 1);
    client.shutdown().await;
}

#[tokio::test]
async fn a_change_that_waits_for_room_is_not_sent_again_and_again() {
    const SIZE: usize = 200_000;
    let (server, client) = start().await;
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let config = ClientConfig::from_url(&server.url_at(proxy.addr())).unwrap();
    let far = Client::connect(config).await.unwrap();
    let open = async |client| {
        let builder = WriteBehind::<String>::builder(client, "stock").partitions(1);
        let builder = builder.max_pending(1).max_age(LONG).wait_when_full(LONG);
        builder.open().await.unwrap()
    };
    let (here, there) = (open(&client).await, open(&far).await);
    here.put("first", &String::new()).await.unwrap();
    let large = "x".repeat(SIZE);
    let (put, ()) = tokio::join!(there.put("second", &large), async {
        // Some twenty looks.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let worker = here.start(Takes);
        here.flush(LONG).await.unwrap();
        worker.shutdown(LONG).await.unwrap();
    });
    put.unwrap();
    let sent = proxy.passed(Direction::ToServer);
    let most = 3 * SIZE as u64;
    assert!(sent > SIZE as u64 && sent < most, "{sent} bytes were sent");
    client.shutdown().await;
}

struct Takes;

impl Sink<String> for Takes {
    async fn write(&self, batch: Vec<Change<String>>) -> Result<Vec<Verdict>, SinkError> {
        Ok(Verdict::written(batch.len()))
    }
}
