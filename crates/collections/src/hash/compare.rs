//! Changing a field only if no other writer has, by `scripts/compare_and_set.lua`.

use std::borrow::Borrow;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::random::random_range;
use redkit_core::{Error as CoreError, Script, ToArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Hash;
use crate::encoding::{encode, field_name, require_equality};
use crate::error::Error;
use crate::handle::bytes_of;
use crate::lifetime::script_args;

static COMPARE_AND_SET: Script = Script::new(include_str!("../scripts/compare_and_set.lua"));

/// How often [`Hash::update`] tries.
const ATTEMPTS: u32 = 32;

impl<V: Serialize + DeserializeOwned, F> Hash<V, F> {
    /// Sets a field to `new` if it is `expected` (`None`: if it is not there); says whether it was.
    ///
    /// Values are compared as they are encoded. A type that is not always encoded alike, such as
    /// one with a `HashMap` in it, may not be found equal to itself: use
    /// [`update`](Self::update), which compares what it read.
    ///
    /// # Errors
    /// [`Error::NotComparable`] when the client's codec encrypts or compresses: use [`update`](Self::update).
    pub async fn compare_and_set<Q>(
        &self,
        field: impl ToArg,
        expected: Option<&Q>,
        new: &Q,
    ) -> Result<bool, Error>
    where
        V: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.compare(bytes_of(field), expected, Some(new)).await
    }

    /// Removes a field if it is `expected`; says whether it was.
    ///
    /// # Errors
    /// As [`compare_and_set`](Self::compare_and_set).
    pub async fn compare_and_delete<Q>(
        &self,
        field: impl ToArg,
        expected: &Q,
    ) -> Result<bool, Error>
    where
        V: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.compare(bytes_of(field), Some(expected), None).await
    }

    /// Changes a field by a function of what it is; gives what it is then. `None` in means that
    /// it is not there, `None` out removes it. No other change in between is lost: the function
    /// is called again when there was one, so it should have no effects of its own.
    ///
    /// Two round trips when no other writer interferes, two more for each time that one did, with a short wait of random
    /// length in between.
    ///
    /// # Errors
    /// [`Contended`](redkit_core::Error::Contended) after 32 attempts in which another writer did. When
    /// [`is_maybe`](Error::is_maybe) holds the change may have been made.
    pub async fn update(
        &self,
        field: impl ToArg,
        mut change: impl FnMut(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, Error> {
        let field = bytes_of(field);
        let mut places = self.places();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                pause(attempt).await;
            }
            let command = self.handle.command("HGET").arg(&field).from_master();
            let seen: Option<Bytes> = self.handle.call(command).await?;
            let current = seen
                .clone()
                .map(|raw| self.open(&mut places, &field, raw))
                .transpose()?;
            let new = change(current);
            let raw = new
                .as_ref()
                .map(|value| encode(&self.handle.client, places.of(&field), value))
                .transpose()?;
            // Compared as it was stored, so that any codec will do.
            if self.swap(&field, seen, raw).await? {
                return Ok(new);
            }
        }
        Err(Error::Core(CoreError::Contended {
            key: field_name(&self.handle.key, &field),
            attempts: ATTEMPTS,
        }))
    }

    async fn compare<Q: Serialize + ?Sized>(
        &self,
        field: Vec<u8>,
        expected: Option<&Q>,
        new: Option<&Q>,
    ) -> Result<bool, Error> {
        if expected.is_some() {
            require_equality(self.handle.client.codec(), "comparing a field")?;
        }
        let mut places = self.places();
        let mut raw = |value: Option<&Q>| {
            value
                .map(|value| encode(&self.handle.client, places.of(&field), value))
                .transpose()
        };
        let (expected, new) = (raw(expected)?, raw(new)?);
        self.swap(&field, expected, new).await
    }

    async fn swap(
        &self,
        field: &[u8],
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<bool, Error> {
        let (millis, policy) = script_args(self.handle.ttl);
        let call = COMPARE_AND_SET
            .invoke([&self.handle.key])
            .arg(field)
            .arg(u8::from(expected.is_some()))
            .arg(expected.unwrap_or_default())
            .arg(u8::from(new.is_some()))
            .arg(new.unwrap_or_default())
            .arg(millis)
            .arg(policy);
        Ok(self.handle.client.eval(call).await?)
    }
}

/// So that competing writers do not meet again and again: up to 1 ms after the first attempt, up
/// to 16 ms after the fifth and later.
async fn pause(attempt: u32) {
    let most = 1000 << (attempt - 1).min(4);
    let micros = random_range(0..=most);
    tokio::time::sleep(Duration::from_micros(micros)).await;
}
