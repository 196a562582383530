//! What is sent again when no answer came: reads, and nothing that a newer value would suffer from.

use std::time::Duration;

use redkit_core::{ClientConfig, Error, Expiry};
use redkit_testkit::{FaultyBackend, Injection, Rule};

#[tokio::test(start_paused = true)]
async fn a_command_that_a_newer_value_would_suffer_from_is_sent_once() {
    const MINUTE: Duration = Duration::from_secs(60);
    let backend = FaultyBackend::embedded();
    backend.set(Rule::new(Injection::LoseRequest));
    let client = backend.client_with(&ClientConfig::default());
    let sent = |outcome: Result<(), Error>, name: &str| {
        assert!(outcome.is_err_and(|error| error.is_maybe()), "{name}");
        let sent = backend.seen().len();
        backend.forget();
        sent
    };
    let outcome = client.exists("k").await.map(drop);
    assert!(sent(outcome, "EXISTS") > 1, "reads are repeated");
    let outcome = client.touch("k").await.map(drop);
    assert!(sent(outcome, "TOUCH") > 1, "it changes nothing");

    let outcome = client.expire("k", MINUTE).await.map(drop);
    assert_eq!(sent(outcome, "expire"), 1);
    let outcome = client.get_persist::<i32>("k").await.map(drop);
    assert_eq!(sent(outcome, "get_persist"), 1);
    let outcome = client.get_expire::<i32>("k", Expiry::In(MINUTE)).await;
    assert_eq!(sent(outcome.map(drop), "get_expire"), 1);
    let outcome = client.persist("k").await.map(drop);
    assert_eq!(sent(outcome, "persist"), 1);
    let outcome = client.get_delete::<i32>("k").await.map(drop);
    assert_eq!(sent(outcome, "get_delete"), 1);
    let outcome = client.set("k", &1).await.map(drop);
    assert_eq!(sent(outcome, "set"), 1);
}
