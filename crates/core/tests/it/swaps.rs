//! Writes that depend on what is stored.

use std::time::Duration;

use redkit_core::{
    Change, Client, Codec, Command, Compression, EncryptionKey, Error, KeyRing, ReencodeOutcome,
    Ttl,
};
use redkit_testkit::Fixture;
use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);

fn key(byte: u8) -> EncryptionKey {
    EncryptionKey::from_bytes([byte; 32])
}

/// Encrypts with the old key; knows no other.
fn old(client: &Client) -> Client {
    client.with_codec(Codec::json().encrypt(KeyRing::new(1, key(1))))
}

/// Encrypts with the new key, and reads the old one.
fn new(client: &Client) -> Client {
    let ring = KeyRing::new(2, key(2)).with_older(1, key(1)).unwrap();
    client.with_codec(Codec::json().encrypt(ring))
}

redkit_testkit::suite! {
    async fn a_value_is_replaced_only_if_it_is_still_the_same(fixture: Fixture) -> Result<(), Error> {
        for client in [fixture.client.clone(), new(&fixture.client)] {
            client.set("k", "one").ttl(MINUTE).await?;
            let one = client.get_stored::<String>("k").await?.unwrap();
            assert_eq!((one.as_str(), one.key()), ("one", &client.key("k")));
            assert!(client.compare_and_set(&one, "two").await?);
            assert!(matches!(client.ttl("k").await?, Ttl::In(_)), "the time to live stays");
            assert!(!client.compare_and_set(&one, "three").await?);
            assert!(!client.compare_and_delete(&one).await?);
            assert_eq!(client.get::<String>("k").await?.as_deref(), Some("two"));

            let two = client.get_stored::<String>("k").await?.unwrap();
            assert!(client.compare_and_set(&two, "three").expiry(None).await?);
            assert_eq!(client.ttl("k").await?, Ttl::Forever);
            let three = client.get_stored::<String>("k").await?.unwrap();
            assert!(client.compare_and_set(&three, "four").ttl(MINUTE).await?);
            assert!(matches!(client.ttl("k").await?, Ttl::In(_)));
            let four = client.get_stored::<String>("k").await?.unwrap();
            assert!(client.compare_and_delete(&four).await?);
            assert!(!client.compare_and_set(&four, "five").await?, "it is gone");
            assert!(!client.exists("k").await?);
        }
        Ok(())
    }

    #[multi_thread]
    async fn no_update_is_lost(fixture: Fixture) -> Result<(), Error> {
        let client = new(&fixture.client);
        let tasks: Vec<_> = (0..8_u32)
            .map(|task| {
                let client = client.clone();
                tokio::spawn(async move {
                    for i in 0..5_u32 {
                        client
                            .update("list")
                            .attempts(1000)
                            .apply(|list: Option<Vec<u32>>| {
                                let mut list = list.unwrap_or_default();
                                list.push(task * 100 + i);
                                Change::Set(list)
                            })
                            .await
                            .unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let mut list = client.get::<Vec<u32>>("list").await?.unwrap();
        list.sort_unstable();
        let expected: Vec<u32> = (0..8).flat_map(|t| (0..5).map(move |i| t * 100 + i)).collect();
        assert_eq!(list, expected);
        Ok(())
    }

    async fn an_update_keeps_sets_and_deletes(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let keep = |_: Option<i32>| Change::Keep;
        assert_eq!(client.update("k").apply(keep).await?, None);
        assert!(!client.exists("k").await?);
        let set = client.update("k").ttl(MINUTE).apply(|_: Option<i32>| Change::Set(1)).await?;
        assert_eq!(set, Some(1));
        let next = |n: Option<i32>| Change::Set(n.unwrap_or(0) + 1);
        assert_eq!(client.update("k").apply(next).await?, Some(2));
        assert!(matches!(client.ttl("k").await?, Ttl::In(_)), "the time to live stays");
        assert_eq!(client.update("k").apply(keep).await?, Some(2));
        assert_eq!(client.update("k").apply(|_: Option<i32>| Change::Delete).await?, None);
        assert!(!client.exists("k").await?);
        Ok(())
    }

    #[multi_thread]
    async fn an_update_that_is_overtaken_every_time_gives_up(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.set("k", &0).await?;
        let mut rival = 0;
        let outcome = client
            .update("k")
            .attempts(3)
            .apply(|_: Option<i32>| {
                rival += 1;
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(async {
                        client.set("k", &rival).await.unwrap();
                    });
                });
                Change::Set(-1)
            })
            .await;
        assert!(matches!(outcome, Err(Error::Contended { attempts: 3, .. })), "{outcome:?}");
        assert_eq!((rival, client.get::<i32>("k").await?), (3, Some(3)), "nothing was written");
        Ok(())
    }

    async fn old_keys_are_renewed_when_they_are_read(fixture: Fixture) -> Result<(), Error> {
        let (old, new) = (old(&fixture.client), new(&fixture.client));
        old.set("k", "secret").ttl(MINUTE).await?;
        let before = new.get_stored::<String>("k").await?.unwrap();
        assert!(!new.codec().is_current(before.raw()));
        assert_eq!(new.get_renewing::<String>("k").await?.as_deref(), Some("secret"));
        let after = new.get_stored::<String>("k").await?.unwrap();
        assert!(new.codec().is_current(after.raw()) && *after == "secret");
        assert!(matches!(new.ttl("k").await?, Ttl::In(_)), "the time to live stays");
        assert!(old.get::<String>("k").await.is_err(), "the old key alone reads it no more");

        assert_eq!(new.renew::<String>("k").await?, ReencodeOutcome::Current);
        assert_eq!(new.renew::<String>("absent").await?, ReencodeOutcome::Absent);
        old.set("k", "again").await?;
        assert_eq!(new.renew::<String>("k").await?, ReencodeOutcome::Renewed);
        assert_eq!(new.get::<String>("k").await?.as_deref(), Some("again"));
        Ok(())
    }

    async fn renewing_keeps_what_the_type_does_not_know(fixture: Fixture) -> Result<(), Error> {
        #[derive(Debug, Serialize, Deserialize)]
        struct Known { name: String }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Whole { name: String, added: u8 }
        let (plain, new) = (&fixture.client, new(&fixture.client));
        let whole = || Whole { name: "n".to_owned(), added: 7 };
        old(plain).set("k", &whole()).await?;
        assert_eq!(new.renew::<Known>("k").await?, ReencodeOutcome::Renewed);
        assert_eq!(new.get::<Whole>("k").await?, Some(whole()));

        // From plain to encrypted, while both are read.
        plain.set("p", &whole()).await?;
        assert!(new.renew::<Known>("p").await.is_err(), "plain values are refused");
        let migrating = new.with_codec(new.codec().clone().accept_plain());
        assert_eq!(migrating.renew::<Known>("p").await?, ReencodeOutcome::Renewed);
        assert_eq!(new.get::<Whole>("p").await?, Some(whole()));

        // From one format to another: through the type.
        plain.set("f", &whole()).await?;
        let packing = plain.with_codec(Codec::message_pack());
        assert_eq!(packing.renew::<Whole>("f").await?, ReencodeOutcome::Renewed);
        let raw = packing.get_stored::<Whole>("f").await?.unwrap();
        assert_eq!(raw.raw()[..3], [0xC1, 1, 2]);
        Ok(())
    }

    async fn bytes_are_renewed_without_being_taken_for_values(fixture: Fixture) -> Result<(), Error> {
        let (plain, new) = (&fixture.client, new(&fixture.client));
        // A rotated key.
        old(plain).set_text("k", "123").ttl(MINUTE).await?;
        assert!(new.renew::<i32>("k").await.is_err(), "it is no value");
        assert_eq!(new.renew_bytes("k").await?, ReencodeOutcome::Renewed);
        assert_eq!(new.renew_bytes("k").await?, ReencodeOutcome::Current);
        assert!(old(plain).get_text("k").await.is_err());
        assert_eq!(new.get_text("k").await?.as_deref(), Some("123"));
        assert!(matches!(new.ttl("k").await?, Ttl::In(_)));
        assert_eq!(new.renew_bytes("absent").await?, ReencodeOutcome::Absent);

        // From plain to encrypted, and to compressed.
        let packing = plain.with_codec(Codec::json().compress(Compression::zstd()));
        let long = "a".repeat(5000);
        for client in [&new, &packing] {
            plain.set_text("short", "123").await?;
            plain.set_text("long", &long).await?;
            assert!(client.get_text("short").await.is_err() && client.renew_bytes("short").await.is_err());
            let migrating = client.with_codec(client.codec().clone().accept_plain());
            assert_eq!(migrating.get_text("short").await?.as_deref(), Some("123"));
            assert_eq!(migrating.renew_bytes("short").await?, ReencodeOutcome::Renewed);
            assert_eq!(migrating.renew_bytes("long").await?, ReencodeOutcome::Renewed);
            assert_eq!(client.get_text("short").await?.as_deref(), Some("123"));
            assert_eq!(client.get_text("long").await?, Some(long.clone()));
        }

        // Back from compressed; who does not compress reads it meanwhile.
        assert_eq!(plain.get_text("long").await?, Some(long.clone()));
        assert_eq!(plain.renew_bytes("long").await?, ReencodeOutcome::Renewed);
        assert_eq!(plain.call::<String>(Command::new("GET").key(plain.key("long"))).await?, long);
        // What a codec without keys cannot open it does not hand out.
        new.set_text("sealed", "secret").await?;
        packing.with_codec(Codec::message_pack()).set("value", &7).await?;
        assert!(matches!(plain.get_bytes("sealed").await, Err(Error::Decode { .. })));
        assert!(matches!(plain.get_bytes("value").await, Err(Error::Decode { .. })));
        Ok(())
    }

    async fn bytes_that_are_no_text_are_kept_as_they_are_stored(fixture: Fixture) -> Result<(), Error> {
        let client = new(&fixture.client);
        let secret = b"hunter2 \xFF";
        client.set_bytes("k", secret.as_slice()).await?;
        let error = client.get_text("k").await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        let Error::Decode { raw, .. } = error else { panic!("{error}") };
        assert_eq!(raw[..3], [0xC1, 1, 0], "encrypted, and not what came out of it");
        assert_eq!(client.get_bytes("k").await?.as_deref(), Some(secret.as_slice()));
        Ok(())
    }

    async fn encrypted_values_are_not_moved(fixture: Fixture) -> Result<(), Error> {
        let client = new(&fixture.client);
        client.set("{t}a", "secret").await?;
        let error = client.rename("{t}a", "{t}b").await.unwrap_err();
        assert!(error.to_string().contains("bound"), "{error}");
        assert!(client.copy("{t}a", "{t}b").await.is_err());
        // Behind our back:
        fixture.client.rename("{t}a", "{t}b").await?;
        assert!(matches!(client.get::<String>("{t}b").await, Err(Error::Decode { .. })));
        Ok(())
    }
}

#[tokio::test]
async fn a_renewal_reads_at_the_master() {
    let backend = redkit_testkit::FaultyBackend::embedded();
    let client = backend.client();
    client.set("value", &7).await.unwrap();
    client.set_text("text", "seven").await.unwrap();
    backend.forget();
    client.renew::<i32>("value").await.unwrap();
    client.renew_bytes("text").await.unwrap();
    let seen = backend.seen();
    assert_eq!(seen.len(), 2);
    for command in seen {
        assert!(command.is_from_master(), "{command:?}");
    }
}
