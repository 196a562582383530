//! Compression, and decompression that cannot be made to fill the memory.

use super::error::CodecError;

/// How large values are made smaller. Made by [`Compression::zstd`] and [`Compression::lz4`].
///
/// A value that is not smaller afterwards is stored as it is. Under encryption, values are
/// compressed first: their length tells something about their content. Do not compress a secret
/// together with what a stranger chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    pub(super) algorithm: CompressionAlgorithm,
    pub(super) above: usize,
    #[cfg(feature = "zstd")]
    level: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
/// How a stored value was compressed.
#[non_exhaustive]
pub enum CompressionAlgorithm {
    /// Zstandard.
    Zstd,
    /// LZ4, in its block format.
    Lz4,
}

/// From which size on compressing is tried.
#[cfg(any(feature = "zstd", feature = "lz4"))]
const ABOVE: usize = 1024;

impl Compression {
    /// Zstandard at level 3, for values above 1 KiB: the better ratio.
    #[cfg(feature = "zstd")]
    pub fn zstd() -> Self {
        Self {
            algorithm: CompressionAlgorithm::Zstd,
            above: ABOVE,
            level: 3,
        }
    }

    /// LZ4, for values above 1 KiB: several times faster, a weaker ratio.
    #[cfg(feature = "lz4")]
    pub fn lz4() -> Self {
        Self {
            algorithm: CompressionAlgorithm::Lz4,
            above: ABOVE,
            #[cfg(feature = "zstd")]
            level: 0,
        }
    }

    /// Only values of more than this many bytes are compressed.
    #[must_use]
    pub fn above(mut self, bytes: usize) -> Self {
        self.above = bytes;
        self
    }

    /// The level of zstd, from 1 (fast) to 22 (small); what lies outside is clamped. LZ4 has none.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.level = level.clamp(1, 22);
        self
    }

    /// The compressed form, preceded by the length; `None` when that is not smaller.
    pub(super) fn compress(self, payload: &[u8]) -> Option<Vec<u8>> {
        let length = u32::try_from(payload.len()).ok()?;
        let compressed = match self.algorithm {
            CompressionAlgorithm::Zstd => self.zstd_compressed(payload)?,
            CompressionAlgorithm::Lz4 => lz4_compressed(payload)?,
        };
        if compressed.len() + LENGTH >= payload.len() {
            return None;
        }
        let mut body = Vec::with_capacity(LENGTH + compressed.len());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(&compressed);
        Some(body)
    }
}

#[cfg(feature = "zstd")]
impl Compression {
    fn zstd_compressed(self, payload: &[u8]) -> Option<Vec<u8>> {
        zstd::bulk::compress(payload, self.level).ok()
    }
}

#[cfg(not(feature = "zstd"))]
impl Compression {
    #[expect(
        clippy::unused_self,
        reason = "there is no such value without the feature"
    )]
    fn zstd_compressed(self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(feature = "zstd")]
fn zstd_expanded(compressed: &[u8], length: usize) -> Result<Vec<u8>, CodecError> {
    let mut payload = Vec::with_capacity(length);
    zstd::bulk::Decompressor::new()
        .and_then(|mut zstd| zstd.decompress_to_buffer(compressed, &mut payload))
        .map_err(|_| NOT_UNPACKED)?;
    Ok(payload)
}

#[cfg(not(feature = "zstd"))]
fn zstd_expanded(_: &[u8], _: usize) -> Result<Vec<u8>, CodecError> {
    Err(CodecError::Feature("zstd"))
}

#[cfg(feature = "lz4")]
fn lz4_compressed(payload: &[u8]) -> Option<Vec<u8>> {
    Some(lz4_flex::block::compress(payload))
}

#[cfg(not(feature = "lz4"))]
fn lz4_compressed(_: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(feature = "lz4")]
fn lz4_expanded(compressed: &[u8], length: usize) -> Result<Vec<u8>, CodecError> {
    // A byte of LZ4 stands for at most 255: a length beyond that is a lie, and gets no memory.
    if length / 255 > compressed.len() {
        return Err(NOT_UNPACKED);
    }
    lz4_flex::block::decompress(compressed, length).map_err(|_| NOT_UNPACKED)
}

#[cfg(not(feature = "lz4"))]
fn lz4_expanded(_: &[u8], _: usize) -> Result<Vec<u8>, CodecError> {
    Err(CodecError::Feature("lz4"))
}

#[cfg(any(feature = "zstd", feature = "lz4"))]
const NOT_UNPACKED: CodecError = CodecError::Damaged("what is compressed does not unpack");

/// The bytes of the length before compressed data.
const LENGTH: usize = 4;

impl CompressionAlgorithm {
    /// Undoes [`Compression::compress`]. The stated length is checked against `limit` before
    /// anything is allocated, and no more than the stated length is ever written.
    pub(super) fn decompress(self, body: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
        let (length, compressed) = body
            .split_first_chunk::<LENGTH>()
            .ok_or(CodecError::Damaged("it ends within the length"))?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > limit {
            return Err(CodecError::TooLarge {
                length: length as u64,
                limit: limit as u64,
            });
        }
        let payload = match self {
            CompressionAlgorithm::Zstd => zstd_expanded(compressed, length)?,
            CompressionAlgorithm::Lz4 => lz4_expanded(compressed, length)?,
        };
        match payload.len() == length {
            true => Ok(payload),
            false => Err(CodecError::Damaged("it is shorter than it says")),
        }
    }
}
