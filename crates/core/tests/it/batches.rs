//! Pipelines and transactions: typed replies, an outcome per command, all or nothing.

use std::time::Duration;

use redkit_core::{
    CallError, Client, ClientConfig, Command, Driver, Error, FaultKind, Pipeline, SetOptions,
    Topology, Transaction, Ttl,
};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule, Server, ServerOptions};

fn server_code(error: &Error) -> &str {
    match error.call_error() {
        Some(CallError::Replied(error)) => error.code(),
        _ => panic!("{error}"),
    }
}

redkit_testkit::suite! {
    async fn a_pipeline_gives_each_command_its_own_outcome(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("text", "x").await?;
        let mut pipeline = Pipeline::new(client);
        assert!(pipeline.is_empty());
        let set = pipeline.set("a", &1, SetOptions::new().ttl(Duration::from_secs(60)));
        let unset = pipeline.set("text", "y", SetOptions::new().if_absent());
        let sum = pipeline.increment("a", 4);
        let wrong = pipeline.increment("text", 1);
        let unsendable = pipeline.set("b", &1, SetOptions::new().ttl(Duration::ZERO));
        let undecodable = pipeline.get::<i32>("text");
        let number = pipeline.get::<i32>("a");
        let absent = pipeline.get::<i32>("absent");
        let there = pipeline.exists("a");
        let expires = pipeline.expire("text", Duration::from_secs(9));
        let gone = pipeline.delete("a");
        let length = pipeline.command::<i64>(Command::new("STRLEN").key(client.key("text")));
        assert_eq!(pipeline.len(), 12);

        let mut replies = pipeline.send().await?;
        assert_eq!(replies.len(), 12);
        assert!(replies.first_error().is_some());
        assert!(replies.take(set)? && !replies.take(unset)?);
        assert_eq!(replies.take(sum)?, 5);
        assert_eq!(server_code(&replies.take(wrong).unwrap_err()), "ERR");
        assert!(replies.take(unsendable).unwrap_err().to_string().contains("zero"));
        assert!(matches!(replies.take(undecodable), Err(Error::Decode { .. })));
        assert_eq!(replies.take(number)?, Some(5));
        assert_eq!(replies.take(absent)?, None);
        assert!(replies.take(there)? && replies.take(expires)? && replies.take(gone)?);
        assert_eq!(replies.take(length)?, 3);
        assert!(matches!(client.ttl("text").await?, Ttl::In(_)));

        let mut other = Pipeline::new(client);
        let foreign = other.get::<i32>("a");
        assert!(replies.take(foreign).is_err(), "a handle of another pipeline");
        assert!(Pipeline::new(client).send().await?.is_empty());
        Ok(())
    }

    async fn a_transaction_is_carried_out_as_a_whole(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let mut transaction = Transaction::new(client);
        let set = transaction.set("{t}a", &1, SetOptions::new());
        let sum = transaction.increment("{t}a", 1);
        let text = transaction.set("{t}text", "x", SetOptions::new());
        let wrong = transaction.increment("{t}text", 1);
        let last = transaction.get::<i32>("{t}a");
        let mut replies = transaction.send().await?;
        assert!(replies.take(set)? && replies.take(text)?);
        assert_eq!(replies.take(sum)?, 2);
        // What fails for what is stored fails alone.
        assert_eq!(server_code(&replies.take(wrong).unwrap_err()), "ERR");
        assert_eq!(replies.take(last)?, Some(2));
        assert!(Transaction::new(client).send().await?.is_empty());
        Ok(())
    }

    async fn a_command_that_is_none_aborts_all_and_is_named(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let mut transaction = Transaction::new(client);
        let _ = transaction.set("{t}a", &1, SetOptions::new());
        let _ = transaction.command::<i64>(Command::new("INCRBY").key(client.key("{t}a")));
        let _ = transaction.command::<i64>(Command::new("NOSUCH").key(client.key("{t}a")));
        let error = transaction.send().await.unwrap_err();
        let Error::Aborted { position, command, error: cause } = &error else { panic!("{error}") };
        assert_eq!((*position, &**command), (1, "INCRBY"));
        assert!(cause.message().contains("number of arguments"), "{cause}");
        assert!(!error.is_maybe() && !error.is_retryable());
        assert_eq!(client.get::<i32>("{t}a").await?, None, "nothing was carried out");
        Ok(())
    }

    async fn a_transaction_that_cannot_be_is_not_sent(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.reset_stats();
        let mut transaction = Transaction::new(client);
        let _ = transaction.set("{t}a", &1, SetOptions::new());
        let _ = transaction.expire("{t}a", Duration::ZERO);
        assert!(transaction.send().await.is_err());
        assert_eq!(client.stats().calls(), 0);

        let mut transaction = Transaction::new(client);
        let _ = transaction.set("a", &1, SetOptions::new());
        let _ = transaction.set("b", &1, SetOptions::new());
        let outcome = transaction.send().await;
        if client.topology() == Topology::Cluster {
            let error = outcome.unwrap_err();
            let kind = error.call_error().and_then(CallError::fault).map(|fault| fault.kind());
            assert_eq!(kind, Some(FaultKind::Invalid));
            assert!(error.to_string().contains("hash tag"), "{error}");
            assert_eq!(client.stats().calls(), 0);
        } else {
            outcome?;
        }
        Ok(())
    }

    async fn a_transaction_within_a_transaction_is_refused(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.reset_stats();
        for name in ["MULTI", "exec", "DISCARD", "Watch"] {
            let mut transaction = Transaction::new(client);
            let _ = transaction.increment("{t}n", 1);
            let _ = transaction.command::<String>(Command::new(name));
            let error = transaction.send().await.unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert!(!error.is_maybe(), "{error}");
        }
        assert_eq!(client.stats().calls(), 0);
        assert_eq!(client.get::<i64>("{t}n").await?, None);
        Ok(())
    }

    async fn a_watched_key_that_was_changed_has_an_error_of_its_own(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let own = client.dedicated().await?;
        own.call::<()>(Command::new("WATCH").key(client.key("{t}n"))).await?;
        client.set("{t}n", &7).await?;
        let mut transaction = Transaction::new(&own);
        let _ = transaction.increment("{t}n", 1);
        let error = transaction.send().await.unwrap_err();
        assert!(matches!(error, Error::WatchedChanged), "{error}");
        assert!(error.is_retryable() && !error.is_maybe());
        // Unchanged, it goes through: nothing of ours has ended the watch, or tripped it.
        own.call::<()>(Command::new("WATCH").key(client.key("{t}n"))).await?;
        let mut transaction = Transaction::new(&own);
        let sum = transaction.increment("{t}n", 1);
        assert_eq!(transaction.send().await?.take(sum)?, 8);
        Ok(())
    }
}

each_driver! {
    ()
    a_transaction_that_is_not_permitted_is_never_carried_out_in_parts,
}

async fn a_transaction_that_is_not_permitted_is_never_carried_out_in_parts(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let acl = async |rule: &str| {
        let reply = server.raw(&["ACL", "SETUSER", "default", rule]).await;
        assert!(!reply.unwrap().is_error(), "{rule}");
    };
    let connect = async || {
        let config = ClientConfig::from_url(&server.url()).unwrap();
        Client::connect(config.driver(driver)).await.unwrap()
    };
    let transact = async |client: &Client| {
        let mut transaction = Transaction::new(client);
        let sum = transaction.increment("{t}a", 1);
        let _ = transaction.increment("{t}b", 1);
        transaction
            .send()
            .await
            .and_then(|mut replies| replies.take(sum))
    };
    let stored = async || server.raw(&["GET", "{t}a"]).await.unwrap().text();

    // Without the right from the beginning: nothing is sent, and nobody else is disturbed.
    for right in ["multi", "exec"] {
        acl(&format!("-{right}")).await;
        let client = connect().await;
        let error = transact(&client).await.unwrap_err();
        assert!(error.to_string().contains("+multi +exec"), "{error}");
        assert!(!error.is_maybe() && !error.is_retryable(), "{error}");
        acl(&format!("+{right}")).await;
        assert!(
            client
                .call::<i64>(Command::new("INCR").key("other"))
                .await
                .is_ok()
        );
        assert_eq!(stored().await, None, "nothing was carried out");
        client.shutdown().await;
    }

    // It is taken away later: then nobody can say, and the error does not claim to.
    let client = connect().await;
    assert_eq!(transact(&client).await.unwrap(), 1);
    acl("-multi").await;
    let error = transact(&client).await.unwrap_err();
    assert!(matches!(error, Error::Unprotected { .. }), "{error:?}");
    assert!(error.is_maybe() && !error.is_retryable());
    assert!(error.to_string().contains("+multi +exec"), "{error}");
    assert_eq!(
        stored().await.as_deref(),
        Some("2"),
        "it was carried out, in parts"
    );
    client.shutdown().await;
}

/// The first transaction of a client tries out whether there may be any, and has as much time for that as it has itself.
#[tokio::test(start_paused = true)]
async fn a_transaction_whose_commands_may_take_longer_is_tried_out_as_long() {
    let backend = FaultyBackend::embedded();
    // Its calls end after two seconds.
    let client = backend.client();
    let late = Injection::DelayReply(Duration::from_secs(5));
    backend.set(Rule::new(late).times(1));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let mut transaction = Transaction::new(&client);
    let sum = transaction.command::<i64>(Command::new("INCR").key("n").deadline(deadline));
    let mut replies = transaction.send().await.unwrap();
    assert_eq!(replies.take(sum).unwrap(), 1);
}
