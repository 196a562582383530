//! Figures of servers and of this process.

use std::time::Duration;

use redkit_core::inspection::Fact;
use redkit_core::{Command, ServerKind};
use redkit_monitor::{LogKind, Role, Statistics};
use redkit_testkit::{BackendKind, Fixture};

redkit_testkit::suite! {
    async fn servers_are_asked_each_and_summed(fixture: Fixture) {
        let client = &fixture.client;
        let statistics = Statistics::new(client).timeout(Duration::from_secs(5));
        let before = statistics.servers().await.unwrap();
        assert_eq!(before.servers.len(), client.servers().len());
        assert!(before.failed.is_empty());
        let sum: u64 = before.servers.iter().map(|(_, info)| info.used_memory).sum();
        assert_eq!(before.total.used_memory, sum);
        for (_, info) in &before.servers {
            assert_eq!(info.role, Role::Master);
            assert!(!info.redis_version.is_empty() && info.is_persisting && !info.is_loading);
        }
        for number in 0..30 {
            let key = client.key(number);
            client.call::<()>(Command::new("SET").key(&key).arg("v").arg("EX").arg(60)).await.unwrap();
            client.call::<Option<String>>(Command::new("GET").key(&key)).await.unwrap();
        }
        client.call::<Option<String>>(Command::new("GET").key(client.key("absent"))).await.unwrap();
        let now = statistics.servers().await.unwrap();
        let rate = now.hit_rate_since(&before);
        // Other tests use the server too.
        assert!(rate.hits >= 30 && rate.misses >= 1, "{rate:?}");
        assert!(rate.window > Duration::ZERO);
        assert!(now.total.keys() >= 30);
        assert!(now.total.commands["set"].calls >= before.total.commands.get("set").map_or(0, |set| set.calls) + 30);
    }

    async fn what_only_some_servers_have_is_none_elsewhere(fixture: Fixture) {
        let statistics = Statistics::new(&fixture.client).timeout(Duration::from_secs(5));
        let slow = statistics.log(LogKind::Slow, 10).await.unwrap().unwrap();
        assert_eq!(slow.len(), fixture.client.servers().len());
        // `COMMANDLOG` is Valkey's, from 8.1 on; Redis never had it.
        let server = fixture.client.capabilities();
        let is_old = server.version < (8, 1, 0);
        let has_command_log = server.server == ServerKind::Valkey && !is_old;
        for log in [LogKind::LargeRequest, LogKind::LargeReply] {
            assert_eq!(statistics.log(log, 10).await.unwrap().is_some(), has_command_log);
        }
        statistics.hot_keys().await.unwrap();
        let slots = statistics.slots(5).await.unwrap();
        if fixture.kind == BackendKind::ValkeyCluster {
            let slots = slots.unwrap();
            assert!(slots.len() == 5 && slots.is_sorted_by_key(|slot| u64::MAX - slot.keys), "{slots:?}");
        } else if is_old {
            assert_eq!(slots, None);
        }
        let clients = statistics.clients(100).await.unwrap();
        assert_eq!(clients.len(), fixture.client.servers().len());
        assert!(clients.iter().all(|(_, rows)| rows.len() <= 100));
        if fixture.server().is_some() {
            assert!(clients[0].1.iter().any(|client| client.id > 0 && !client.address.is_empty()));
        }
    }

    async fn patterns_are_read_from_the_registry_without_a_round_trip(fixture: Fixture) {
        let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
        client.call::<()>(Command::new("PING")).await.unwrap();
        let before = client.stats();
        let patterns = Statistics::new(&client).patterns();
        assert_eq!(client.stats(), before);
        let own = patterns.iter().find(|object| object.kind == "client").unwrap();
        assert_eq!(own.snapshot.get("answered"), Some(&Fact::Count(before.answered)));
        assert!(patterns.iter().any(|object| object.kind == "breaker"));
        client.shutdown().await;
    }

    #[networked]
    async fn a_slow_command_stands_in_the_log(fixture: Fixture) {
        let server = fixture.private_server(redkit_testkit::ServerOptions::new()).await.unwrap();
        let client = redkit_core::Client::connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        client.call::<redkit_core::Value>(Command::new("DEBUG").arg("SLEEP").arg("0.02")).await.unwrap();
        let log = Statistics::new(&client).log(LogKind::Slow, 10).await.unwrap().unwrap();
        let entry = log[0].1.iter().find(|entry| entry.command == "DEBUG").unwrap();
        assert!(entry.took() >= Duration::from_millis(20), "{entry:?}");
        assert_eq!(entry.arguments()[1], "0.02");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_with_its_cause() {
    let server = redkit_testkit::Server::redis(redkit_testkit::ServerOptions::new())
        .await
        .unwrap();
    let config = redkit_core::ClientConfig::from_url(&server.url()).unwrap();
    let client = redkit_core::Client::connect(config).await.unwrap();
    server.kill9().await;
    let error = Statistics::new(&client).servers().await.unwrap_err();
    assert!(
        matches!(error, redkit_monitor::Error::NoServer { servers: 1, .. }),
        "{error}"
    );
    assert!(error.is_retryable());
}
