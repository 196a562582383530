//! A budget ends a call earlier than the command timeout would, and says nothing about the server.

use std::time::Duration;

use redkit_core::breaker::BreakerState;
use redkit_core::{Client, ClientConfig, Command, Script, Transaction, Value};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::Instant;

/// A client of a server that answers nothing.
fn unanswered() -> Client {
    let backend = FaultyBackend::embedded();
    backend.add(Rule::new(Injection::HangBefore));
    backend.client_with(&ClientConfig::default())
}

static ONE: Script = Script::new("return 1");

#[tokio::test(start_paused = true)]
async fn a_budget_ends_calls_pipelines_scripts_and_transactions_and_does_not_count_against_the_server()
 {
    let client = unanswered();
    let hasty = client.with_budget(Duration::from_millis(60)).unwrap();
    for _ in 0..30 {
        let start = Instant::now();
        let ping = Command::new("PING").idempotent(true);
        assert!(hasty.call::<Value>(ping.clone()).await.is_err());
        assert!(hasty.pipeline(vec![ping.clone(), ping]).await.is_err());
        assert!(hasty.eval::<Value>(ONE.invoke(["k"])).await.is_err());
        let mut transaction = Transaction::new(&hasty);
        let _ = transaction.increment("n", 1);
        assert!(transaction.send().await.is_err());
        let took = start.elapsed();
        let (least, most) = (Duration::from_millis(240), Duration::from_millis(250));
        assert!((least..=most).contains(&took), "four calls took {took:?}");
    }
    let status = client.breaker().status();
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));

    // The handle that it was made from has the whole command timeout.
    let start = Instant::now();
    assert!(
        client
            .call::<Value>(Command::new("INCR").key("n"))
            .await
            .is_err()
    );
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(client.breaker().status().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_deadline_timeout_and_budget_ends_a_call() {
    let client = unanswered();
    let took = async |budget: u64, own: Option<u64>| {
        let client = client.with_budget(Duration::from_millis(budget)).unwrap();
        let start = Instant::now();
        let mut command = Command::new("INCR").key("n");
        if let Some(own) = own {
            command = command.deadline(start + Duration::from_millis(own));
        }
        assert!(client.call::<Value>(command).await.is_err());
        start.elapsed().as_millis()
    };
    assert_eq!(took(100, Some(40)).await / 10, 4);
    assert_eq!(took(100, Some(4000)).await / 10, 10);
    assert_eq!(took(5000, None).await / 10, 100, "the command timeout");
    let error = client.with_budget(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("budget"), "{error}");
}

#[tokio::test]
async fn a_budget_beyond_all_clocks_is_none() {
    let client = FaultyBackend::embedded().client();
    let patient = client.with_budget(Duration::MAX).unwrap();
    let ping = Command::new("PING").idempotent(true);
    assert_eq!(patient.call::<String>(ping.clone()).await.unwrap(), "PONG");
    assert_eq!(patient.pipeline(vec![ping]).await.unwrap().len(), 1);
    assert_eq!(patient.eval::<i64>(ONE.invoke(["k"])).await.unwrap(), 1);
}

/// The first one makes two round trips.
#[tokio::test(start_paused = true)]
async fn a_transaction_has_one_budget_for_all_its_round_trips() {
    let backend = FaultyBackend::embedded();
    backend.add(Rule::new(Injection::DelayReply(Duration::from_millis(40))));
    let client = backend.client();
    let hasty = client.with_budget(Duration::from_millis(60)).unwrap();
    let start = Instant::now();
    let mut transaction = Transaction::new(&hasty);
    let _ = transaction.increment("n", 1);
    assert!(transaction.send().await.is_err());
    assert_eq!(start.elapsed().as_millis() / 5, 12, "{:?}", start.elapsed());
}
