//! Every combination of format, compression and encryption: what was encoded comes back, and what
//! was changed, cut, moved or blown up is an error.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use redkit_core::{
    Codec, CodecError, Compression, EncryptionKey, Error, Format, KeyRing, StoredForm,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    One(i64),
    Pair { left: String, right: Option<u8> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    tags: Vec<String>,
    shape: Shape,
    scores: BTreeMap<String, i32>,
    blob: Vec<u8>,
}

fn record() -> impl Strategy<Value = Record> {
    let shape = prop_oneof![
        Just(Shape::Nothing),
        any::<i64>().prop_map(Shape::One),
        (".{0,20}", any::<Option<u8>>()).prop_map(|(left, right)| Shape::Pair { left, right }),
    ];
    (
        any::<u64>(),
        ".{0,40}",
        proptest::collection::vec("(x{0,300}|[a-z ]{0,20})", 0..8),
        shape,
        proptest::collection::btree_map(".{0,6}", any::<i32>(), 0..6),
        proptest::collection::vec(any::<u8>(), 0..200),
    )
        .prop_map(|(id, name, tags, shape, scores, blob)| Record {
            id,
            name,
            tags,
            shape,
            scores,
            blob,
        })
}

fn ring() -> KeyRing {
    KeyRing::new(2, EncryptionKey::from_bytes([2; 32]))
        .with_older(1, EncryptionKey::from_bytes([1; 32]))
        .unwrap()
}

/// Every combination, compressing from the first byte on.
fn codecs() -> Vec<Codec> {
    let mut codecs = Vec::new();
    for format in [Codec::json(), Codec::message_pack(), Codec::postcard()] {
        for compression in [None, Some(Compression::zstd()), Some(Compression::lz4())] {
            let codec = match compression {
                Some(compression) => format.clone().compress(compression.above(0)),
                None => format.clone(),
            };
            codecs.push(codec.clone().encrypt(ring()));
            codecs.push(codec);
        }
    }
    codecs
}

fn any_codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(codecs())
}

fn has_envelope(raw: &[u8]) -> bool {
    raw.first() == Some(&0xC1)
}

/// The codec's own error, with what must hold of every failure.
fn why(error: &Error, key: &str, raw: &[u8]) -> CodecError {
    let Error::Decode {
        key: named,
        raw: kept,
        error: source,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((&**named, &kept[..]), (key, raw));
    source.downcast_ref::<CodecError>().unwrap().clone()
}

proptest! {
    #[test]
    fn every_combination_gives_back_what_it_was_given(codec in any_codec(), value in record()) {
        let raw = codec.encode(b"ns:k", &value).unwrap();
        prop_assert_eq!(codec.decode::<Record>(b"ns:k", raw.clone()).unwrap(), value.clone());
        prop_assert!(codec.is_current(&raw));
        if codec.is_deterministic() {
            prop_assert_eq!(codec.encode(b"ns:k", &value).unwrap(), raw.clone());
        }
        // Any codec with the same keys reads it, whatever it writes itself.
        let reader = Codec::json().encrypt(ring()).accept_plain();
        prop_assert_eq!(reader.decode::<Record>(b"ns:k", raw).unwrap(), value);
    }

    #[test]
    fn bytes_come_back_as_they_were(
        codec in any_codec(),
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            (any::<u8>(), 0_usize..5000).prop_map(|(byte, length)| vec![byte; length]),
            // What looks like an envelope.
            proptest::collection::vec(any::<u8>(), 0..40)
                .prop_map(|rest| [&[0xC1, 1, 1, 0, 0][..], &rest].concat()),
            // What is one.
            (0_u8..4, 0_u8..3, proptest::collection::vec(any::<u8>(), 0..40))
                .prop_map(|(format, compression, body)| envelope(format, compression, &body).into()),
            any::<Vec<u8>>().prop_map(|rest| [&[0xC1, 1, 0, 0, 1][..], &rest].concat()),
        ],
    ) {
        let raw = codec.encode_bytes(b"k", bytes.clone()).unwrap();
        prop_assert_eq!(codec.decode_bytes(b"k", raw.clone()).unwrap(), bytes);
        // They are no value, and a value is not bytes.
        if has_envelope(&raw) && codec.is_encrypting() {
            let error = codec.decode::<Vec<u8>>(b"k", raw.clone()).unwrap_err();
            let is_kind = matches!(why(&error, "k", &raw), CodecError::Kind { found: Format::Raw, .. });
            prop_assert!(is_kind);
            let value = codec.encode(b"k", &1).unwrap();
            prop_assert!(codec.decode_bytes(b"k", value).is_err());
        }
    }

    #[test]
    fn a_value_that_was_cut_or_changed_is_an_error(
        codec in any_codec(),
        value in record(),
        cut in any::<Index>(),
        place in any::<Index>(),
        bit in 0_u8..8,
    ) {
        let raw = codec.encode(b"k", &value).unwrap();
        let short = raw.slice(..cut.index(raw.len()));
        let error = codec.decode::<Record>(b"k", short.clone()).unwrap_err();
        why(&error, "k", &short);

        let mut flipped = raw.to_vec();
        flipped[place.index(raw.len())] ^= 1 << bit;
        let flipped = Bytes::from(flipped);
        match codec.decode::<Record>(b"k", flipped.clone()) {
            Err(error) => { why(&error, "k", &flipped); }
            // Plain JSON has nothing to find it by.
            Ok(_) => prop_assert!(!has_envelope(&raw), "{codec:?}"),
        }
    }

    #[test]
    fn a_value_that_was_moved_or_sealed_with_another_key_does_not_open(
        codec in any_codec().prop_filter("encrypts", Codec::is_encrypting),
        value in record(),
        (here, there) in ("[a-z:{}]{1,12}", "[a-z:{}]{1,12}").prop_filter("two", |(a, b)| a != b),
    ) {
        let raw = codec.encode(here.as_bytes(), &value).unwrap();
        let error = codec.decode::<Record>(there.as_bytes(), raw.clone()).unwrap_err();
        prop_assert_eq!(why(&error, &there, &raw), CodecError::Sealed { id: 2 });

        let other = Codec::json().encrypt(KeyRing::new(2, EncryptionKey::from_bytes([9; 32])));
        let error = other.decode::<Record>(here.as_bytes(), raw.clone()).unwrap_err();
        prop_assert_eq!(why(&error, &here, &raw), CodecError::Sealed { id: 2 });
    }

    #[test]
    fn arbitrary_bytes_never_panic(codec in any_codec(), bytes in hostile_bytes()) {
        let raw = Bytes::from(bytes);
        let _ = Codec::inspect(&raw);
        let _ = codec.is_current(&raw);
        if let Err(error) = codec.decode::<Record>(b"k", raw.clone()) {
            why(&error, "k", &raw);
        }
        if let Ok(bytes) = codec.decode_bytes(b"k", raw.clone())
            && codec.is_encrypting()
        {
            panic!("{bytes:?} was not sealed by us");
        }
    }
}

fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let header = (0_u8..3, 0_u8..5, 0_u8..4, 0_u8..3);
    let rest = proptest::collection::vec(any::<u8>(), 0..80);
    (any::<bool>(), header, rest).prop_map(|(enveloped, (a, b, c, d), rest)| match enveloped {
        true => [&[0xC1, a, b, c, d][..], &rest].concat(),
        false => rest,
    })
}

/// An envelope, as `docs/keyspace.md` describes it, that is not encrypted.
fn envelope(format: u8, compression: u8, body: &[u8]) -> Bytes {
    let mut bytes = [&[0xC1, 1, format, compression, 0][..], body].concat();
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let sum = crc.checksum(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes.into()
}

#[test]
fn the_envelope_is_the_one_that_is_documented() {
    let raw = Codec::message_pack().encode(b"k", "hi").unwrap();
    assert_eq!(raw, envelope(2, 0, b"\xa2hi"));
    let raw = Codec::postcard().encode(b"k", "hi").unwrap();
    assert_eq!(raw, envelope(3, 0, b"\x02hi"));
    let text = "a".repeat(3000);
    let zstd = Codec::json().compress(Compression::zstd());
    let raw = zstd.encode(b"k", &text).unwrap();
    assert_eq!(raw[..9], [0xC1, 1, 1, 1, 0, 0, 0, 0x0B, 0xBA]);
    // What is small, or does not become smaller, stays plain.
    assert_eq!(zstd.encode(b"k", "short").unwrap(), "\"short\"");
    let sealed = Codec::json().encrypt(ring()).encode(b"k", "hi").unwrap();
    assert_eq!(sealed[..9], [0xC1, 1, 1, 0, 1, 0, 0, 0, 2]);
    assert_eq!(sealed.len(), 9 + 24 + 4 + 16);
    let StoredForm::Envelope { format, key, .. } = Codec::inspect(&sealed).unwrap() else {
        panic!("an envelope");
    };
    assert_eq!((format, key), (Format::Json, Some(2)));
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let limit = 1000;
    for (number, bomb) in [
        (1, zstd_of_zeros(10_000_000)),
        (2, lz4_flex::block::compress(&vec![0; 10_000_000])),
    ] {
        let codec = Codec::json()
            .compress(Compression::zstd())
            .decompression_limit(limit);
        // It says how large it is.
        let honest = envelope(
            0,
            number,
            &[&10_000_000_u32.to_be_bytes()[..], &bomb].concat(),
        );
        let error = codec.decode_bytes(b"k", honest.clone()).unwrap_err();
        let expected = CodecError::TooLarge {
            length: 10_000_000,
            limit: 1000,
        };
        assert_eq!(why(&error, "k", &honest), expected);
        // It lies.
        let lying = envelope(0, number, &[&900_u32.to_be_bytes()[..], &bomb].concat());
        let error = codec.decode_bytes(b"k", lying.clone()).unwrap_err();
        assert!(
            matches!(why(&error, "k", &lying), CodecError::Damaged(_)),
            "{error}"
        );
        // It says more than there is.
        let boasting = envelope(
            0,
            number,
            &[&1000_u32.to_be_bytes()[..], &bomb[..4]].concat(),
        );
        assert!(codec.decode_bytes(b"k", boasting).is_err());
    }
    // What the codec could not read back it does not compress.
    let codec = Codec::json()
        .compress(Compression::lz4())
        .decompression_limit(limit);
    let text = "a".repeat(5000);
    let raw = codec.encode(b"k", &text).unwrap();
    assert_eq!(codec.decode::<String>(b"k", raw).unwrap(), text);
}

fn zstd_of_zeros(length: usize) -> Vec<u8> {
    zstd::bulk::compress(&vec![0; length], 3).unwrap()
}

#[test]
fn the_limits_of_compression_may_be_extreme() {
    let text = "a".repeat(5000);
    let never = Codec::json().compress(Compression::zstd().above(usize::MAX));
    assert_eq!(
        never.encode(b"k", &text).unwrap().len(),
        5002,
        "stored plain"
    );
    let always = Codec::json()
        .compress(Compression::zstd().above(0))
        .decompression_limit(usize::MAX);
    let raw = always.encode(b"k", &text).unwrap();
    assert!(raw.len() < 100);
    assert_eq!(always.decode::<String>(b"k", raw).unwrap(), text);
}

#[test]
fn older_keys_are_read_and_unknown_ones_are_named() {
    let old = Codec::json().encrypt(KeyRing::new(1, EncryptionKey::from_bytes([1; 32])));
    let raw = old.encode(b"k", &7).unwrap();
    let both = Codec::json().encrypt(ring());
    assert_eq!(both.decode::<i32>(b"k", raw.clone()).unwrap(), 7);
    assert!(!both.is_current(&raw), "it is due to be written again");
    assert!(old.is_current(&raw));

    let new = Codec::json().encrypt(KeyRing::new(2, EncryptionKey::from_bytes([2; 32])));
    let error = new.decode::<i32>(b"k", raw.clone()).unwrap_err();
    assert_eq!(why(&error, "k", &raw), CodecError::UnknownKey { id: 1 });
    assert!(error.to_string().contains("key 1"), "{error}");
    let error = Codec::json().decode::<i32>(b"k", raw.clone()).unwrap_err();
    assert_eq!(why(&error, "k", &raw), CodecError::NoKeyRing { id: 1 });
}

#[test]
fn a_codec_that_encrypts_refuses_what_is_not_unless_told_so() {
    let plain = Bytes::from_static(b"7");
    let packed = Codec::message_pack().encode(b"k", &7).unwrap();
    let codec = Codec::json().encrypt(ring());
    for raw in [plain, packed] {
        let error = codec.decode::<i32>(b"k", raw.clone()).unwrap_err();
        assert_eq!(why(&error, "k", &raw), CodecError::NotEncrypted);
        let migrating = codec.clone().accept_plain();
        assert_eq!(migrating.decode::<i32>(b"k", raw.clone()).unwrap(), 7);
        assert!(!migrating.is_current(&raw));
        assert!(codec.decode_bytes(b"k", raw).is_err());
    }
}

#[test]
fn no_failure_quotes_the_data() {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Only {
        #[allow(dead_code, reason = "it is never decoded")]
        This,
    }
    for codec in codecs() {
        let raw = codec.encode(b"k", "hunter2").unwrap();
        let error = codec.decode::<Only>(b"k", raw).unwrap_err();
        let mut text = format!("{error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(below) = source {
            text.push_str(&format!("{below} {below:?}"));
            source = below.source();
        }
        assert!(!text.contains("hunter2"), "{codec:?}: {text}");
    }
}

#[test]
fn a_value_that_nests_without_end_is_an_error() {
    #[derive(Debug, Deserialize)]
    struct Nest {
        #[allow(dead_code, reason = "only its depth matters")]
        inner: Vec<Nest>,
    }
    let deep = envelope(2, 0, &[0x91; 200_000]);
    assert!(Codec::json().decode::<Nest>(b"k", deep).is_err());
    let deep = Bytes::from(vec![b'['; 200_000]);
    assert!(Codec::json().decode::<Vec<Nest>>(b"k", deep).is_err());
}
