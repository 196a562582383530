//! Write-behind when Redis is down: nothing that was accepted is lost, and a write whose outcome is
//! unknown can be repeated.

use std::time::Duration;

use redkit_cache::Error;
use redkit_cache::write_behind::{WriteBehind, WriteId};
use redkit_core::Client;
use redkit_testkit::{BackendKind, Close, Direction, Fixture, Proxy, ServerOptions};

use crate::write_behind_database::Database;

const LONG: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);
/// A command's, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3);

async fn open(client: &Client) -> WriteBehind<u64> {
    try_open(client).await.unwrap()
}

async fn try_open(client: &Client) -> Result<WriteBehind<u64>, Error> {
    WriteBehind::builder(client, "stock")
        .partitions(2)
        .max_age(10 * MS)
        .poll_interval(10 * MS)
        .lease(Duration::from_secs(1))
        .open()
        .await
}

redkit_testkit::suite! {
    /// The server is killed and comes back with its append-only file: writers learn of it, workers wait
    /// and go on.
    #[networked]
    async fn what_was_accepted_survives_the_server(fixture: Fixture) {
        let options = ServerOptions::new().config("appendonly yes").config("appendfsync always");
        let server = fixture.private_server(options).await.unwrap();
        let config = fixture.config_at(&server.url()).unwrap().command_timeout(PATIENCE);
        let stock = open(&fixture.connect(config).await.unwrap()).await;
        let database = Database::new();
        for n in 0..20_u64 {
            stock.put(n, &n).await.unwrap();
        }
        server.kill9().await;
        let worker = stock.start(database.clone());
        let error = stock.put("k", &1).await.unwrap_err();
        assert!(matches!(&error, Error::Core(error) if error.is_retryable()), "{error}");
        assert!(stock.pending("k").await.is_err(), "nobody knows what is pending");
        server.restart().await.unwrap();
        let id = WriteId::random();
        let deadline = std::time::Instant::now() + LONG;
        while let Err(error) = stock.put_as(id, "k", &2).await {
            assert!(error.is_retryable() && std::time::Instant::now() < deadline, "{error}");
        }
        stock.flush(LONG).await.unwrap();
        assert!((0..20).all(|n| database.row(&n.to_string()) == Some(n)));
        assert_eq!(database.row("k"), Some(2));
        worker.shutdown(LONG).await.unwrap();
    }

    /// The request arrives and its reply is lost: the write is in the queue once, whoever repeats it,
    /// and does not come back over a newer one.
    #[networked]
    async fn a_write_whose_reply_is_lost_is_accepted_once(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let config = fixture.config_at(&server.url_at(proxy.addr())).unwrap().command_timeout(PATIENCE);
        let there = open(&fixture.connect(config).await.unwrap()).await;
        let here = open(&fixture.connect(fixture.config_at(&server.url()).unwrap().command_timeout(PATIENCE)).await.unwrap()).await;
        // The client itself repeats it, since it is marked as one that can be.
        proxy.cut_once(Direction::ToClient, 0, Close::Rst);
        let version = there.put("k", &1).await.unwrap();
        assert_eq!(here.stats().await.unwrap().pending, 1);
        let stored = here.put("k", &2).await.unwrap();
        assert!(stored > version);

        let id = WriteId::random();
        proxy.black_hole();
        there.put_as(id, "k", &3).await.unwrap_err();
        proxy.pass();
        let third = here.put_as(id, "k", &3).await.unwrap();
        here.put("k", &4).await.unwrap();
        assert_eq!(here.put_as(id, "k", &3).await.unwrap(), third);
        let database = Database::new();
        let worker = here.start(database.clone());
        here.flush(LONG).await.unwrap();
        assert_eq!(database.values_of("k"), [Some(4)]);
        worker.shutdown(LONG).await.unwrap();
    }

    /// A server without memory refuses writers. A queue that is there can be opened and drained.
    #[networked]
    async fn a_queue_drains_though_the_server_is_out_of_memory(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let config = fixture.config_at(&server.url()).unwrap().command_timeout(PATIENCE);
        let client = fixture.connect(config).await.unwrap();
        let stock = open(&client).await;
        for n in 0..20_u64 {
            stock.put(n, &n).await.unwrap();
        }
        server.raw(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
        stock.put("k", &1).await.expect_err("there is no memory");
        if fixture.kind == BackendKind::Fred {
            // A known limit: this driver has to put scripts between MULTI and EXEC, and there a
            // server without memory refuses everything. Nothing is lost; it drains once it has some.
            let error = try_open(&client).await.unwrap_err();
            assert!(error.to_string().contains("OOM"), "{error}");
            server.raw(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
        }
        let stock = open(&client).await;
        let database = Database::new();
        let worker = stock.start(database.clone());
        stock.flush(LONG).await.unwrap();
        assert!((0..20).all(|n| database.row(&n.to_string()) == Some(n)));
        worker.shutdown(LONG).await.unwrap();
    }

    #[networked]
    async fn a_worker_goes_on_after_the_server_hung(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let config = fixture.config_at(&server.url()).unwrap().command_timeout(PATIENCE);
        let stock = open(&fixture.connect(config).await.unwrap()).await;
        let database = Database::new();
        let worker = stock.start(database.clone());
        for n in 0..20_u64 {
            stock.put(n, &n).await.unwrap();
            if n == 10 {
                server.stop().unwrap();
                let error = stock.put("k", &1).await.unwrap_err();
                assert!(matches!(&error, Error::Core(error) if error.is_retryable()), "{error}");
                server.cont().unwrap();
                let deadline = std::time::Instant::now() + LONG;
                while stock.put("k", &2).await.is_err() {
                    assert!(std::time::Instant::now() < deadline, "it is not used again");
                    tokio::time::sleep(5 * MS).await;
                }
            }
        }
        stock.flush(LONG).await.unwrap();
        assert!((0..20).all(|n| database.row(&n.to_string()) == Some(n)));
        assert_eq!(database.row("k"), Some(2), "the newest, whatever became of the first");
        worker.shutdown(LONG).await.unwrap();
    }
}
