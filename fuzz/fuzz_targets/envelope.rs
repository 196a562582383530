//! Envelopes whose header and checksum are right, so that what stands behind them is reached:
//! decompression, and the formats.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use redkit_core::{Codec, StoredForm};
use redkit_fuzz::{CODECS, decode_all};

fuzz_target!(|data: &[u8]| {
    let [choice, body @ ..] = data else { return };
    let (format, compression) = (choice & 3, (choice >> 2) % 3);
    let mut bytes = [&[0xC1, 1, format, compression, 0], body].concat();
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let sum = crc.checksum(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    let raw = Bytes::from(bytes);
    assert!(matches!(
        Codec::inspect(&raw),
        Ok(StoredForm::Envelope { .. })
    ));
    let [plain, _, _] = &*CODECS;
    decode_all(plain, &raw);
    if let Ok(bytes) = plain.decode_bytes(b"name", raw) {
        assert!(bytes.len() <= 1 << 20, "the limit holds");
    }
});
