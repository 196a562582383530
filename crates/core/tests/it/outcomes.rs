//! The outcome of a call that took several attempts is the worst of them: once one of them may have
//! been carried out, the call never ends as `NotSent`.

use std::time::Duration;

use redkit_core::{
    CallError, Client, ClientConfig, Command, Driver, Error, Fault, FaultKind, Script, ServerError,
    Value,
};
use redkit_testkit::{Close, FaultyBackend, Injection, Proxy, Rule, Server, ServerOptions};

static SET: Script = Script::new("return redis.call('SET', KEYS[1], ARGV[1])");

each_driver! {
    ()
    a_write_that_was_carried_out_never_ends_as_not_sent,
}

/// How a value is written.
#[derive(Debug, Clone, Copy)]
enum Write {
    Command,
    Pipeline,
    Script,
}

/// Why the second attempt cannot be sent.
#[derive(Debug, Clone, Copy)]
enum End {
    NoConnection,
    Shutdown,
}

async fn write(client: &Client, by: Write, key: &str) -> Result<(), Error> {
    let set = Command::new("SET").key(key).arg("v").idempotent(true);
    match by {
        Write::Command => client.call(set).await,
        Write::Pipeline => client.pipeline(vec![set.clone(), set]).await.map(drop),
        Write::Script => {
            client
                .eval(SET.invoke([key]).arg("v").idempotent(true))
                .await
        }
    }
}

async fn a_write_that_was_carried_out_never_ends_as_not_sent(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    for by in [Write::Command, Write::Pipeline, Write::Script] {
        for end in [End::NoConnection, End::Shutdown] {
            let proxy = Proxy::start(server.addr()).await.unwrap();
            let config = ClientConfig::from_url(&server.url_at(proxy.addr()))
                .unwrap()
                .driver(driver)
                .command_timeout(Duration::from_millis(1500));
            let client = Client::connect(config).await.unwrap();
            // The server knows the script.
            write(&client, by, "before").await.unwrap();
            let key = format!("{by:?}:{end:?}:{driver:?}");
            proxy.delay(Duration::ZERO, Duration::from_secs(60));
            let call = tokio::spawn({
                let (client, key) = (client.clone(), key.clone());
                async move { write(&client, by, &key).await }
            });
            while server.raw(&["EXISTS", &key]).await.unwrap().int() != Some(1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // The reply is lost, and there is no other connection.
            proxy.sever(Close::Rst);
            proxy.refuse();
            proxy.sever(Close::Rst);
            if let End::Shutdown = end {
                tokio::time::sleep(Duration::from_millis(200)).await;
                client.backend().shutdown().await;
            }
            let error = call.await.unwrap().unwrap_err();
            assert!(error.is_maybe(), "{key}: it was carried out, yet: {error}");
            client.shutdown().await;
        }
    }
}

/// A client whose calls meet these, in turn.
fn client(injections: impl IntoIterator<Item = Injection>) -> Client {
    let backend = FaultyBackend::embedded();
    for injection in injections {
        backend.add(Rule::new(injection).times(1));
    }
    backend.client_with(&ClientConfig::default())
}

const FORGOTTEN: Injection = Injection::Refuse("NOSCRIPT", "No matching script");

fn unsent() -> CallError {
    Fault::new(FaultKind::Shutdown, "the client was shut down").not_sent()
}

#[tokio::test(start_paused = true)]
async fn a_script_that_was_lost_forgotten_and_not_sent_again_may_have_run() {
    let unsent = Injection::answer(|_| Err(unsent()));
    let client = client([Injection::LoseRequest, FORGOTTEN, unsent]);
    let error = write(&client, Write::Script, "k").await.unwrap_err();
    assert!(error.is_maybe(), "{error}");
    assert_eq!(client.stats().unknown, 1);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_repeated_pipeline_that_was_not_sent_may_have_been_carried_out() {
    let unsent = Injection::answer(|command| match command.get(0) {
        Some(b"k") => Ok(Value::Ok),
        _ => Err(unsent()),
    });
    let client = client([Injection::LoseRequest, unsent]);
    let set = |key| Command::new("SET").key(key).arg("v").idempotent(true);
    let replies = client.pipeline(vec![set("k"), set("l")]).await.unwrap();
    assert!(matches!(replies[0], Ok(Value::Ok)));
    assert!(
        matches!(replies[1], Err(CallError::Maybe(_))),
        "{replies:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_the_repetition_does_not_undo_the_first_attempt() {
    let is_replica = Injection::Refuse("READONLY", "It is a replica now");
    let client = client([Injection::LoseRequest, is_replica]);
    let error = write(&client, Write::Command, "k").await.unwrap_err();
    assert!(
        error.is_maybe() && error.to_string().contains("READONLY"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reply_to_the_repetition_is_the_outcome() {
    let client = client([Injection::LoseRequest]);
    write(&client, Write::Command, "k").await.unwrap();
}

/// The same of several scripts at once, whether the whole second round fails or one part of it.
#[tokio::test(start_paused = true)]
async fn scripts_that_were_lost_forgotten_and_not_sent_again_may_have_run() {
    let unsent_each = Injection::answer(|_| Err(unsent()));
    for end in [unsent_each, Injection::NotSent] {
        let backend = FaultyBackend::embedded();
        for injection in [
            Injection::LoseRequest,
            Injection::answer(|_| Err(no_script())),
        ] {
            backend.add(Rule::new(injection).times(1));
        }
        backend.add(Rule::new(end));
        let client = backend.client_with(&ClientConfig::default());
        let set = |key| SET.invoke([key]).arg("v").idempotent(true);
        let replies = client.eval_all([set("k"), set("l")]).await.unwrap();
        let is_maybe = |reply: &Result<Value, CallError>| matches!(reply, Err(CallError::Maybe(_)));
        assert!(
            replies.len() == 2 && replies.iter().all(is_maybe),
            "{replies:?}"
        );
    }
}

fn no_script() -> CallError {
    CallError::Replied(ServerError::new("NOSCRIPT", "No matching script"))
}

/// The client refuses the text, and not the hash.
#[tokio::test(start_paused = true)]
async fn a_script_that_was_lost_and_whose_text_must_not_be_sent_may_have_run() {
    static LONG: Script = Script::new(
        "-- A text that is longer than the client is allowed to send, which a hash is not.
         -- That the server has forgotten it says nothing about the first attempt.
         return redis.call('SET', KEYS[1], ARGV[1])",
    );
    let backend = FaultyBackend::embedded();
    for injection in [
        Injection::LoseReply,
        Injection::answer(|_| Err(no_script())),
    ] {
        backend.add(Rule::new(injection).times(1));
    }
    let client = backend.client_with(&ClientConfig::default().max_value_bytes(100));
    let set = LONG.invoke(["k"]).arg("v").idempotent(true);
    let replies = client.eval_all([set]).await.unwrap();
    assert!(
        matches!(&replies[..], [Err(CallError::Maybe(_))]),
        "{replies:?}"
    );
}
