//! The backend that fails as a test tells it to.

use std::time::Duration;

use redkit_core::{
    Backend, CallError, Command, Interest, ServerError, ServerNode, Topology, Value,
};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::Instant;

fn get(key: &str) -> Command {
    Command::new("GET").key(key)
}

#[tokio::test]
async fn an_answer_stands_in_for_the_server() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let echo = |command: &Command| match command.get(0) {
        Some(b"refused") => Err(CallError::Replied(ServerError::new("NOPERM", "no"))),
        key => Ok(Value::Bulk(key.unwrap_or_default().to_vec().into())),
    };
    backend.set(Rule::new(Injection::answer(echo)).on_name("GET"));
    assert_eq!(client.call::<String>(get("a")).await.unwrap(), "a");
    assert!(client.call::<String>(get("refused")).await.is_err());
    let replies = client.pipeline(vec![get("b"), get("refused")]).await;
    let replies = replies.unwrap();
    assert!(replies[0].is_ok() && replies[1].is_err());
    let subscribed = client.subscribe(Interest::Channels(vec!["c".into()]));
    assert!(subscribed.await.is_ok(), "it is no GET");
}

#[tokio::test]
async fn rules_for_commands_alone_let_the_rest_of_a_pipeline_pass() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let refuse = |code, part| Rule::new(Injection::Refuse(code, "")).on_part(part).alone();
    backend.add(refuse("ONE", "a"));
    backend.add(refuse("TWO", "b"));
    let replies = client
        .pipeline(["a", "c", "b", "ab"].map(get).to_vec())
        .await
        .unwrap();
    let codes: Vec<_> = replies
        .iter()
        .map(|reply| reply.as_ref().err().map(ToString::to_string))
        .collect();
    let is = |n: usize, code: &str| codes[n].as_ref().is_some_and(|text| text.contains(code));
    assert!(is(0, "ONE") && is(2, "TWO") && is(3, "ONE"), "{codes:?}");
    assert!(codes[1].is_none());
    assert_eq!((backend.seen().len(), backend.seen_alone().len()), (4, 0));
}

#[tokio::test]
async fn another_command_comes_right_before() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let faster = |_: &Command| Command::new("SET").key("k").arg("theirs");
    backend.set(
        Rule::new(Injection::precede(faster))
            .on_name("GET")
            .times(1),
    );
    assert_eq!(client.call::<String>(get("k")).await.unwrap(), "theirs");
}

#[tokio::test]
async fn a_server_that_was_made_up_has_rules_of_its_own() {
    let backend = FaultyBackend::embedded();
    backend.set_topology(Topology::Cluster);
    backend.set_servers(vec![
        ServerNode::new("a", vec![0..=8000]),
        ServerNode::new("b", vec![8001..=16_383]),
    ]);
    backend.set(Rule::new(Injection::NotSent).on_server("b"));
    let ping = Command::new("PING");
    assert_eq!(backend.servers().len(), 2);
    assert!(backend.call_on("a", &ping).await.is_ok());
    assert!(backend.call_on("b", &ping).await.is_err());
    assert!(backend.call(&ping).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_first_call_on_each_dedicated_connection_is_known() {
    let backend = FaultyBackend::embedded();
    let slow = Duration::from_millis(100);
    backend.set(Rule::new(Injection::DelayRequest(slow)).on_first_call());
    backend.call(&Command::new("PING")).await.unwrap();
    let start = Instant::now();
    for connections in 1..=2 {
        let own = backend.dedicated().await.unwrap();
        for _ in 0..3 {
            own.call(&Command::new("PING")).await.unwrap();
        }
        assert_eq!(start.elapsed(), slow * connections);
    }
}
