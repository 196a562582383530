//! Writes that depend on what is stored, by scripts: no `WATCH`, no connection of one's own.

use std::fmt;
use std::future::{IntoFuture, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::Expiry;
use super::get::Stored;
use super::key::ToKey;
use crate::client::Client;
use crate::codec::{Codec, StoredForm};
use crate::command::Command;
use crate::error::Error;
use crate::keys::Key;
use crate::script::{Invocation, Script};

static COMPARE_AND_SET: Script = Script::new(include_str!("../scripts/compare_and_set.lua"));
static COMPARE_AND_DELETE: Script = Script::new(include_str!("../scripts/compare_and_delete.lua"));

/// Writes that depend on what is stored. What is compared are the stored *bytes*: a value that was
/// taken away and written again with the same content counts as the same, unless the codec
/// encrypts. Each is one round trip, with the old value in it, O(its size).
impl Client {
    /// Writes a value in place of the one that was read, if that is still there; gives whether it
    /// was written. The key expires when it did before, unless an option says otherwise.
    ///
    /// ```
    /// # use redkit_core::{Client, ClientConfig};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
    /// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
    /// # let client = Client::from_backend(engine, &ClientConfig::default())?;
    /// client.set("state", "new").await?;
    /// let state = client.get_stored::<String>("state").await?.ok_or("gone").unwrap();
    /// assert!(client.compare_and_set(&state, "paid").await?);
    /// assert!(!client.compare_and_set(&state, "cancelled").await?, "it is paid by now");
    /// # Ok(()) }
    /// ```
    ///
    /// To write where nothing is, use [`set`](Client::set) with [`if_absent`](crate::Write::if_absent).
    ///
    /// # Errors
    /// On `.await`: [`Error::Encode`], [`Error::Call`]. It is never sent twice when it may have been
    /// carried out, because the second answer would be wrong.
    pub fn compare_and_set<T, U: Serialize + ?Sized>(
        &self,
        expected: &Stored<T>,
        value: &U,
    ) -> Swap<'_> {
        let payload = self.codec().encode(expected.key().as_bytes(), value);
        self.swap(expected.key().clone(), expected.raw().clone(), payload)
    }

    /// Deletes the value that was read, if it is still there; gives whether it was.
    ///
    /// # Errors
    /// [`Error::Call`], as [`compare_and_set`](Self::compare_and_set).
    pub async fn compare_and_delete<T>(&self, expected: &Stored<T>) -> Result<bool, Error> {
        let keys = [expected.key()];
        self.eval(COMPARE_AND_DELETE.invoke(keys).arg(expected.raw().clone()))
            .await
    }

    /// Whether what is stored has the format and the encryption that this client's codec gives to
    /// what it writes now; otherwise writes it so, if it is unchanged by then. The time to live
    /// stays. For going through old values after a key was rotated.
    ///
    /// Only for keys of values; for bytes and text see [`renew_bytes`](Self::renew_bytes). The value
    /// stays what it is, fields that `T` does not know included, unless its format
    /// changes. Two round trips when it is written, otherwise one.
    ///
    /// # Errors
    /// As [`get`](Client::get).
    pub async fn renew<T: DeserializeOwned + Serialize>(
        &self,
        key: impl ToKey,
    ) -> Result<ReencodeOutcome, Error> {
        match self.get_stored::<T>(key).await? {
            None => Ok(ReencodeOutcome::Absent),
            Some(stored) => self.renew_stored(&stored).await,
        }
    }

    /// [`renew`](Self::renew) for [bytes and text](Client::set_bytes): puts them into the envelope that
    /// this client's codec gives to bytes now, or takes them out of one. For bytes that have none yet
    /// the codec must [accept plain](Codec::accept_plain) ones.
    ///
    /// Only for keys of bytes, as [`renew`](Self::renew) is only for keys of values: text such as
    /// `123` that has no envelope is JSON too, and nothing tells which was meant.
    ///
    /// # Errors
    /// As [`get_bytes`](Client::get_bytes).
    pub async fn renew_bytes(&self, key: impl ToKey) -> Result<ReencodeOutcome, Error> {
        let key = key.to_key(self);
        let raw: Option<Bytes> = self
            .call(Command::new("GET").key(&key).from_master())
            .await?;
        let Some(raw) = raw else {
            return Ok(ReencodeOutcome::Absent);
        };
        let bytes = self.codec().decode_bytes(key.as_bytes(), raw.clone())?;
        if self.codec().is_current_bytes(&raw) {
            return Ok(ReencodeOutcome::Current);
        }
        let payload = self.codec().encode_bytes(key.as_bytes(), bytes);
        Ok(match self.swap(key, raw, payload).await? {
            true => ReencodeOutcome::Renewed,
            false => ReencodeOutcome::Overtaken,
        })
    }

    /// The value at `key`, which is [renewed](Self::renew) when it is not current. When that fails
    /// the value is given all the same: the next reader will try again.
    ///
    /// # Errors
    /// As [`get`](Client::get).
    pub async fn get_renewing<T: DeserializeOwned + Serialize>(
        &self,
        key: impl ToKey,
    ) -> Result<Option<T>, Error> {
        let Some(stored) = self.get_stored::<T>(key).await? else {
            return Ok(None);
        };
        if let Err(error) = self.renew_stored(&stored).await {
            tracing::debug!(target: "redkit::client", %error, "a value could not be renewed");
        }
        Ok(Some(stored.into_value()))
    }

    async fn renew_stored<T: Serialize>(
        &self,
        stored: &Stored<T>,
    ) -> Result<ReencodeOutcome, Error> {
        let (codec, key) = (self.codec(), stored.key().as_bytes());
        if codec.is_current(stored.raw()) {
            return Ok(ReencodeOutcome::Current);
        }
        let format = match Codec::inspect(stored.raw()) {
            Ok(StoredForm::Envelope { format, .. }) => format,
            _ => crate::codec::Format::Json,
        };
        let payload = match format == codec.format() {
            true => codec.rewrap(key, stored.raw()),
            false => codec.encode(key, &**stored),
        };
        let swap = self.swap(stored.key().clone(), stored.raw().clone(), payload);
        Ok(match swap.await? {
            true => ReencodeOutcome::Renewed,
            false => ReencodeOutcome::Overtaken,
        })
    }

    fn swap(&self, key: Key, expected: Bytes, payload: Result<Bytes, Error>) -> Swap<'_> {
        Swap {
            client: self,
            key,
            expected,
            payload,
            expiry: Some(Expiry::Keep),
        }
    }
}

/// What became of a [`Client::renew`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReencodeOutcome {
    /// There is no such key.
    Absent,
    /// There was nothing to do.
    Current,
    /// It was written anew.
    Renewed,
    /// Somebody else wrote or deleted it meanwhile; it was left alone.
    Overtaken,
}

/// A conditional write that is made by `.await`, which gives whether it was: see
/// [`Client::compare_and_set`].
#[must_use = "nothing is written before `.await`"]
pub struct Swap<'c> {
    client: &'c Client,
    key: Key,
    expected: Bytes,
    payload: Result<Bytes, Error>,
    expiry: Option<Expiry>,
}

impl<'c> Swap<'c> {
    /// The key expires after this time.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.expiry(Some(Expiry::In(ttl)))
    }

    /// The key expires at this time.
    pub fn expires_at(self, time: SystemTime) -> Self {
        self.expiry(Some(Expiry::At(time)))
    }

    /// The expiry by value; `None` for a key that does not expire.
    pub fn expiry(mut self, expiry: Option<Expiry>) -> Self {
        self.expiry = expiry;
        self
    }

    fn invocation(self) -> Result<Invocation, Error> {
        let (word, number) = match self.expiry {
            Some(expiry) => expiry.words("SET")?,
            None => ("NONE", None),
        };
        let invocation = COMPARE_AND_SET
            .invoke([&self.key])
            .arg(self.expected)
            .arg(self.payload?)
            .arg(word);
        Ok(match number {
            Some(number) => invocation.arg(number),
            None => invocation.arg(""),
        })
    }
}

impl<'c> IntoFuture for Swap<'c> {
    type Output = Result<bool, Error>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let client = self.client;
        match self.invocation() {
            Ok(invocation) => async move { client.eval(invocation).await }.boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

impl fmt::Debug for Swap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swap")
            .field("key", &self.key)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}
