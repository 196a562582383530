//! Any bytes at all, as a server or who can write to it may give them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use redkit_core::Codec;
use redkit_fuzz::{CODECS, decode_all};

fuzz_target!(|data: &[u8]| {
    let raw = Bytes::copy_from_slice(data);
    let _ = Codec::inspect(&raw);
    let [_, sealed, accepting] = &*CODECS;
    // It reads everything that the others do.
    decode_all(accepting, &raw);
    for codec in &*CODECS {
        let _ = codec.is_current(&raw);
    }
    // A codec that encrypts gives out nothing that it has not sealed.
    assert!(
        sealed
            .decode::<serde_json::Value>(b"name", raw.clone())
            .is_err()
    );
    assert!(sealed.decode_bytes(b"name", raw).is_err());
});
