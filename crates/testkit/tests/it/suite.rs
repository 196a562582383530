//! The suite macro: what it gives a body, and that a backend which was asked for never skips.

use std::process::{Command as Process, Output};
use std::time::{Duration, Instant};

use redkit_core::{Command, ServerKind};
use redkit_testkit::{BackendKind, Close, Direction, Fixture, Proxy, ServerOptions};
use tokio::runtime::{Handle, RuntimeFlavor};

fn set(fixture: &Fixture, value: &str) -> Command {
    Command::new("SET").key(fixture.client.key("k")).arg(value)
}

fn get(fixture: &Fixture) -> Command {
    Command::new("GET").key(fixture.client.key("k"))
}

redkit_testkit::suite! {
    /// The client's backend is the one that the test's name says, and its keys are its own.
    async fn round_trips(fixture: Fixture) -> Result<(), redkit_core::Error> {
        let empty: Option<String> = fixture.client.call(get(&fixture)).await?;
        assert_eq!(empty, None);
        fixture.client.call::<()>(set(&fixture, "v")).await?;
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        assert_eq!(other.call::<String>(get(&fixture)).await?, "v");

        let kind = match fixture.kind {
            BackendKind::Embedded => ServerKind::Embedded,
            BackendKind::Valkey | BackendKind::Valkey9 | BackendKind::ValkeyCluster => ServerKind::Valkey,
            _ => ServerKind::Redis,
        };
        assert_eq!(fixture.client.capabilities().server, kind);
        let key = format!("{}:k", fixture.namespace());
        assert_eq!(fixture.client.key("k").as_bytes(), key.as_bytes());
        let has_servers = [
            fixture.server().is_some(),
            fixture.cluster().is_some(),
            fixture.sentinels().is_some(),
        ];
        let homes = has_servers.into_iter().filter(|has| *has).count();
        assert_eq!(homes, usize::from(fixture.kind.is_networked()));
        assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread);
        Ok(())
    }

    #[multi_thread]
    async fn has_threads(_fixture: Fixture) {
        assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::MultiThread);
    }

    #[paused]
    async fn a_day_passes_at_once(fixture: Fixture) {
        let started = Instant::now();
        fixture.client.call::<()>(set(&fixture, "v").arg("EX").arg(86_400)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(86_399)).await;
        assert!(fixture.client.call::<Option<String>>(get(&fixture)).await.unwrap().is_some());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(fixture.client.call::<Option<String>>(get(&fixture)).await.unwrap().is_none());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[networked]
    #[multi_thread]
    async fn a_private_server_can_be_broken(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let config = fixture.config_at(&server.url_at(proxy.addr())).unwrap();
        let client = fixture.connect(config).await.unwrap();
        let count = || Command::new("INCR").key("count");
        assert_eq!(client.call::<i64>(count()).await.unwrap(), 1);

        // The request arrives and its reply is lost: it is counted once, and not by the client.
        proxy.cut_once(Direction::ToClient, 0, Close::Rst);
        client.call::<i64>(count()).await.unwrap_err();
        assert_eq!(server.raw(&["GET", "count"]).await.unwrap().int(), Some(2));
    }
}

/// Runs a test of this program in a process of its own.
fn rerun(test: &str, backends: &str, valkey: &str) -> (bool, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env("REDKIT_TEST_BACKENDS", backends)
        .env("REDKIT_VALKEY_SERVER", valkey)
        .output()
        .unwrap();
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("running 1 test"), "{said}");
    (status.success(), said)
}

#[test]
fn a_backend_that_is_asked_for_and_absent_fails() {
    let (passed, said) = rerun("suite::round_trips::valkey", "embedded,valkey", "/nowhere");
    assert!(!passed, "{said}");
    assert!(
        said.contains("no valkey-server: `cargo xtask test` provides it"),
        "{said}"
    );
}

#[test]
fn a_backend_that_is_not_asked_for_says_so_and_passes() {
    let (passed, said) = rerun("suite::round_trips::valkey", "embedded,redis", "/nowhere");
    assert!(passed, "{said}");
    assert!(
        said.contains("not chosen: REDKIT_TEST_BACKENDS does not name valkey"),
        "{said}"
    );
}

#[test]
fn a_misspelt_backend_fails_the_tests_of_all_backends() {
    for test in ["suite::round_trips::embedded", "suite::round_trips::valkey"] {
        let (passed, said) = rerun(test, "embeded", "/nowhere");
        assert!(!passed, "{said}");
        assert!(
            said.contains("`embeded` is unknown; there are embedded, redis"),
            "{said}"
        );
    }
}
