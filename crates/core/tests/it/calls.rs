//! What a client does to every call: namespace, admission, breaker, retry, shutdown, numbers.

use std::time::Duration;

use redkit_core::breaker::BreakerState;
use redkit_core::{CallError, Client, ClientConfig, Command, Driver, Error, FaultKind, Value};
use redkit_testkit::{
    Close, FaultyBackend, Fixture, Injection, Proxy, Rule, Server, ServerOptions,
};

fn fault(error: &Error) -> FaultKind {
    error
        .call_error()
        .and_then(CallError::fault)
        .unwrap_or_else(|| panic!("{error}"))
        .kind()
}

redkit_testkit::suite! {
    async fn namespaces_nest_and_come_off_again(fixture: Fixture) -> Result<(), Error> {
        let outer = &fixture.client;
        let inner = outer.with_namespace("inner*")?;
        let key = inner.key("k");
        assert_eq!(key.to_string(), format!("{}:inner*:k", fixture.namespace()));
        assert_eq!(inner.strip(key.as_bytes()), Some(&b"k"[..]));
        assert_eq!(outer.strip(b"elsewhere"), None);
        inner.call::<()>(Command::new("SET").key(&key).arg(1)).await?;
        assert_eq!(outer.call::<i64>(Command::new("GET").key(outer.key("inner*:k"))).await?, 1);
        for wrong in ["", "a b", "a{b", ":a"] {
            assert!(outer.with_namespace(wrong).is_err(), "{wrong:?}");
        }
        Ok(())
    }

    async fn a_transaction_is_one_pipeline(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let key = client.key("n");
        let replies = client
            .pipeline(vec![
                Command::new("MULTI"),
                Command::new("SET").key(&key).arg("x"),
                Command::new("INCR").key(&key),
                Command::new("EXEC"),
            ])
            .await?;
        let Some(Ok(Value::Array(results))) = replies.last() else { panic!("{replies:?}") };
        assert_eq!(results[0], Value::Ok);
        assert!(matches!(&results[1], Value::Error(error) if error.code() == "ERR"), "{results:?}");

        let alone = client.call::<Value>(Command::new("MULTI")).await.unwrap_err();
        assert!(!alone.is_maybe() && alone.to_string().contains("pipeline"), "{alone}");
        assert_eq!(client.call::<String>(Command::new("GET").key(&key)).await?, "x");
        Ok(())
    }

    async fn a_dedicated_connection_keeps_its_state(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let own = client.dedicated().await?;
        let key = own.key("n");
        own.call::<()>(Command::new("WATCH").key(&key)).await?;
        client.call::<()>(Command::new("SET").key(&key).arg(1)).await?;
        own.call::<()>(Command::new("MULTI")).await?;
        own.call::<Value>(Command::new("SET").key(&key).arg(2)).await?;
        assert_eq!(own.call::<Value>(Command::new("EXEC")).await?, Value::Nil, "the watch saw it");
        assert_eq!(client.call::<i64>(Command::new("GET").key(&key)).await?, 1);
        Ok(())
    }

    async fn a_shut_down_client_says_so(fixture: Fixture) -> Result<(), Error> {
        let client = Client::from_backend(fixture.client.backend().clone(), &ClientConfig::default())?;
        let clone = client.clone();
        let used: String = clone.call(Command::new("PING")).await?;
        assert_eq!(used, "PONG");
        let own = fixture.connect(fixture.config().unwrap()).await.unwrap();
        own.shutdown().await;
        own.shutdown().await;
        let error = own.call::<String>(Command::new("PING")).await.unwrap_err();
        assert_eq!(fault(&error), FaultKind::Shutdown);
        assert!(!error.is_maybe() && !error.is_retryable());
        Ok(())
    }

    async fn numbers_count_what_happened(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.reset_stats();
        let key = client.key("k");
        client.call::<()>(Command::new("SET").key(&key).arg("text")).await?;
        client.call::<i64>(Command::new("INCR").key(&key)).await.unwrap_err();
        client.call::<Value>(Command::new("SUBSCRIBE").arg("c")).await.unwrap_err();
        let stats = client.stats();
        assert_eq!((stats.answered, stats.refused, stats.not_sent, stats.unknown), (1, 1, 1, 0));
        assert_eq!((stats.calls(), stats.in_flight), (3, 0));
        let breaker = client.breaker().status();
        assert_eq!(breaker.failures, 0, "users' errors do not count");
        Ok(())
    }
}

each_driver! {
    ()
    an_idempotent_call_survives_a_cut_connection_and_another_does_not,
    a_hanging_server_opens_the_breaker_and_a_new_connection_tries_it,
    too_many_calls_in_flight_are_refused,
}

async fn an_idempotent_call_survives_a_cut_connection_and_another_does_not(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let config = ClientConfig::from_url(&server.url_at(proxy.addr()))
        .unwrap()
        .driver(driver);
    let client = Client::connect(config).await.unwrap();
    client
        .call::<()>(Command::new("SET").key("k").arg("v"))
        .await
        .unwrap();

    proxy.cut_once(redkit_testkit::Direction::ToClient, 0, Close::Rst);
    assert_eq!(
        client
            .call::<String>(Command::new("GET").key("k"))
            .await
            .unwrap(),
        "v"
    );
    assert_eq!(client.stats().retries, 1);

    proxy.cut_once(redkit_testkit::Direction::ToClient, 0, Close::Rst);
    let error = client
        .call::<i64>(Command::new("INCR").key("n"))
        .await
        .unwrap_err();
    assert!(error.is_maybe(), "{error}");
    assert_eq!(client.stats().retries, 1, "an increment is not repeated");
    let applied = server.raw(&["GET", "n"]).await.unwrap().int();
    assert_eq!(applied, Some(1), "it had been carried out, once");
    client.shutdown().await;
}

async fn a_hanging_server_opens_the_breaker_and_a_new_connection_tries_it(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let mut breaker = redkit_core::breaker::BreakerConfig::default();
    breaker.minimum_calls = 5;
    breaker.slow_call = Duration::from_millis(100);
    breaker.open_for = Duration::from_secs(600);
    let config = ClientConfig::from_url(&server.url())
        .unwrap()
        .driver(driver)
        .command_timeout(Duration::from_millis(200))
        .breaker(breaker);
    let client = Client::connect(config).await.unwrap();
    server.stop().unwrap();
    let mut kinds = Vec::new();
    for _ in 0..10 {
        let error = client
            .call::<String>(Command::new("PING"))
            .await
            .unwrap_err();
        kinds.push(fault(&error));
    }
    assert!(kinds.contains(&FaultKind::BreakerOpen), "{kinds:?}");
    assert_eq!(client.breaker().status().state, BreakerState::Open);
    server.cont().unwrap();
    // The breaker would stay open for ten minutes; the new connection is what lets calls through.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while client.call::<String>(Command::new("PING")).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "it stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.shutdown().await;
}

async fn too_many_calls_in_flight_are_refused(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url())
        .unwrap()
        .driver(driver)
        .max_in_flight(4)
        .command_timeout(Duration::from_millis(300));
    let client = Client::connect(config).await.unwrap();
    server.stop().unwrap();
    let calls = (0..8).map(|_| client.call::<i64>(Command::new("INCR").key("n")));
    let mut kinds: Vec<_> = futures_util::future::join_all(calls)
        .await
        .iter()
        .map(|r| fault(r.as_ref().unwrap_err()))
        .collect();
    kinds.sort_by_key(|kind| kind.as_str());
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == FaultKind::Overloaded)
            .count(),
        4,
        "{kinds:?}"
    );
    server.cont().unwrap();
    client.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_double_and_there_are_as_many_attempts_as_configured() {
    let millis = Duration::from_millis;
    let backend = FaultyBackend::embedded();
    let config = ClientConfig::default()
        .command_timeout(Duration::from_secs(60))
        .retry(4, millis(100), Duration::from_secs(10));
    let client = backend.client_with(&config);
    backend.set(Rule::new(Injection::NotSent));
    let start = tokio::time::Instant::now();
    let get = client.call::<Option<String>>(Command::new("GET").key("k"));
    get.await.unwrap_err();
    assert_eq!(backend.count("GET"), 4);
    // Of 100, 200 and 400 ms at least the half each.
    let paused = start.elapsed();
    assert!(millis(350) <= paused && paused <= millis(710), "{paused:?}");
}
