//! [`ErrorCodec`]: a loader's errors on their way to callers that wait in other processes.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use redkit_core::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::LoadError;

/// A longer error is not sent: a message goes to every process.
const MAX_BYTES: usize = 16 * 1024;

type Encode = dyn Fn(&LoadError, &Codec, &[u8]) -> Option<Bytes> + Send + Sync;
type Decode = dyn Fn(Bytes, &Codec, &[u8]) -> Option<LoadError> + Send + Sync;

/// How errors of one type become bytes and come back, by the client's codec.
#[derive(Clone)]
pub(crate) struct ErrorCodec {
    encode: Arc<Encode>,
    decode: Arc<Decode>,
}

impl ErrorCodec {
    pub(crate) fn of<E>() -> Self
    where
        E: StdError + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        Self {
            encode: Arc::new(|error, codec, key| {
                let raw = codec.encode(key, error.downcast_ref::<E>()?).ok()?;
                (raw.len() <= MAX_BYTES).then_some(raw)
            }),
            decode: Arc::new(|raw, codec, key| {
                let error: E = codec.decode(key, raw).ok()?;
                Some(LoadError::new(Box::new(error)))
            }),
        }
    }

    /// Empty when it is of another type, or too long.
    pub(crate) fn encode(&self, error: &LoadError, codec: &Codec, key: &[u8]) -> Bytes {
        (self.encode)(error, codec, key).unwrap_or_default()
    }

    pub(crate) fn decode(&self, raw: Bytes, codec: &Codec, key: &[u8]) -> Option<LoadError> {
        (self.decode)(raw, codec, key)
    }
}
