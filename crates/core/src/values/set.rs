//! Writing one value: [`Client::set`] and its options.

use std::fmt;
use std::future::{IntoFuture, ready};
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::Expiry;
use super::key::ToKey;
use super::reply::{converted, decoded};
use super::set_options::SetOptions;
use crate::client::Client;
use crate::codec::Codec;
use crate::command::Command;
use crate::error::Error;
use crate::keys::Key;
use crate::value::Value;

/// Writing one value: one round trip, O(1), to the node that has the key.
impl Client {
    /// Writes a value; options follow, then `.await`.
    ///
    /// ```
    /// # use redkit_core::{Client, ClientConfig};
    /// use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
    /// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
    /// # let client = Client::from_backend(engine, &ClientConfig::default())?;
    /// client.set("visits", &1).await?;
    /// client.set("token", "abc").ttl(Duration::from_secs(60)).await?;
    /// let is_first: bool = client.set("leader", "me").if_absent().await?;
    /// let before: Option<i32> = client.set("visits", &2).keep_ttl().returning().await?;
    /// assert_eq!((is_first, before), (true, Some(1)));
    /// # Ok(()) }
    /// ```
    ///
    /// While the server cannot be reached it waits until the call's deadline. Whether a write that
    /// got no answer was carried out is not known; it is not sent again unless it is
    /// [`repeatable`](Write::repeatable).
    ///
    /// # Errors
    /// On `.await`: [`Error::Encode`] when the value cannot be encoded, [`Error::Call`] for a time
    /// that cannot be (before anything is sent) and when there is no answer.
    pub fn set<T: Serialize + ?Sized>(&self, key: impl ToKey, value: &T) -> Write<'_> {
        let key = key.to_key(self);
        let payload = self.codec().encode(key.as_bytes(), value);
        Write::new(self, key, payload)
    }

    /// Writes bytes as they are: plain, unless the codec compresses or encrypts. Options as with
    /// [`set`](Self::set).
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_bytes(&self, key: impl ToKey, bytes: impl Into<Bytes>) -> Write<'_> {
        let key = key.to_key(self);
        let payload = self.codec().encode_bytes(key.as_bytes(), bytes);
        Write::new(self, key, payload)
    }

    /// [`set_bytes`](Self::set_bytes) for text.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_text(&self, key: impl ToKey, text: &str) -> Write<'_> {
        self.set_bytes(key, Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// A write that is made by `.await`: see [`Client::set`]. What it gives depends on its options.
#[must_use = "nothing is written before `.await`"]
pub struct Write<'c, M = Unconditional> {
    client: &'c Client,
    key: Key,
    payload: Result<Bytes, Error>,
    options: SetOptions,
    mode: PhantomData<fn() -> M>,
}

/// What a [`Write`] gives.
pub trait WriteMode: sealed::Mode {}

impl<M: sealed::Mode> WriteMode for M {}

/// Written always: gives `()`.
#[derive(Debug)]
pub enum Unconditional {}
/// Written under a condition: gives whether it was.
#[derive(Debug)]
pub enum Conditional {}
/// Gives the value from before, as a `T`. Under [`if_absent`](Write::if_absent) there being one means
/// that nothing was written; under [`if_present`](Write::if_present) there being none does.
#[derive(Debug)]
pub struct Previous<T>(PhantomData<fn() -> T>);

mod sealed {
    use super::{Codec, Error, Value};

    pub trait Mode: 'static {
        /// What `.await` gives.
        type Output: Send;
        /// Whether the reply is the value from before.
        const RETURNS: bool;
        fn read(codec: &Codec, key: &[u8], reply: Value) -> Result<Self::Output, Error>;
    }
}

impl sealed::Mode for Unconditional {
    type Output = ();
    const RETURNS: bool = false;

    fn read(_: &Codec, _: &[u8], reply: Value) -> Result<(), Error> {
        converted("SET", reply)
    }
}

impl sealed::Mode for Conditional {
    type Output = bool;
    const RETURNS: bool = false;

    fn read(_: &Codec, _: &[u8], reply: Value) -> Result<bool, Error> {
        converted("SET", reply)
    }
}

impl<T: DeserializeOwned + Send + 'static> sealed::Mode for Previous<T> {
    type Output = Option<T>;
    const RETURNS: bool = true;

    fn read(codec: &Codec, key: &[u8], reply: Value) -> Result<Option<T>, Error> {
        decoded(codec, "SET", key, reply)
    }
}

impl<'c> Write<'c> {
    fn new(client: &'c Client, key: Key, payload: Result<Bytes, Error>) -> Self {
        Self {
            client,
            key,
            payload,
            options: SetOptions::new(),
            mode: PhantomData,
        }
    }

    /// Only if there is no such key (`NX`); gives whether it was written.
    pub fn if_absent(self) -> Write<'c, Conditional> {
        self.with(SetOptions::if_absent)
    }

    /// Only if there is such a key (`XX`); gives whether it was written.
    pub fn if_present(self) -> Write<'c, Conditional> {
        self.with(SetOptions::if_present)
    }

    /// The write may be sent again when it got no answer and may have been carried out: see
    /// [`SetOptions::repeatable`].
    pub fn repeatable(self) -> Self {
        self.with(SetOptions::repeatable)
    }
}

impl<'c, M> Write<'c, M> {
    /// The key expires after this time (`PX`).
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with(|options| options.ttl(ttl))
    }

    /// The key expires at this time (`PXAT`).
    pub fn expires_at(self, time: SystemTime) -> Self {
        self.with(|options| options.expires_at(time))
    }

    /// The key expires when it did before (`KEEPTTL`). Without this a write takes the expiry away.
    pub fn keep_ttl(self) -> Self {
        self.with(SetOptions::keep_ttl)
    }

    /// The expiry by value.
    pub fn expiry(self, expiry: Expiry) -> Self {
        self.with(|options| options.expiry(expiry))
    }

    /// Gives the value from before (`GET`). When that is not a `T`, `.await` is an error that
    /// carries it, and the write *has* been made.
    pub fn returning<T: DeserializeOwned + Send + 'static>(self) -> Write<'c, Previous<T>> {
        self.with(|options| options)
    }

    fn with<N>(self, change: impl FnOnce(SetOptions) -> SetOptions) -> Write<'c, N> {
        Write {
            client: self.client,
            key: self.key,
            payload: self.payload,
            options: change(self.options),
            mode: PhantomData,
        }
    }
}

impl<'c, M: WriteMode> IntoFuture for Write<'c, M> {
    type Output = Result<M::Output, Error>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let command = self
            .payload
            .and_then(|payload| set_command(&self.key, payload, self.options));
        let command = match command {
            Ok(command) if M::RETURNS => command.arg("GET").idempotent(false),
            Ok(command) => command,
            Err(error) => return ready(Err(error)).boxed(),
        };
        let (client, key) = (self.client, self.key);
        async move {
            let reply = client.call(command).await?;
            M::read(client.codec(), key.as_bytes(), reply)
        }
        .boxed()
    }
}

/// Shows the key and the options.
impl<M> fmt::Debug for Write<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("key", &self.key)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// `SET key payload` with its options.
pub(super) fn set_command(
    key: &Key,
    payload: Bytes,
    options: SetOptions,
) -> Result<Command, Error> {
    let room = key.as_bytes().len() + payload.len().min(16 * 1024) + 32;
    let command = Command::with_capacity("SET", room).key(key).arg(payload);
    options.add_to(command)
}
