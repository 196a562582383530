//! Values: what is written is read, with every option, and nothing is guessed.

use std::time::{Duration, SystemTime};

use redkit_core::{
    CallError, ClientConfig, Command, Error, Expiry, FaultKind, Pipeline, SetItem, SetOptions,
    Transaction, Ttl, Value,
};
use redkit_testkit::{FaultyBackend, Fixture};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Product {
    name: String,
    cents: u64,
    note: Option<String>,
}

fn product(cents: u64) -> Product {
    Product {
        name: "Teapot ü".to_owned(),
        cents,
        note: None,
    }
}

fn fault(error: &Error) -> FaultKind {
    error
        .call_error()
        .and_then(CallError::fault)
        .unwrap_or_else(|| panic!("{error}"))
        .kind()
}

fn code(error: &Error) -> &str {
    match error.call_error() {
        Some(CallError::Replied(error)) => error.code(),
        _ => panic!("{error}"),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

redkit_testkit::suite! {
    async fn nothing_is_guessed_trimmed_or_lost(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("digits", "123").await?;
        client.set("padded", " padded ").await?;
        client.set("null", &None::<String>).await?;
        client.set("product", &product(1999)).await?;
        assert_eq!(client.get::<String>("digits").await?.as_deref(), Some("123"));
        assert!(matches!(client.get::<i64>("digits").await, Err(Error::Decode { .. })));
        assert_eq!(client.get::<String>("padded").await?.as_deref(), Some(" padded "));
        assert_eq!(client.get::<Option<String>>("null").await?, Some(None), "there, and null");
        assert_eq!(client.get::<Option<String>>("absent").await?, None, "not there");
        assert_eq!(client.get::<Product>("product").await?, Some(product(1999)));
        // Anybody can read it, under the name that the documentation says.
        let raw: String = client.call(Command::new("GET").key(client.key("product"))).await?;
        assert_eq!(raw, r#"{"name":"Teapot ü","cents":1999,"note":null}"#);
        Ok(())
    }

    async fn a_decode_failure_names_key_and_type_and_keeps_the_bytes(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("secret", "hunter2").await?;
        let full = format!("{}:secret", fixture.namespace());
        for error in [
            client.get::<Product>("secret").await.unwrap_err(),
            client.get_stored::<Product>("secret").await.unwrap_err(),
            client.mget::<Product>(["secret"]).await.remove(0).unwrap_err(),
            client.set("secret", "hunter2").returning::<Product>().await.unwrap_err(),
            client.get_delete::<Product>("secret").await.unwrap_err(),
        ] {
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(&full) && shown.contains("Product"), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
            let Error::Decode { raw, .. } = error else { panic!("{error}") };
            assert_eq!(raw, "\"hunter2\"");
        }
        Ok(())
    }

    async fn bytes_and_text_are_stored_as_they_are(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let bytes: Vec<u8> = (0..=255).collect();
        client.set_bytes("bytes", bytes.clone()).ttl(MINUTE).await?;
        client.set_text("text", "123").await?;
        assert_eq!(client.get_bytes("bytes").await?.as_deref(), Some(&bytes[..]));
        assert_eq!(client.get_text("text").await?.as_deref(), Some("123"));
        assert_eq!(client.call::<String>(Command::new("GET").key(client.key("text"))).await?, "123");
        assert!(matches!(client.get_text("bytes").await, Err(Error::Decode { .. })));
        assert_eq!(client.get_bytes("absent").await?, None);
        let item = format!("{:?}", SetItem::new("key", "hunter2"));
        assert!(item.contains("key") && !item.contains("hunter2"), "{item}");
        let many = client.mget_bytes(["text", "absent", "bytes"]).await;
        let many = many.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert_eq!(many, [Some("123".into()), None, Some(bytes.into())]);
        Ok(())
    }

    async fn every_option_of_a_write_does_what_it_says(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let left = async || client.ttl("k").await;
        client.set("k", &1).ttl(MINUTE).await?;
        let Ttl::In(ttl) = left().await? else { panic!("it expires") };
        assert!(ttl > Duration::from_secs(30) && ttl <= MINUTE, "{ttl:?}");
        client.set("k", &2).keep_ttl().await?;
        assert!(matches!(left().await?, Ttl::In(_)));
        client.set("k", &3).await?;
        assert_eq!(left().await?, Ttl::Forever, "a plain write takes the expiry away");
        client.set("k", &4).expires_at(SystemTime::now() + 10 * MINUTE).await?;
        let Ttl::In(ttl) = left().await? else { panic!("it expires") };
        assert!(ttl > 9 * MINUTE && ttl < 11 * MINUTE, "{ttl:?}");

        assert!(!client.set("k", &5).if_absent().await?);
        assert!(!client.set("none", &5).if_present().await?);
        assert_eq!(client.get::<i32>("none").await?, None);
        assert!(client.set("k", &6).if_present().ttl(MINUTE).await?);
        assert!(client.set("new", &7).if_absent().ttl(MINUTE).await?);
        assert!(matches!(client.ttl("new").await?, Ttl::In(_)));

        assert_eq!(client.set("k", &8).returning::<i32>().await?, Some(6));
        assert_eq!(client.set("first", &1).returning::<i32>().await?, None);
        assert_eq!(client.set("k", &9).if_absent().returning::<i32>().await?, Some(8), "not written");
        assert_eq!(client.set("k", &10).if_present().returning::<i32>().await?, Some(8), "written");
        assert_eq!(client.get::<i32>("k").await?, Some(10));
        client.set("k", &11).repeatable().await?;
        assert_eq!(client.get::<i32>("k").await?, Some(11));
        Ok(())
    }

    async fn impossible_options_are_refused_before_they_are_sent(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("k", &1).await?;
        client.reset_stats();
        for error in [
            client.set("k", &2).ttl(Duration::ZERO).await.unwrap_err(),
            client.set("k", &2).ttl(Duration::MAX).await.unwrap_err(),
            client.set("k", &2).expires_at(SystemTime::UNIX_EPOCH).await.unwrap_err(),
            client.expire("k", Duration::ZERO).await.unwrap_err(),
            client.get_expire::<i32>("k", Expiry::Keep).await.unwrap_err(),
            client.mset([SetItem::new("k", 2).ttl(Duration::ZERO)]).await.remove(0).unwrap_err(),
        ] {
            assert_eq!(fault(&error), FaultKind::Invalid, "{error}");
            assert!(!error.is_maybe());
        }
        let pairs = std::collections::HashMap::from([((1, 2), 3)]);
        let error = client.set("k", &pairs).await.unwrap_err();
        assert!(matches!(error, Error::Encode { .. }), "JSON has no such keys: {error}");
        assert_eq!(client.stats().calls(), 0, "nothing was sent");
        assert_eq!(client.get::<i32>("k").await?, Some(1));
        Ok(())
    }

    async fn values_are_taken_and_their_time_is_changed(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("k", "v").await?;
        assert_eq!(client.get_expire::<String>("k", Expiry::In(MINUTE)).await?.as_deref(), Some("v"));
        assert!(matches!(client.ttl("k").await?, Ttl::In(_)));
        assert_eq!(client.get_persist::<String>("k").await?.as_deref(), Some("v"));
        assert_eq!(client.ttl("k").await?, Ttl::Forever);
        assert_eq!(client.get_delete::<String>("k").await?.as_deref(), Some("v"));
        assert_eq!(client.get_delete::<String>("k").await?, None);
        assert_eq!(client.get_expire::<String>("k", Expiry::In(MINUTE)).await?, None);
        Ok(())
    }

    async fn many_values_come_back_in_order_with_an_outcome_each(fixture: Fixture) -> Result<(), Error> {
        // Patient, so that a busy machine does not matter.
        let config = fixture.config().unwrap().command_timeout(20 * Duration::from_secs(1));
        let client = &fixture.connect(config).await.unwrap();
        let items = (0..2500_u32).map(|i| SetItem::new(format!("k:{i}"), i));
        let written = client.mset(items).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert!(written.len() == 2500 && written.into_iter().all(|one| one));
        client.set("text", "x").await?;
        // Every third is absent, one is of another type, and one stands there twice.
        let mut keys: Vec<String> = (0..2400).map(|i| format!("k:{}", i * 3 / 2)).collect();
        keys[7] = "text".to_owned();
        keys[8] = "k:12".to_owned();
        let values = client.mget::<u32>(&keys).await;
        assert_eq!(values.len(), keys.len());
        for (key, value) in keys.iter().zip(values) {
            match key.strip_prefix("k:").map(|i| i.parse::<u32>().unwrap()) {
                None => assert!(matches!(value, Err(Error::Decode { .. })), "{key}"),
                Some(i) => assert_eq!(value?, (i < 2500).then_some(i), "{key}"),
            }
        }
        assert!(client.mget::<u32>(Vec::<String>::new()).await.is_empty());
        Ok(())
    }

    async fn written_items_have_options_and_outcomes_of_their_own(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("old", &0).ttl(MINUTE).await?;
        let outcomes = client
            .mset([
                SetItem::new("a", 1).ttl(MINUTE),
                SetItem::new("old", 2).if_absent(),
                SetItem::new("b", 3).if_present(),
                SetItem::new("c", 4).ttl(Duration::ZERO),
                SetItem::new("old", 5).keep_ttl(),
                SetItem::new("d", 6).expires_at(SystemTime::now() + MINUTE),
                SetItem::new("e", 7).options(SetOptions::new().if_absent().ttl(MINUTE)),
            ])
            .await;
        let shown: Vec<Option<bool>> = outcomes.iter().map(|one| one.as_ref().ok().copied()).collect();
        let expected = [Some(true), Some(false), Some(false), None, Some(true), Some(true), Some(true)];
        assert_eq!(shown, expected);
        let values = client.mget::<i32>(["a", "old", "b", "c", "d", "e"]).await;
        let values = values.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert_eq!(values, [Some(1), Some(5), None, None, Some(6), Some(7)]);
        for key in ["a", "old", "d", "e"] {
            assert!(matches!(client.ttl(key).await?, Ttl::In(_)), "{key}");
        }
        Ok(())
    }

    async fn a_key_of_another_type_is_an_error_where_it_can_be_told(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.call::<i64>(Command::new("RPUSH").key(client.key("list")).arg("x")).await?;
        let error = client.get::<String>("list").await.unwrap_err();
        assert_eq!(code(&error), "WRONGTYPE");
        // `MGET` has no word for it; the documentation says so.
        assert_eq!(client.mget::<String>(["list"]).await.remove(0)?, None);
        let error = client.set("list", "v").returning::<String>().await.unwrap_err();
        assert_eq!(code(&error), "WRONGTYPE");
        Ok(())
    }

    async fn a_namespace_is_put_before_names_and_not_before_keys(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let inner = client.with_namespace("inner")?;
        inner.set("k", &1).await?;
        assert_eq!(client.get::<i32>("inner:k").await?, Some(1));
        assert_eq!(client.get::<i32>(inner.key("k")).await?, Some(1));
        assert_eq!(client.get::<i32>(&inner.key("k")).await?, Some(1));
        for key in [b"inner:k".as_slice(), b"other"] {
            inner.exists(key).await?;
        }
        inner.set(7_u32, "seven").await?;
        assert_eq!(client.get::<String>("inner:7").await?.as_deref(), Some("seven"));
        Ok(())
    }

    #[paused]
    async fn values_expire(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("k", &1).ttl(Duration::from_nanos(1_000_001)).await?;
        assert_eq!(client.ttl("k").await?, Ttl::In(Duration::from_millis(2)), "rounded up");
        tokio::time::sleep(Duration::from_millis(3)).await;
        assert_eq!(client.get::<i32>("k").await?, None);
        assert_eq!(client.ttl("k").await?, Ttl::Absent);
        Ok(())
    }
}

/// What is lost on the way is told of each item, in its place.
#[tokio::test]
async fn items_on_a_dead_server_fail_each() {
    let server = redkit_testkit::Server::redis(redkit_testkit::ServerOptions::new())
        .await
        .unwrap();
    let config = redkit_core::ClientConfig::from_url(&server.url())
        .unwrap()
        .command_timeout(Duration::from_millis(200));
    let client = redkit_core::Client::connect(config).await.unwrap();
    server.stop().unwrap();
    let outcomes = client.mget::<i32>(["a", "b"]).await;
    assert!(outcomes.iter().all(Result::is_err) && outcomes.len() == 2);
    let outcomes = client
        .mset([SetItem::new("a", 1), SetItem::new("b", 2)])
        .await;
    assert!(outcomes.iter().all(Result::is_err) && outcomes.len() == 2);
    let deleted = client.delete_many(["a", "b"]).await;
    assert_eq!((deleted.deleted, deleted.failed), (0, 2));
    assert!(deleted.error.is_some());
    server.cont().unwrap();
    // The silence has opened the breaker, and the first byte closes it.
    let answered = async {
        while client.call::<Value>(Command::new("PING")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), answered)
        .await
        .unwrap();
    client.shutdown().await;
}

#[tokio::test]
async fn an_item_that_is_too_large_fails_alone() {
    let backend = FaultyBackend::embedded();
    let client = backend.client_with(&ClientConfig::default().max_value_bytes(1000));
    let (small, large) = ("x".repeat(10), "x".repeat(2000));
    let outcomes = client
        .mset([
            SetItem::new("a", &small),
            SetItem::new("b", &large),
            SetItem::new("c", &small),
        ])
        .await;
    let shown: Vec<_> = outcomes.iter().map(|o| o.as_ref().map_err(fault)).collect();
    assert_eq!(shown, [Ok(&true), Err(FaultKind::Invalid), Ok(&true)]);
    assert!(client.exists("c").await.unwrap());
    let only_large = client.mset([SetItem::new("b", &large)]).await;
    assert_eq!(
        fault(only_large[0].as_ref().unwrap_err()),
        FaultKind::Invalid
    );
    assert_eq!(client.stats().not_sent, 1);

    let mut pipeline = Pipeline::new(&client);
    let too_large = pipeline.set("b", &large, SetOptions::new());
    let disturbing = pipeline.command::<()>(Command::new("SUBSCRIBE").arg("news"));
    let gone = pipeline.delete("c");
    let mut replies = pipeline.send().await.unwrap();
    assert_eq!(
        fault(&replies.take(too_large).unwrap_err()),
        FaultKind::Invalid
    );
    assert_eq!(
        fault(&replies.take(disturbing).unwrap_err()),
        FaultKind::Invalid
    );
    assert!(replies.take(gone).unwrap());

    // A transaction is carried out as a whole or not at all.
    let mut transaction = Transaction::new(&client);
    let _ = transaction.set("b", &large, SetOptions::new());
    let _ = transaction.delete("a");
    let error = transaction.send().await.unwrap_err();
    assert_eq!(fault(&error), FaultKind::Invalid);
    assert!(client.exists("a").await.unwrap());
}
