//! What the supervisor makes of a server that answers, but not as usual: with an error, or to others only.

use std::time::{Duration, Instant};

use redkit_core::breaker::BreakerState;
use redkit_core::{Client, ClientConfig, Command, ConnectionState, Driver};
use redkit_testkit::{Close, Proxy, Server, ServerOptions};

each_driver! {
    (flavor = "multi_thread", worker_threads = 2)
    a_connection_whose_command_the_server_holds_back_is_kept,
    an_error_that_is_no_outage_closes_the_breaker_like_any_answer,
}

async fn connect(driver: Driver, url: &str, timeout: Duration) -> Client {
    let config = ClientConfig::from_url(url)
        .unwrap()
        .driver(driver)
        .command_timeout(timeout);
    Client::connect(config).await.unwrap()
}

/// Writes are paused, as during a planned failover: the server holds back what was sent on the connection, and serves
/// others.
async fn a_connection_whose_command_the_server_holds_back_is_kept(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connect(driver, &server.url(), Duration::from_secs(6)).await;
    // More than half the stall timeout, after which a connection that answers nothing is replaced.
    let start = Instant::now();
    let paused = server.raw(&["CLIENT", "PAUSE", "2200", "WRITE"]).await;
    assert!(!paused.unwrap().is_error());
    let counted = client.call::<i64>(Command::new("INCR").key("n")).await;
    assert_eq!(counted.unwrap(), 1);
    assert!(
        start.elapsed() > Duration::from_millis(1600),
        "it was to wait"
    );
    let mut state = client.state();
    let connected = state.wait_for(|state| matches!(state, ConnectionState::Connected(_)));
    let connected = connected.await.unwrap().clone();
    assert_eq!(connected, ConnectionState::Connected(1));
    client.shutdown().await;
}

/// The server answers `PING` with an error, and serves reads.
async fn an_error_that_is_no_outage_closes_the_breaker_like_any_answer(driver: Driver) {
    let folder =
        std::env::temp_dir().join(format!("redkit-misconf-{}-{driver:?}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let options = ServerOptions::new().config("enable-protected-configs yes");
    let server = Server::redis(options).await.unwrap();
    let rule = ["ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-ping"];
    assert!(!server.raw(&rule).await.unwrap().is_error());
    let without_right = server.url().replace("://", "://app:pw@");
    for (url, code) in [(without_right, "NOPERM"), (server.url(), "MISCONF")] {
        if code == "MISCONF" {
            let path = folder.to_str().unwrap();
            for (setting, value) in [("dir", path), ("save", "3600 1")] {
                let set = server.raw(&["CONFIG", "SET", setting, value]).await;
                assert!(!set.as_ref().unwrap().is_error(), "{set:?}");
            }
            std::fs::remove_dir_all(&folder).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while !server.raw(&["PING"]).await.unwrap().is_error() {
                assert!(Instant::now() < deadline, "the snapshot does not fail");
                drop(server.raw(&["BGSAVE"]).await);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let client = connect(driver, &url, Duration::from_secs(1)).await;
        let get = || client.call::<Option<String>>(Command::new("GET").key("k"));
        get().await.unwrap();
        server.stop().unwrap();
        let calls = (0..40).map(|_| get());
        futures_util::future::join_all(calls).await;
        assert_eq!(
            client.breaker().status().state,
            BreakerState::Open,
            "{code}"
        );
        server.cont().unwrap();
        let mut events = client.breaker().events();
        let closed = events.wait_for(|state| *state == BreakerState::Closed);
        tokio::time::timeout(Duration::from_secs(20), closed)
            .await
            .unwrap_or_else(|_| panic!("{code}: it stays open"))
            .unwrap();
        get().await.unwrap();

        // The connection is lost, and there is none for a while.
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let url = url.replace(&server.addr().to_string(), &proxy.addr().to_string());
        let client = connect(driver, &url, Duration::from_secs(1)).await;
        proxy.refuse();
        proxy.sever(Close::Rst);
        let mut events = client.breaker().events();
        let opened = events.wait_for(|state| *state == BreakerState::Open);
        tokio::time::timeout(Duration::from_secs(20), opened)
            .await
            .expect("it opens")
            .unwrap();
        proxy.pass();
        let closed = events.wait_for(|state| *state == BreakerState::Closed);
        tokio::time::timeout(Duration::from_secs(20), closed)
            .await
            .unwrap_or_else(|_| panic!("{code}: it stays open"))
            .unwrap();
        client
            .call::<Option<String>>(Command::new("GET").key("k"))
            .await
            .unwrap();
        client.shutdown().await;
    }
}
