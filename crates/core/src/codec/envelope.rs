//! The envelope: what stands before the bytes of a value that is not plain JSON.
//!
//! ```text
//! C1  version  format  compression  encryption  body  checksum      not encrypted
//! C1  version  format  compression  encryption  key id  nonce  sealed body      encrypted
//! ```
//!
//! `docs/keyspace.md` describes it byte by byte.

use crc::{CRC_32_ISO_HDLC, Crc, Table};

use super::compression::CompressionAlgorithm;
use super::error::CodecError;
use super::format::Format;

/// No JSON, no UTF-8 text and no MessagePack begins with this byte.
pub(super) const MARK: u8 = 0xC1;
const VERSION: u8 = 1;

/// The length of [`Header::bytes`].
pub(super) const HEADER: usize = 5;
/// The length of a key id.
pub(super) const KEY_ID: usize = 4;
const CHECKSUM: usize = 4;

/// What an envelope says about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) format: Format,
    pub(super) compression: Option<CompressionAlgorithm>,
    pub(super) is_encrypted: bool,
}

impl Header {
    /// As it stands in the envelope.
    pub(super) fn bytes(self) -> [u8; HEADER] {
        let format = match self.format {
            Format::Raw => 0,
            Format::Json => 1,
            Format::MessagePack => 2,
            Format::Postcard => 3,
        };
        let compression = match self.compression {
            None => 0,
            Some(CompressionAlgorithm::Zstd) => 1,
            Some(CompressionAlgorithm::Lz4) => 2,
        };
        [
            MARK,
            VERSION,
            format,
            compression,
            u8::from(self.is_encrypted),
        ]
    }

    fn read(version: u8, format: u8, compression: u8, encryption: u8) -> Result<Self, CodecError> {
        let unknown = |what, number| Err(CodecError::Unknown { what, number });
        if version != VERSION {
            return unknown("version", version);
        }
        Ok(Self {
            format: match format {
                0 => Format::Raw,
                1 => Format::Json,
                2 => Format::MessagePack,
                3 => Format::Postcard,
                other => return unknown("format", other),
            },
            compression: match compression {
                0 => None,
                1 => Some(CompressionAlgorithm::Zstd),
                2 => Some(CompressionAlgorithm::Lz4),
                other => return unknown("compression", other),
            },
            is_encrypted: match encryption {
                0 => false,
                1 => true,
                other => return unknown("encryption", other),
            },
        })
    }
}

/// An envelope whose header is read and whose checksum, if it has one, is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Envelope<'b> {
    /// Not encrypted.
    Open { header: Header, body: &'b [u8] },
    /// Encrypted with this key; `sealed` begins with the nonce.
    Sealed {
        header: Header,
        key: u32,
        sealed: &'b [u8],
    },
}

impl<'b> Envelope<'b> {
    /// Reads an envelope; `None` for bytes that are none.
    pub(super) fn read(bytes: &'b [u8]) -> Result<Option<Self>, CodecError> {
        let Some((&MARK, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let Some((&[version, format, compression, encryption], rest)) = rest.split_first_chunk()
        else {
            return Err(CodecError::Damaged("it ends within the header"));
        };
        let header = Header::read(version, format, compression, encryption)?;
        if header.is_encrypted {
            let (key, sealed) = rest
                .split_first_chunk::<KEY_ID>()
                .ok_or(CodecError::Damaged("it ends within the key's id"))?;
            return Ok(Some(Self::Sealed {
                header,
                key: u32::from_be_bytes(*key),
                sealed,
            }));
        }
        let (body, sum) = rest
            .split_last_chunk::<CHECKSUM>()
            .ok_or(CodecError::Damaged("it ends within the checksum"))?;
        let summed = bytes.get(..bytes.len() - CHECKSUM).unwrap_or_default();
        if checksum(summed) != u32::from_be_bytes(*sum) {
            return Err(CodecError::Damaged("its checksum is wrong"));
        }
        Ok(Some(Self::Open { header, body }))
    }

    pub(super) fn header(&self) -> Header {
        match self {
            Envelope::Open { header, .. } | Envelope::Sealed { header, .. } => *header,
        }
    }
}

/// An envelope that is not encrypted.
pub(super) fn write_open(header: Header, body: &[u8]) -> Vec<u8> {
    let mut envelope = Vec::with_capacity(HEADER + body.len() + CHECKSUM);
    envelope.extend_from_slice(&header.bytes());
    envelope.extend_from_slice(body);
    let sum = checksum(&envelope);
    envelope.extend_from_slice(&sum.to_be_bytes());
    envelope
}

fn checksum(bytes: &[u8]) -> u32 {
    static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);
    CRC.checksum(bytes)
}
