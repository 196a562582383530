//! Reading values.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::expiry::{Expiry, wrong};
use super::key::ToKey;
use crate::client::Client;
use crate::command::Command;
use crate::error::Error;
use crate::keys::Key;

/// Reading one value. Each is one round trip, O(1), to the node that has the key.
impl Client {
    /// The value at `key`, or `None` when there is no such key. A stored `null` is not that: it is
    /// a value, which an `Option<…>` or `()` takes.
    ///
    /// ```
    /// # use redkit_core::{Client, ClientConfig};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
    /// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
    /// # let client = Client::from_backend(engine, &ClientConfig::default())?;
    /// client.set("greeting", "hello").await?;
    /// assert_eq!(client.get::<String>("greeting").await?.as_deref(), Some("hello"));
    /// assert_eq!(client.get::<String>("no such key").await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Decode`] when what is stored is not a `T`, with key, type and the bytes;
    /// [`Error::Call`] when the key holds a list or the like, and when there is no answer.
    pub async fn get<T: DeserializeOwned>(&self, key: impl ToKey) -> Result<Option<T>, Error> {
        Ok(self.get_stored(key).await?.map(Stored::into_value))
    }

    /// The value at `key` with the bytes that stand for it, to
    /// [replace it only if it is still the same](Client::compare_and_set).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_stored<T: DeserializeOwned>(
        &self,
        key: impl ToKey,
    ) -> Result<Option<Stored<T>>, Error> {
        let key = key.to_key(self);
        // What it is compared with lies at the master.
        let get = Command::new("GET").key(&key).from_master();
        let raw: Option<Bytes> = self.call(get).await?;
        let Some(raw) = raw else {
            return Ok(None);
        };
        let value = self.codec().decode(key.as_bytes(), raw.clone())?;
        Ok(Some(Stored { value, key, raw }))
    }

    /// The bytes at `key`, as [`set_bytes`](Client::set_bytes) was given them. With a codec that
    /// neither compresses nor encrypts that is what is stored, whatever it is, unless it is an
    /// envelope: one of bytes is opened, another is an error. To switch compression or encryption
    /// on while bytes are stored, see [`Codec::accept_plain`](crate::Codec::accept_plain).
    ///
    /// # Errors
    /// [`Error::Decode`] for what was not stored as bytes, [`Error::Call`] as [`get`](Self::get).
    pub async fn get_bytes(&self, key: impl ToKey) -> Result<Option<Bytes>, Error> {
        let key = key.to_key(self);
        let raw: Option<Bytes> = self.call(Command::new("GET").key(&key)).await?;
        raw.map(|raw| self.codec().decode_bytes(key.as_bytes(), raw))
            .transpose()
    }

    /// [`get_bytes`](Self::get_bytes) as text.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes), and [`Error::Decode`] for bytes that are not UTF-8.
    pub async fn get_text(&self, key: impl ToKey) -> Result<Option<String>, Error> {
        let key = key.to_key(self);
        let raw: Option<Bytes> = self.call(Command::new("GET").key(&key)).await?;
        let Some(raw) = raw else {
            return Ok(None);
        };
        let bytes = self.codec().decode_bytes(key.as_bytes(), raw.clone())?;
        match String::from_utf8(bytes.into()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::Decode {
                key: key.to_string().into(),
                type_name: "text",
                raw,
                error: std::sync::Arc::new(NotText),
            }),
        }
    }

    /// Takes the value away: what two callers at once take is given to one of them. **When the answer
    /// is lost, so is the value**: the server has deleted it, and its answer reached no client. What must not be
    /// lost is read with [`get_stored`](Self::get_stored) and deleted when it has been dealt with
    /// ([`compare_and_delete`](Self::compare_and_delete)).
    ///
    /// # Errors
    /// As [`get`](Self::get); the key is gone also when what it held was not a `T`, which the error
    /// then carries.
    pub async fn get_delete<T: DeserializeOwned>(
        &self,
        key: impl ToKey,
    ) -> Result<Option<T>, Error> {
        let key = key.to_key(self);
        let raw: Option<Bytes> = self.call(Command::new("GETDEL").key(&key)).await?;
        raw.map(|raw| self.codec().decode(key.as_bytes(), raw))
            .transpose()
    }

    /// The value, whose time to live is set in the same step, if it is there.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::Call`] before anything is sent for [`Expiry::Keep`] (that
    /// is [`get`](Self::get)) and a time of zero.
    pub async fn get_expire<T: DeserializeOwned>(
        &self,
        key: impl ToKey,
        expiry: Expiry,
    ) -> Result<Option<T>, Error> {
        if expiry == Expiry::Keep {
            return Err(wrong("GETEX", "there is nothing to change; use `get`"));
        }
        let key = key.to_key(self);
        let command = expiry.add_to(Command::new("GETEX").key(&key), "GETEX")?;
        self.get_by(key, command).await
    }

    /// The value, which from now on does not expire.
    ///
    /// # Errors
    /// As [`get`](Self::get); it is not sent twice, because the second could hit a newer value.
    pub async fn get_persist<T: DeserializeOwned>(
        &self,
        key: impl ToKey,
    ) -> Result<Option<T>, Error> {
        let key = key.to_key(self);
        let command = Command::new("GETEX").key(&key).arg("PERSIST");
        self.get_by(key, command).await
    }

    async fn get_by<T: DeserializeOwned>(
        &self,
        key: Key,
        command: Command,
    ) -> Result<Option<T>, Error> {
        let raw: Option<Bytes> = self.call(command).await?;
        raw.map(|raw| self.codec().decode(key.as_bytes(), raw))
            .transpose()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not UTF-8")]
struct NotText;

/// A value together with what stands for it at the server.
#[derive(Clone)]
pub struct Stored<T> {
    value: T,
    key: Key,
    raw: Bytes,
}

impl<T> Stored<T> {
    /// The value.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The value, and what remains to compare with.
    pub(super) fn split(self) -> (T, Stored<()>) {
        let rest = Stored {
            value: (),
            key: self.key,
            raw: self.raw,
        };
        (self.value, rest)
    }

    /// Where it is stored.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The bytes, as they are stored.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
}

impl<T> Deref for Stored<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Shows the key only: values do not belong in logs.
impl<T> fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
