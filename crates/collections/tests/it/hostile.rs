//! Hostile values: what looks like something else stays what it is.

use std::collections::BTreeSet;

use redkit_collections::{Error, Hash, List, Occurrences, Select, Set, SortedSet};
use redkit_core::Pattern;
use redkit_testkit::Fixture;

/// Texts that a server, a protocol, a glob or a codec could take for something else.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        " padded ",
        "123",
        "-0",
        "1e3",
        "inf",
        "nan",
        "null",
        "nil",
        "true",
        "\"",
        "\\",
        "{",
        "[]",
        "-ERR no",
        "+OK",
        "MOVED 1 h:1",
        "$-1\r\n",
        "*3\r\n$7\r\nmessage\r\n",
        "message",
        "a\0b",
        "\u{1}",
        "*?[a-z]\\",
        "{a}{b}",
        "é",
        "🫖",
        "\u{202e}",
        "(1",
        "[a",
        "+",
        "-",
        "LIMIT",
        "WITHSCORES",
    ]
    .map(str::to_owned)
    .into();
    texts.push("v".repeat(1 << 18));
    texts
}

redkit_testkit::suite! {
    async fn texts_stay_what_they_are(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let texts = texts();
        let list: List<String> = List::new(client, "list");
        list.push_back_many(&texts).await?;
        assert_eq!(list.range(..).await?, texts);
        assert_eq!(list.stream().page(7).collect().await?, texts);
        let all: BTreeSet<String> = texts.iter().cloned().collect();
        let set: Set<String> = Set::new(client, "set")?;
        set.add_many(&texts).await?;
        assert_eq!(set.members().await?.into_iter().collect::<BTreeSet<_>>(), all);
        let sorted: SortedSet<String> = SortedSet::new(client, "sorted")?;
        sorted.add_many(texts.iter().map(|text| (text, 1.0))).await?;
        let scanned: BTreeSet<String> = sorted.scan(Pattern::all()).collect().await?.into_iter().map(|(m, _)| m).collect();
        assert_eq!(scanned, all);
        let hash: Hash<String> = Hash::new(client, "hash");
        hash.set_many(texts.iter().map(|text| (text, text))).await?;
        let fields: Vec<(String, String)> = hash.get_all().await?;
        assert_eq!(fields.len(), texts.len());
        assert!(fields.iter().all(|(field, value)| field == value));
        for text in &texts {
            assert!(set.contains(text).await?);
            assert_eq!(sorted.score(text).await?, Some(1.0));
            assert_eq!(hash.get(text).await?.as_ref(), Some(text));
            assert!(hash.compare_and_set(text, Some(text.as_str()), "new").await?);
            assert_eq!(list.remove(text, Occurrences::All).await?, 1);
            let found = sorted.range_by_member(text.clone()..=text.clone(), Select::ascending()).await?;
            assert_eq!(found, std::slice::from_ref(text));
        }
        Ok(())
    }

    async fn bytes_stay_what_they_are(fixture: Fixture) -> Result<(), Error> {
        let all: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte, 0, byte]).collect();
        let hash = Hash::<Vec<u8>>::new(&fixture.client, b"\xff\0key".as_slice()).fields::<Vec<u8>>();
        hash.set_many(all.iter().map(|bytes| (bytes, bytes))).await?;
        let fields: Vec<(Vec<u8>, Vec<u8>)> = hash.get_all().await?;
        assert_eq!(fields.len(), 256);
        assert!(fields.iter().all(|(field, value)| field == value));
        let found: Vec<(Vec<u8>, Vec<u8>)> = hash.scan(Pattern::prefix(b"*".as_slice())).collect().await?;
        assert_eq!(found.len(), 1);
        Ok(())
    }

    async fn null_is_not_absent(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let hash: Hash<Option<u8>> = Hash::new(client, "hash");
        assert_eq!(hash.get("f").await?, None);
        hash.set("f", &None).await?;
        assert_eq!(hash.get("f").await?, Some(None));
        assert_eq!(hash.get_many(["f", "g"]).await?, [Some(None), None]);
        assert!(!hash.compare_and_set("f", None, &Some(1)).await?, "null is there");
        assert!(hash.compare_and_set("f", Some(&None), &Some(1)).await?);
        let list: List<Option<u8>> = List::new(client, "list");
        list.push_back_many(&[None, Some(0)]).await?;
        assert_eq!((list.get(0).await?, list.get(7).await?), (Some(None), None));
        assert_eq!(list.pop_front().await?, Some(None));
        let set: Set<Option<u8>> = Set::new(client, "set")?;
        set.add(&None).await?;
        assert_eq!((set.contains(&None).await?, set.pop().await?, set.pop().await?), (true, Some(None), None));
        Ok(())
    }

    async fn keys_keep_to_their_namespace(fixture: Fixture) -> Result<(), Error> {
        let inner = fixture.client.with_namespace("inner")?;
        let (ours, theirs): (Set<u8>, Set<u8>) = (Set::new(&inner, "s")?, Set::new(&fixture.client, "s")?);
        ours.add(&1).await?;
        assert!(theirs.is_empty().await?);
        assert_eq!(ours.key().to_string(), format!("{}:inner:s", fixture.namespace()));
        Ok(())
    }
}
