//! Caches and queues with every format, compression and encryption of values.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::write_behind::{Change, Current, Sink, SinkError, Verdict, WriteBehind};
use redkit_cache::{Cache, CacheBuilder, Error, L1, Source};
use redkit_core::{Client, Codec, Command, Compression, EncryptionKey, KeyRing, StoredForm};
use redkit_testkit::Fixture;
use serde::{Deserialize, Serialize};

const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Product {
    name: String,
    price: Option<u64>,
    picture: Vec<u8>,
    tags: Vec<(String, i32)>,
}

fn product(n: u64) -> Product {
    Product {
        name: format!("teapot number {n}, ").repeat(40),
        price: Some(n),
        picture: vec![0, 0xC1, b'\n', 0xFF],
        tags: vec![("blue \u{1f375}".to_owned(), -1)],
    }
}

fn key(byte: u8) -> EncryptionKey {
    EncryptionKey::from_bytes([byte; 32])
}

fn ring() -> KeyRing {
    KeyRing::new(1, key(1))
}

fn codecs() -> Vec<(&'static str, Codec)> {
    vec![
        ("json", Codec::json()),
        ("messagepack", Codec::message_pack()),
        ("postcard", Codec::postcard()),
        (
            "json-zstd",
            Codec::json().compress(Compression::zstd().above(64)),
        ),
        (
            "messagepack-lz4",
            Codec::message_pack().compress(Compression::lz4().above(64)),
        ),
        ("json-encrypted", Codec::json().encrypt(ring())),
        (
            "postcard-zstd-encrypted",
            Codec::postcard()
                .compress(Compression::zstd().above(64))
                .encrypt(ring()),
        ),
    ]
}

fn products(client: &Client, name: &str) -> CacheBuilder<Product> {
    Cache::builder(client, name)
        .redis_timeout(crate::PATIENT)
        .ttl(LONG)
        .stale_for(LONG)
        .negative_ttl(LONG)
}

/// How a value is stored in an entry.
async fn stored(client: &Client, cache: &str, key: u64) -> StoredForm {
    let get = Command::new("GET").key(client.keyspace("cache", cache).unwrap().key(key));
    let raw: Vec<u8> = client.call(get).await.unwrap();
    // The line before it is the entry's own.
    let value = raw.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    Codec::inspect(&raw[value..]).unwrap()
}

async fn nothing() -> Result<Product, io::Error> {
    Err(io::Error::other("nobody asks for it"))
}

/// Everything that writes entries, and everything that reads them, in another process.
async fn values_come_back(
    here: &Client,
    there: &Client,
    name: &str,
    l1: bool,
) -> Result<(), Error> {
    let build = |client| match l1 {
        true => products(client, name).l1(L1::entries(100)).build(),
        false => products(client, name).build(),
    };
    let (here, there) = (build(here)?, build(there)?);
    here.set(1_u64, &product(1)).await?;
    here.get_or_load(2_u64, || async { Ok::<_, io::Error>(product(2)) })
        .await?;
    here.write_through(3_u64, || async { Ok::<_, io::Error>(product(3)) })
        .await?;
    let load = |keys: Vec<u64>| async move {
        let even = keys.into_iter().filter(|key| key % 2 == 0);
        Ok::<_, io::Error>(
            even.map(|key| (key, product(key)))
                .collect::<HashMap<_, _>>(),
        )
    };
    for got in here.get_many_or_load([4_u64, 5, 6], load).await {
        got?;
    }
    here.find_or_load(7_u64, || async { Ok::<Option<Product>, io::Error>(None) })
        .await?;
    for round in 0..2 {
        for n in [1_u64, 2, 3, 4, 6] {
            let got = there.get_or_load(n, nothing).await?;
            assert_eq!(&*got, &product(n), "{name}, round {round}");
            assert!(
                got.source().is_hit(),
                "{name}, round {round}: {}",
                got.source()
            );
        }
        for n in [5_u64, 7] {
            let none = there
                .find_or_load(n, || async { nothing().await.map(Some) })
                .await?;
            assert!(none.is_none(), "{name}, round {round}");
        }
        let asked = there.get_many_or_load(1..8_u64, |_| async {
            Err::<HashMap<u64, Product>, _>(nothing().await.unwrap_err())
        });
        for (n, got) in (1..8_u64).zip(asked.await) {
            let expected = (n % 2 == 0 || n <= 3).then(|| product(n));
            assert_eq!(got?.as_deref(), expected.as_ref(), "{name}, {n} of many");
        }
    }
    Ok(())
}

#[derive(Clone, Default)]
struct Shop(Arc<Mutex<HashMap<Vec<u8>, Option<Product>>>>);

impl Sink<Product> for Shop {
    async fn write(&self, batch: Vec<Change<Product>>) -> Result<Vec<Verdict>, SinkError> {
        let count = batch.len();
        let mut rows = self.0.lock();
        rows.extend(
            batch
                .into_iter()
                .map(|change| (change.key().to_vec(), change.into_value())),
        );
        Ok(Verdict::written(count))
    }
}

redkit_testkit::suite! {
    async fn every_codec_gives_values_back(fixture: Fixture) -> Result<(), Error> {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        for (name, codec) in codecs() {
            let (here, there) = (fixture.client.with_codec(codec.clone()), other.with_codec(codec.clone()));
            values_come_back(&here, &there, name, false).await?;
            values_come_back(&here, &there, &format!("{name}-l1"), true).await?;
            let (compression, key) = match stored(&here, name, 1).await {
                StoredForm::Envelope { compression, key, .. } => (compression, key),
                _ => (None, None),
            };
            assert_eq!(key.is_some(), codec.is_encrypting(), "{name}");
            assert_eq!(compression.is_some(), name.contains("zstd") || name.contains("lz4"), "{name}");
        }
        Ok(())
    }

    async fn stale_values_are_served_in_every_codec(fixture: Fixture) -> Result<(), Error> {
        let mut caches = Vec::new();
        for (name, codec) in codecs() {
            let cache = products(&fixture.client.with_codec(codec), name).ttl(Duration::from_millis(20)).build()?;
            cache.set("k", &product(1)).await?;
            caches.push(cache);
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
        for cache in caches {
            let got = cache.get_or_load("k", nothing).await?;
            assert_eq!((&*got, got.source()), (&product(1), Source::Stale));
        }
        Ok(())
    }

    async fn a_codec_is_changed_while_old_entries_are_about(fixture: Fixture) -> Result<(), Error> {
        let plain = || codecs().into_iter().filter(|(_, codec)| !codec.is_encrypting());
        let caches: Vec<_> = plain()
            .map(|(_, codec)| products(&fixture.client.with_codec(codec), "products").build())
            .collect::<Result<_, _>>()?;
        for (n, writer) in (0_u64..).zip(&caches) {
            writer.set(n, &product(n)).await?;
            for reader in &caches {
                assert_eq!(reader.get(n).await?.as_deref(), Some(&product(n)));
            }
        }
        Ok(())
    }

    async fn keys_are_rotated_and_unreadable_values_are_loaded_anew(fixture: Fixture) -> Result<(), Error> {
        let cache = |ring: KeyRing| {
            let codec = Codec::json().encrypt(ring);
            products(&fixture.client.with_codec(codec), "products").build()
        };
        let before = cache(KeyRing::new(1, key(1)))?;
        let during = cache(KeyRing::new(2, key(2)).with_older(1, key(1)).unwrap())?;
        let after = cache(KeyRing::new(2, key(2)))?;
        let wrong = cache(KeyRing::new(1, key(9)))?;
        before.set("k", &product(1)).await?;
        assert_eq!(during.get_or_load("k", nothing).await?.source(), Source::Redis);
        for unable in [&after, &wrong] {
            let error = unable.get("k").await.unwrap_err();
            assert!(matches!(&error, Error::Core(redkit_core::Error::Decode { .. })), "{error}");
            assert!(!error.to_string().contains("teapot"), "{error}");
        }
        let got = after.get_or_load("k", || async { Ok::<_, io::Error>(product(2)) }).await?;
        assert_eq!((&*got, got.source()), (&product(2), Source::Loaded), "an unknown key is a miss");
        assert_eq!(after.stats().decode_failures, 2);
        for able in [&during, &after] {
            assert_eq!(able.get_or_load("k", nothing).await?.source(), Source::Redis, "it was replaced");
        }
        // What is not encrypted may be forged.
        let plain = products(&fixture.client, "products").build()?;
        plain.set("k", &product(3)).await?;
        after.get("k").await.unwrap_err();
        let got = after.get_or_load("k", || async { Ok::<_, io::Error>(product(4)) }).await?;
        assert_eq!(*got, product(4));
        // An entry that is moved to another key is not that key's.
        let entries = fixture.client.keyspace("cache", "products")?;
        let raw: Vec<u8> = fixture.client.call(Command::new("GET").key(entries.key("k"))).await?;
        fixture.client.call::<()>(Command::new("SET").key(entries.key("other")).arg(raw).arg("PX").arg(60_000)).await?;
        after.get("other").await.unwrap_err();
        Ok(())
    }

    async fn a_queue_keeps_changes_in_every_codec(fixture: Fixture) -> Result<(), Error> {
        for (name, codec) in codecs() {
            let client = fixture.client.with_codec(codec);
            let open = || WriteBehind::<Product>::builder(&client, name).partitions(1).max_age(Duration::ZERO).open();
            let (stock, shop) = (open().await?, Shop::default());
            stock.put("a", &product(1)).await?;
            stock.put("b", &product(2)).await?;
            stock.delete("b").await?;
            let Some(Current::Pending(pending)) = open().await?.pending("a").await? else { panic!("{name}") };
            assert_eq!(pending, product(1), "{name}");
            let worker = stock.start(shop.clone());
            stock.flush(LONG).await?;
            worker.shutdown(LONG).await?;
            let rows = shop.0.lock().clone();
            let expected = HashMap::from([(b"a".to_vec(), Some(product(1))), (b"b".to_vec(), None)]);
            assert_eq!(rows, expected, "{name}");
        }
        Ok(())
    }

    async fn a_queue_outlives_the_rotation_of_a_key(fixture: Fixture) -> Result<(), Error> {
        let open = |ring: KeyRing| {
            let client = fixture.client.with_codec(Codec::message_pack().encrypt(ring));
            WriteBehind::<Product>::builder(&client, "stock").partitions(1).max_age(Duration::ZERO).open()
        };
        open(KeyRing::new(1, key(1))).await?.put("a", &product(1)).await?;
        let error = open(KeyRing::new(2, key(2))).await?.pending("a").await.unwrap_err();
        assert!(matches!(&error, Error::Core(redkit_core::Error::Decode { .. })), "{error}");
        let during = open(KeyRing::new(2, key(2)).with_older(1, key(1)).unwrap()).await?;
        let shop = Shop::default();
        let worker = during.start(shop.clone());
        during.flush(LONG).await?;
        worker.shutdown(LONG).await?;
        assert_eq!(shop.0.lock().get(&b"a"[..]), Some(&Some(product(1))));
        Ok(())
    }
}
