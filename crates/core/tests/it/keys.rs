//! Keys of any type.

use std::time::{Duration, SystemTime};

use redkit_core::{Command, Error, ExpireIf, FaultKind, KeyType, RandomKey, Topology, Ttl};
use redkit_testkit::Fixture;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn fault(error: &Error) -> Option<FaultKind> {
    Some(error.call_error()?.fault()?.kind())
}

redkit_testkit::suite! {
    async fn keys_are_there_or_not(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        assert!(!client.exists("k").await? && !client.touch("k").await?);
        client.set("k", &1).await?;
        assert!(client.exists("k").await? && client.touch("k").await?);
        assert!(client.delete("k").await?);
        assert!(!client.delete("k").await? && !client.exists("k").await?);
        for i in 0..1200 {
            client.set(i, &i).await?;
        }
        let deleted = client.delete_many(0..1300).await;
        assert_eq!((deleted.deleted, deleted.missing, deleted.failed), (1200, 100, 0));
        assert!(deleted.error.is_none());
        Ok(())
    }

    async fn expiry_is_set_asked_and_taken_away(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        assert_eq!(client.ttl("k").await?, Ttl::Absent);
        assert!(!client.expire("k", MINUTE).await? && !client.persist("k").await?);
        client.set("k", &1).await?;
        assert_eq!(client.ttl("k").await?, Ttl::Forever);
        assert!(client.expire("k", MINUTE).await?);
        let left = client.ttl("k").await?.left().unwrap();
        assert!(left <= MINUTE && left > MINUTE / 2, "{left:?}");
        assert!(client.persist("k").await? && !client.persist("k").await?);

        assert!(!client.expire_if("k", MINUTE, ExpireIf::Expiring).await?);
        assert!(client.expire_if("k", MINUTE, ExpireIf::Forever).await?);
        assert!(!client.expire_if("k", MINUTE, ExpireIf::Forever).await?);
        assert!(!client.expire_if("k", HOUR, ExpireIf::Earlier).await?);
        assert!(client.expire_if("k", HOUR, ExpireIf::Later).await?);
        assert!(client.expire_if("k", MINUTE, ExpireIf::Earlier).await?);

        let soon = SystemTime::now() + HOUR;
        assert!(client.expire_at("k", soon).await?);
        assert!(client.ttl("k").await?.left().unwrap() > MINUTE);
        assert!(!client.expire_at_if("k", soon - MINUTE, ExpireIf::Later).await?);
        assert!(client.expire_at("k", SystemTime::UNIX_EPOCH + MINUTE).await?);
        assert_eq!(client.ttl("k").await?, Ttl::Absent, "a time that is past ends it");
        Ok(())
    }

    async fn keys_have_a_kind(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let key = |name: &str| client.key(name);
        client.set("string", &1).await?;
        client.call::<i64>(Command::new("RPUSH").key(key("list")).arg(1)).await?;
        client.call::<i64>(Command::new("SADD").key(key("set")).arg(1)).await?;
        client.call::<i64>(Command::new("ZADD").key(key("zset")).arg(1).arg(1)).await?;
        client.call::<i64>(Command::new("HSET").key(key("hash")).arg(1).arg(1)).await?;
        for kind in [KeyType::String, KeyType::List, KeyType::Set, KeyType::SortedSet, KeyType::Hash] {
            assert_eq!(client.kind(kind.name()).await?, Some(kind));
        }
        assert_eq!(client.kind("absent").await?, None);
        Ok(())
    }

    async fn keys_are_renamed_and_copied(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("{t}a", &1).ttl(MINUTE).await?;
        client.set("{t}b", &2).await?;
        assert!(!client.rename_if_free("{t}a", "{t}b").await?);
        assert!(client.rename_if_free("{t}a", "{t}c").await?);
        client.rename("{t}b", "{t}c").await?;
        assert_eq!(client.get::<i32>("{t}c").await?, Some(2));
        let error = client.rename("{t}absent", "{t}c").await.unwrap_err();
        assert!(error.to_string().contains("no such key"), "{error}");

        assert!(client.copy("{t}c", "{t}d").await?);
        client.set("{t}c", &3).await?;
        assert!(!client.copy("{t}c", "{t}d").await? && !client.copy("{t}absent", "{t}e").await?);
        assert_eq!(client.get::<i32>("{t}d").await?, Some(2));
        assert!(client.copy_over("{t}c", "{t}d").await?);
        assert_eq!(client.get::<i32>("{t}d").await?, Some(3));
        Ok(())
    }

    async fn names_in_two_slots_are_refused_before_they_are_sent(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("a", &1).await?;
        client.reset_stats();
        let outcome = client.rename("a", "b").await;
        if client.topology() == Topology::Cluster {
            let error = outcome.unwrap_err();
            assert_eq!(fault(&error), Some(FaultKind::Invalid));
            assert!(error.to_string().contains("hash tag"), "{error}");
            assert!(client.copy("a", "b").await.is_err());
            assert_eq!(client.stats().calls(), 0);
        } else {
            outcome?;
            assert_eq!(client.get::<i32>("b").await?, Some(1));
        }
        Ok(())
    }

    async fn keys_are_counted_and_drawn(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let items = (0..300).map(|i| redkit_core::SetItem::new(i, i));
        assert!(client.mset(items).await.iter().all(Result::is_ok));
        assert!(client.dbsize().await? >= 300);
        match client.random_key().await? {
            RandomKey::Key(key) => {
                let number: i32 = std::str::from_utf8(&key).unwrap().parse().unwrap();
                assert!((0..300).contains(&number));
            }
            // Other tests' keys are about.
            other => assert!(matches!(other, RandomKey::OthersOnly { draws: 64 }), "{other:?}"),
        }
        Ok(())
    }

    #[paused]
    async fn a_draw_says_what_it_found(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        assert_eq!(client.random_key().await?, RandomKey::Empty);
        client.with_namespace("other")?.set("k", &1).await?;
        let alone = client.with_namespace("alone")?;
        assert_eq!(alone.random_key().await?, RandomKey::OthersOnly { draws: 64 });
        alone.set("k", &1).await?;
        client.delete("other:k").await?;
        assert_eq!(alone.random_key().await?, RandomKey::Key("k".into()));
        Ok(())
    }
}
