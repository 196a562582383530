//! Hashes: fields, numbers, changes that lose none, scans.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use redkit_collections::{Error, Hash};
use redkit_core::{Command, Error as CoreError, Pattern, Value};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::watched::Watched;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Product {
    name: String,
    cents: u64,
}

fn product(name: &str) -> Product {
    Product {
        name: name.to_owned(),
        cents: 1999,
    }
}

redkit_testkit::suite! {
    async fn fields_are_set_got_and_deleted(fixture: Fixture) -> Result<(), Error> {
        let products: Hash<Product> = Hash::new(&fixture.client, "products");
        assert!(products.is_empty().await? && !products.exists().await?);
        assert_eq!(products.get("a").await?, None);
        assert!(products.set("a", &product("A")).await?, "it is new");
        assert!(!products.set("a", &product("A2")).await?, "it is not");
        let many = [("b", &product("B")), ("c", &product("C")), ("a", &product("A3"))];
        assert_eq!(products.set_many(many).await?, 2);
        assert_eq!(products.get("a").await?, Some(product("A3")));
        let got = products.get_many(["c", "x", "a"]).await?;
        assert_eq!(got, [Some(product("C")), None, Some(product("A3"))]);
        assert!(products.contains("b").await? && !products.contains("x").await?);
        assert_eq!(products.len().await?, 3);
        assert!(!products.set_if_absent("a", &product("no")).await?);
        assert!(products.set_if_absent("d", &product("D")).await?);

        let mut all: Vec<(String, Product)> = products.get_all().await?;
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [("a", "A3"), ("b", "B"), ("c", "C"), ("d", "D")];
        let expected: Vec<_> = expected.map(|(f, n)| (f.to_owned(), product(n))).into();
        assert_eq!(all, expected);
        let keys: BTreeSet<String> = products.keys().await?.into_iter().collect();
        assert_eq!(keys.into_iter().collect::<String>(), "abcd");
        let mut names: Vec<String> = products.values().await?.into_iter().map(|p| p.name).collect();
        names.sort();
        assert_eq!(names, ["A3", "B", "C", "D"]);

        assert_eq!(products.delete(["a", "x", "b"]).await?, 2);
        assert!(products.clear().await? && !products.clear().await?);
        Ok(())
    }

    async fn naming_nothing_sends_nothing(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<u8> = Hash::new(&fixture.client, "h");
        fixture.client.reset_stats();
        assert_eq!(hash.set_many::<&str, u8>([]).await?, 0);
        assert_eq!(hash.delete([""; 0]).await?, 0);
        assert!(hash.get_many([""; 0]).await?.is_empty());
        assert_eq!(fixture.client.stats().calls(), 0);
        Ok(())
    }

    async fn field_names_have_the_type_that_is_asked_for(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<String> = Hash::new(&fixture.client, "h");
        hash.set(42, "by number").await?;
        assert_eq!(hash.fields::<u32>().get_all().await?, [(42, "by number".to_owned())]);
        hash.set(b"\xff".as_slice(), "by bytes").await?;
        assert!(hash.fields::<Vec<u8>>().keys().await?.contains(&b"\xff".to_vec()));
        let error = hash.keys().await.unwrap_err();
        assert!(matches!(error, Error::Core(CoreError::Reply { .. })), "{error}");
        Ok(())
    }

    async fn numbers_are_counted_by_the_server(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<i64> = Hash::new(&fixture.client, "n");
        assert_eq!(hash.incr("a", 5).await?, 5);
        assert_eq!(hash.incr("a", -7).await?, -2);
        assert_eq!((hash.get("a").await?, hash.get_integer("a").await?), (Some(-2), Some(-2)));
        assert_eq!(hash.get_integer("x").await?, None);
        assert!((hash.incr_float("f", 1.5).await? - 1.5).abs() < 1e-12);
        assert!((hash.get_float("f").await?.unwrap() - 1.5).abs() < 1e-12);

        hash.set("max", &i64::MAX).await?;
        let error = hash.incr("max", 1).await.unwrap_err();
        assert!(matches!(&error, Error::Overflow { key } if key.ends_with("[max]")), "{error}");
        assert_eq!(hash.get("max").await?, Some(i64::MAX), "it is unchanged");
        let words: Hash<String> = Hash::new(&fixture.client, "n");
        words.set("word", "one").await?;
        for error in [hash.incr("word", 1).await.unwrap_err(), hash.get_integer("word").await.unwrap_err()] {
            assert!(matches!(&error, Error::NotANumber { key } if key.ends_with("[word]")), "{error}");
        }
        let error = hash.incr_float("word", 1.0).await.unwrap_err();
        assert!(matches!(error, Error::NotANumber { .. }), "{error}");
        for by in [f64::NAN, f64::INFINITY] {
            let error = hash.incr_float("f", by).await.unwrap_err();
            assert!(matches!(error, Error::Invalid { what: "by", .. }), "{error}");
        }
        Ok(())
    }

    async fn a_field_is_changed_only_if_it_is_what_was_seen(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<String> = Hash::new(&fixture.client, "h");
        assert!(!hash.compare_and_set("f", Some("a"), "b").await?, "it is not there");
        assert!(hash.compare_and_set("f", None, "a").await?);
        assert!(!hash.compare_and_set("f", None, "b").await?, "it is there");
        assert!(!hash.compare_and_set("f", Some("x"), "b").await?);
        assert!(hash.compare_and_set("f", Some("a"), "").await?);
        assert!(hash.compare_and_set("f", Some(""), "c").await?, "empty is not absent");
        assert!(!hash.compare_and_delete("f", "a").await?);
        assert_eq!(hash.get("f").await?.as_deref(), Some("c"));
        assert!(hash.compare_and_delete("f", "c").await?);
        assert!(!hash.exists().await?);
        Ok(())
    }

    #[multi_thread]
    async fn updates_at_the_same_time_all_count(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<BTreeMap<String, u32>> = Hash::new(&fixture.client, "h");
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let hash = hash.clone();
                tokio::spawn(async move {
                    for _ in 0..25 {
                        loop {
                            let done = hash.update("f", |seen| {
                                let mut map = seen.unwrap_or_default();
                                *map.entry("n".to_owned()).or_default() += 1;
                                Some(map)
                            });
                            match done.await {
                                Ok(_) => break,
                                Err(error) => assert!(matches!(error, Error::Core(CoreError::Contended { .. })), "{error}"),
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(hash.get("f").await?.unwrap()["n"], 100);
        assert_eq!(hash.update("f", |_| None).await?, None);
        assert!(!hash.exists().await?, "None removes");
        Ok(())
    }

    async fn a_writer_that_is_overtaken_every_time_gets_an_error(fixture: Fixture) -> Result<(), Error> {
        let watched = Watched::new(&fixture);
        let hash: Hash<u64> = Hash::new(&watched.client, "h");
        hash.set("f", &1).await?;
        // The writer finds every time that another was faster.
        let key = hash.key().clone();
        watched.before("EVALSHA", move |n| Command::new("HSET").key(&key).arg("f").arg(n * 1000));
        let mut seen = Vec::new();
        let error = hash
            .update("f", |value| {
                seen.extend(value);
                Some(7)
            })
            .await
            .unwrap_err();
        assert!(matches!(&error, Error::Core(CoreError::Contended { attempts: 32, .. })), "{error}");
        assert!(error.is_retryable());
        assert_eq!((seen.len(), &seen[..3]), (32, &[1, 1000, 2000][..]));
        assert_eq!(hash.get("f").await?, Some(32_000), "nothing was written over it");
        Ok(())
    }

    async fn fields_are_chosen_by_chance(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<u32> = Hash::new(&fixture.client, "h");
        assert!(hash.random(3).await?.is_empty());
        let entries: Vec<(u32, u32)> = (0..20).map(|n| (n, n * n)).collect();
        hash.set_many(entries.iter().map(|(f, v)| (*f, v))).await?;
        let numbered = hash.fields::<u32>();
        let chosen: BTreeSet<u32> = numbered.random(5).await?.into_iter().collect();
        assert_eq!(chosen.len(), 5);
        let chosen: Vec<(u32, u32)> = numbered.random_entries(100).await?;
        assert_eq!(chosen.len(), 20);
        assert!(chosen.iter().all(|(f, v)| f * f == *v));
        Ok(())
    }

    async fn a_scan_finds_what_matches(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<u32> = Hash::new(&fixture.client, "h");
        let names: Vec<String> = (0..700).map(|n| format!("cup:{n}")).chain((0..300).map(|n| format!("c*p:{n}"))).collect();
        let values: Vec<u32> = (0..1000).collect();
        hash.set_many(names.iter().zip(&values)).await?;
        let all: BTreeMap<String, u32> = hash.scan(Pattern::all()).page(50).collect().await?.into_iter().collect();
        assert_eq!(all.len(), 1000);
        assert_eq!(all["cup:42"], 42);
        let count = async |scan| {
            let found: Vec<(String, u32)> = hash.scan(scan).collect().await?;
            Ok::<_, Error>(found.into_iter().collect::<BTreeMap<_, _>>().len())
        };
        assert_eq!(count(Pattern::prefix("c*p:")).await?, 300, "taken literally");
        assert_eq!(count(Pattern::glob("c*p:*")).await?, 1000);
        assert_eq!(count(Pattern::glob("cup:1?")).await?, 10);
        Ok(())
    }

    async fn a_value_of_another_type_is_an_error_that_keeps_it(fixture: Fixture) -> Result<(), Error> {
        let words: Hash<String> = Hash::new(&fixture.client, "h");
        let numbers: Hash<u64> = Hash::new(&fixture.client, "h");
        words.set("good", "x").await?;
        words.set("n", "123").await?;
        assert_eq!(words.get("n").await?.as_deref(), Some("123"));
        let error = numbers.get("n").await.unwrap_err();
        let Error::Core(CoreError::Decode { key, raw, .. }) = &error else { panic!("{error}") };
        assert_eq!((key.ends_with(":h[n]"), &raw[..]), (true, &b"\"123\""[..]), "{key}");
        // A scan goes on behind it.
        let mut scan = words.scan(Pattern::all());
        fixture.client.call::<i64>(Command::new("HSET").key(words.key()).arg("bad").arg("{")).await?;
        let (mut good, mut bad) = (0, 0);
        while let Some(entry) = scan.next().await {
            match entry {
                Ok(_) => good += 1,
                Err(Error::Core(CoreError::Decode { .. })) => bad += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((good, bad), (2, 1));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_reads_at_the_master_and_pauses_when_it_was_overtaken() {
    let backend = FaultyBackend::embedded();
    let hash: Hash<u64> = Hash::new(&backend.client(), "h");
    hash.set("f", &1).await.unwrap();
    assert_eq!(
        hash.update("f", |n| n.map(|n| n + 1)).await.unwrap(),
        Some(2)
    );
    let read = |seen: &Command| seen.name() == "HGET";
    let reads: Vec<_> = backend.seen().into_iter().filter(read).collect();
    assert!(!reads.is_empty() && reads.iter().all(Command::is_from_master));

    // The writer never finds what it has read.
    backend.set(Rule::new(Injection::answer(|_| Ok(Value::Int(0)))).on_name("EVALSHA"));
    let start = Instant::now();
    hash.update("f", |_| Some(7)).await.unwrap_err();
    assert!(
        start.elapsed() > Duration::from_millis(20),
        "31 pauses of up to 16 ms"
    );
}
