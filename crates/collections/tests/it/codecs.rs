//! Other codecs than JSON: what is encrypted opens in its own place only, and what is found by its
//! bytes needs a codec that always gives the same.

use redkit_collections::{Counter, End, Error, Hash, List, Occurrences, Set, SortedSet};
use redkit_core::{
    Client, Codec, Command, Compression, EncryptionKey, Error as CoreError, ErrorKind, KeyRing,
    Pattern,
};
use redkit_testkit::Fixture;

fn encrypting(client: &Client) -> Client {
    let ring = KeyRing::new(1, EncryptionKey::from_bytes([7; 32]));
    client.with_codec(Codec::json().encrypt(ring))
}

fn does_not_open<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert!(
        matches!(&error, Error::Core(CoreError::Decode { .. })),
        "{error}"
    );
}

redkit_testkit::suite! {
    async fn binary_formats_work_everywhere(fixture: Fixture) -> Result<(), Error> {
        for (n, codec) in [Codec::message_pack(), Codec::postcard()].into_iter().enumerate() {
            let client = fixture.client.with_codec(codec);
            let set: Set<(String, u32)> = Set::new(&client, format!("set{n}"))?;
            let member = ("a".to_owned(), 7);
            set.add(&member).await?;
            assert!(set.contains(&member).await?);
            let sorted: SortedSet<String> = SortedSet::new(&client, format!("sorted{n}"))?;
            sorted.add("a", 1.0).await?;
            assert_eq!(sorted.pop_min().await?, Some(("a".to_owned(), 1.0)));
            let hash: Hash<String> = Hash::new(&client, format!("hash{n}"));
            hash.set("f", "v").await?;
            assert_eq!(hash.incr("n", 5).await?, 5);
            assert_eq!((hash.get("f").await?.as_deref(), hash.get_integer("n").await?), (Some("v"), Some(5)));
            let counter = Counter::new(&client, format!("counter{n}"));
            counter.incr(3).await?;
            assert_eq!(counter.get().await?, 3, "counters do not go through the codec");
        }
        Ok(())
    }

    async fn an_encrypted_field_opens_in_its_place_only(fixture: Fixture) -> Result<(), Error> {
        let client = encrypting(&fixture.client);
        let (a, b): (Hash<String>, Hash<String>) = (Hash::new(&client, "a"), Hash::new(&client, "b"));
        a.set("role", "user").await?;
        assert_eq!(a.get("role").await?.as_deref(), Some("user"));
        assert_eq!(a.get_all().await?, [("role".to_owned(), "user".to_owned())]);
        assert_eq!(a.values().await?, ["user"]);
        assert_eq!(a.scan(Pattern::all()).collect().await?.len(), 1);
        assert_eq!(a.random_entries(1).await?.len(), 1);
        let raw: Vec<u8> = client.call(Command::new("HGET").key(a.key()).arg("role")).await?;
        assert!(!raw.windows(4).any(|four| four == b"user"));
        for (hash, field) in [(&a, "other"), (&b, "role")] {
            client.call::<i64>(Command::new("HSET").key(hash.key()).arg(field).arg(&raw)).await?;
            does_not_open(hash.get(field).await);
            does_not_open(hash.get_many([field]).await);
        }
        does_not_open(a.values().await);
        Ok(())
    }

    async fn encrypted_fields_are_changed_by_what_was_read(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<u32> = Hash::new(&encrypting(&fixture.client), "h");
        assert!(hash.compare_and_set("n", None, &1).await?, "absence needs no comparison");
        let error = hash.compare_and_set("n", Some(&1), &2).await.unwrap_err();
        assert!(matches!(error, Error::NotComparable { .. }), "{error}");
        assert!(hash.compare_and_delete("n", &1).await.is_err());
        assert_eq!(hash.update("n", |n| n.map(|n| n + 1)).await?, Some(2));
        assert_eq!(hash.get("n").await?, Some(2));
        Ok(())
    }

    async fn encrypted_items_move_between_lists_of_one_place(fixture: Fixture) -> Result<(), Error> {
        let client = encrypting(&fixture.client);
        let list = |role: &str| List::<String>::new(&client, format!("{{l}}:{role}"));
        let (a, b) = (list("a"), list("b"));
        a.push_back_many(["1", "2", "3"]).await?;
        assert_eq!(a.range(..).await?, ["1", "2", "3"]);
        let error = a.move_to(&b, End::Front, End::Back).await.unwrap_err();
        assert!(matches!(&error, Error::Bound { .. }) && error.kind() == ErrorKind::Usage, "{error}");
        let mut consumer = a.consumer().await?;
        let error = consumer.move_to(&b, End::Front, End::Back, Default::default()).await.unwrap_err();
        assert!(matches!(&error, Error::Bound { .. }), "{error}");
        assert_eq!(a.len().await?, 3, "nothing was moved");
        let (c, d) = (list("c").bound_to("jobs"), list("d").bound_to("jobs"));
        c.push_back("job").await?;
        assert_eq!(c.move_to(&d, End::Front, End::Back).await?.as_deref(), Some("job"));
        assert_eq!(d.range(..).await?, ["job"]);
        does_not_open(list("d").range(..).await);
        for error in [
            a.remove("1", Occurrences::All).await.unwrap_err(),
            a.position("1").await.map(drop).unwrap_err(),
            a.positions("1", Occurrences::All).await.map(drop).unwrap_err(),
            a.insert_before("1", "0").await.map(drop).unwrap_err(),
            a.insert_after("1", "0").await.map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, Error::NotComparable { .. }), "{error}");
        }
        Ok(())
    }

    async fn sets_refuse_codecs_that_do_not_always_give_the_same(fixture: Fixture) -> Result<(), Error> {
        let compressing = fixture.client.with_codec(Codec::json().compress(Compression::lz4()));
        for client in [encrypting(&fixture.client), compressing] {
            let errors = [
                Set::<u8>::new(&client, "s").map(drop).unwrap_err(),
                SortedSet::<u8>::new(&client, "z").map(drop).unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, Error::NotComparable { .. }), "{error}");
                assert_eq!(error.kind(), ErrorKind::Usage);
                assert!(error.to_string().contains("with_codec"), "{error}");
            }
        }
        Ok(())
    }
}
